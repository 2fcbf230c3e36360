"""Carries task statuses to the manager: the newest of each task, in batches that form by themselves.

While one message is on its way the next gathers; there is no timer and no debounce. Nothing is kept for a later session:
when a session opens, `compare` finds out what the manager doesn't know yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice

import msgspec

from stackd.api.dispatch import FromAgent, FromManager, TaskReports
from stackd.api.stream import Stream
from stackd.base.ids import TaskId
from stackd.base.time import Instant
from stackd.engine.status import TaskStatus

STATUSES_PER_MESSAGE = 500
"""Keeps a message of a node with very many tasks small; the rest follows in the next one."""


class Reporter:
    """What the manager has not been told yet."""

    def __init__(self) -> None:
        self._waiting: dict[TaskId, TaskStatus] = {}
        self._arrived = asyncio.Event()

    def put(self, status: TaskStatus) -> None:
        """Report `status` soon; an older one of the same task that still waits is dropped."""
        self._waiting[status.id] = status
        self._arrived.set()

    def compare(self, known: Iterable[TaskStatus], ours: Mapping[TaskId, TaskStatus]) -> None:
        """A session has opened: report exactly what differs from what the manager said it knows."""
        self._waiting.clear()
        for theirs in known:
            mine = ours.get(theirs.id)
            if mine is not None and _substance(mine) != _substance(theirs):
                self.put(mine)

    async def run(self, stream: Stream[FromManager, FromAgent]) -> None:
        """Send what gathers until the stream ends."""
        while True:
            await self._arrived.wait()
            batch = tuple(islice(self._waiting.values(), STATUSES_PER_MESSAGE))
            for status in batch:
                del self._waiting[status.id]
            if not self._waiting:
                self._arrived.clear()
            if batch:
                await stream.send(TaskReports(statuses=batch))


def _substance(status: TaskStatus) -> TaskStatus:
    """A status without what the manager adds or stamps itself."""
    return msgspec.structs.replace(status, at=Instant(0), running_at=Instant(0), reason="")
