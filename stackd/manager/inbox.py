"""What waits for the writer loop, and how much of it is decided together.

A batch is bounded by its encoded size as well as by its number: what clients stage and nodes report goes into the entry as
it is, and an entry has a limit. Whoever waits for an answer gets exactly one, replies or an error.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.engine.inputs import (
    FullPass,
    Input,
    RegisterNode,
    Reply,
    ReportManagers,
    ReportNode,
    ReportSource,
    ReportTasks,
    Wake,
)

INBOX_LIMIT = 10_000
"""Waiting at once; beyond that a submitter is told to come back, so that a flood can't eat the memory."""

BATCH_LIMIT = 400
"""Decided together: bounds how long one decision holds the loop."""

BATCH_BYTES = 300 * 1024
"""Encoded inputs decided together: leaves room in an entry (1 MiB) for what the engine decides on them. What is larger by
itself is decided alone."""

_OBSERVATIONS = (ReportTasks, ReportNode, RegisterNode, ReportManagers, ReportSource, Wake, FullPass)


@dataclass(slots=True)
class Pending:
    """Inputs that belong together (they are decided in one step, in order) and who waits for their replies."""

    inputs: tuple[Input, ...]
    answer: asyncio.Future[tuple[Reply, ...]] | None = None
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(len(encode(one)) for one in self.inputs)

    @property
    def is_observation(self) -> bool:
        """Whether this says what is so, and not what somebody wants: it stays true when it could not be stored."""
        return all(isinstance(one, _OBSERVATIONS) for one in self.inputs)

    def reply(self, replies: Sequence[Reply]) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(tuple(replies))

    def fail(self, error: StackdError) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)


class Inbox:
    """Pending inputs in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[Pending] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= INBOX_LIMIT

    def put(self, pending: Pending) -> None:
        self._waiting.append(pending)
        self._arrived.set()

    def put_back(self, pendings: Sequence[Pending]) -> None:
        """Put these before all others, in their order."""
        self._waiting.extendleft(reversed(pendings))
        self._arrived.set()

    async def wait(self, seconds: float | None) -> None:
        """Return once something is there, or when the time is over (None: never)."""
        if self._waiting:
            return
        self._arrived.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            pass  # the caller looks for itself what is due

    def take_batch(self) -> list[Pending]:
        """Remove and return what is decided next: all that is there, up to the limits, and at least one if there is any."""
        batch: list[Pending] = []
        size = 0
        while self._waiting and len(batch) < BATCH_LIMIT:
            size += self._waiting[0].size
            if batch and size > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    def fail_commands(self, error: StackdError) -> None:
        """Remove what somebody wants: whoever waits gets `error`. What is so stays, in its order."""
        commands = [pending for pending in self._waiting if not pending.is_observation]
        self._waiting = deque(pending for pending in self._waiting if pending.is_observation)
        fail(commands, error)

    def fail_all(self, error: StackdError) -> None:
        """Empty the inbox; whoever waits gets `error`."""
        waiting, self._waiting = self._waiting, deque()
        fail(waiting, error)


def fail(pendings: Iterable[Pending], error: StackdError) -> None:
    """Answer everyone who still waits with `error`."""
    for pending in pendings:
        pending.fail(error)
