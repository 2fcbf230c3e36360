"""The writer loop: the only place from which the replicated state changes.

It drains all inputs that have gathered (client commands, reports, due timers), lets `engine.step` decide on them, proposes
one entry, waits until that entry is durable and applied, answers, and goes on. Nothing moves under a decision, so there
are no version conflicts to retry. While one entry is on its way to the disk the next batch gathers by itself: the batch
is as large as the disk is slow, with no timer anywhere.

A client's command that can't be stored is answered with the error. Observations (reports, timers) are not lost: they are
decided again once the log can be written.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import Entropy, ServiceId
from stackd.base.records import encode
from stackd.base.time import Clock, Instant
from stackd.engine.inputs import (
    FullPass,
    Input,
    RegisterNode,
    Reply,
    ReportNode,
    ReportSource,
    ReportTasks,
    Wake,
)
from stackd.engine.step import Decision, step
from stackd.engine.store import Changes, Store, View
from stackd.manager.feed import Feed
from stackd.raft.consensus import Consensus, NotLeader, SnapshotView

log = logging.getLogger(__name__)

INBOX_LIMIT = 10_000
"""Inputs waiting at once; beyond that a submitter is told to come back, so that a flood can't eat the memory."""

BATCH_LIMIT = 400
"""Inputs decided together: bounds how long one decision holds the loop."""

STORAGE_RETRY_SECONDS = 1.0
"""Pause before observations are decided again after the log could not be written (a full disk)."""

Listener = Callable[[Changes], None]


@dataclass(slots=True)
class _Pending:
    """Inputs that belong together (they are decided in one step, in order) and who waits for their replies."""

    inputs: tuple[Input, ...]
    answer: asyncio.Future[tuple[Reply, ...]] | None

    @property
    def is_observation(self) -> bool:
        return all(isinstance(one, _OBSERVATIONS) for one in self.inputs)


_OBSERVATIONS = (ReportTasks, ReportNode, RegisterNode, ReportSource, Wake, FullPass)


class Timers:
    """When which service has to be looked at again. Holds the earliest instant per service; late entries are skipped."""

    def __init__(self) -> None:
        self._heap: list[tuple[Instant, ServiceId]] = []
        self._earliest: dict[ServiceId, Instant] = {}

    def add(self, at: Instant, service: ServiceId) -> None:
        known = self._earliest.get(service)
        if known is None or at < known:
            self._earliest[service] = at
            heapq.heappush(self._heap, (at, service))

    def next_at(self) -> Instant | None:
        """The earliest instant that still counts."""
        while self._heap and self._earliest.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: Instant) -> tuple[ServiceId, ...]:
        """Remove and return every service whose instant has come."""
        due: list[ServiceId] = []
        while (at := self.next_at()) is not None and at <= now:
            _, service = heapq.heappop(self._heap)
            del self._earliest[service]
            due.append(service)
        return tuple(due)

    def clear(self) -> None:
        self._heap.clear()
        self._earliest.clear()


class Writer:
    """Owns the store. `run()` applies what is committed and, while this member leads, decides."""

    def __init__(self, store: Store, consensus: Consensus, clock: Clock, entropy: Entropy) -> None:
        self.store = store
        self.feed = Feed(store.index)
        self._consensus = consensus
        self._clock = clock
        self._entropy = entropy
        self._inbox: list[_Pending] = []
        self._arrived = asyncio.Event()
        self._timers = Timers()
        self._listeners: list[Listener] = []
        self._leading = False
        self._ready = asyncio.Event()
        self._snapshotting = False

    @property
    def view(self) -> View:
        return self.store.view

    def listen(self, listener: Listener) -> None:
        """Call `listener` with what each applied entry changed, in order, in the loop. It must be quick and not raise."""
        self._listeners.append(listener)

    async def wait_ready(self) -> None:
        """Return once this member leads and has made its first full pass."""
        await self._ready.wait()

    async def submit(self, command: Input) -> Reply:
        """Decide on one input; returns once the outcome is durable and applied. Raises Unavailable, NotLeader or
        StorageFailed; then nothing has changed (OutcomeUnknown: it may have)."""
        (reply,) = await self.submit_all((command,))
        return reply

    async def submit_all(self, inputs: Sequence[Input]) -> tuple[Reply, ...]:
        """Like `submit`, for inputs that are decided in one step, in order."""
        if len(self._inbox) >= INBOX_LIMIT:
            raise Unavailable("manager.overloaded", "the manager has too much to do", hint="try again in a moment")
        answer: asyncio.Future[tuple[Reply, ...]] = asyncio.get_running_loop().create_future()
        self._put(_Pending(tuple(inputs), answer))
        return await answer

    async def run(self) -> None:
        """Apply and decide until cancelled. An error of the log's stream ends it: the daemon must not go on without."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._apply_committed(group), name="apply")
            group.create_task(self._follow_leadership(), name="lead")

    def _put(self, pending: _Pending) -> None:
        self._inbox.append(pending)
        self._arrived.set()

    async def _apply_committed(self, group: asyncio.TaskGroup) -> None:
        async for entry in self._consensus.committed():
            changes = self.store.apply(entry.index, entry.data)
            for listener in self._listeners:
                listener(changes)
            self.feed.advance(entry.index)
            if self._consensus.snapshot_due() and not self._snapshotting:
                self._snapshotting = True
                group.create_task(self._snapshot(), name="snapshot")

    async def _snapshot(self) -> None:
        frozen = self.store.freeze()
        try:
            await self._consensus.take_snapshot(SnapshotView(index=frozen.index, chunks=frozen.chunks))
        except StackdError as error:
            log.warning("snapshot failed, the log is kept: index=%d error=%s", frozen.index, error)
        finally:
            self._snapshotting = False

    async def _follow_leadership(self) -> None:
        async for change in self._consensus.leadership():
            if not change.is_leader:
                continue
            try:
                await self._lead(change.term)
            except NotLeader:
                log.info("leadership lost: term=%d", change.term)
            finally:
                self._ready.clear()
                self._fail_waiting(NotLeader())

    async def _lead(self, term: int) -> None:
        """Decide for as long as this member leads `term`. Starts with a full pass over a state that has every entry."""
        await self.feed.wait_for(await self._consensus.read_barrier())
        self._timers.clear()
        self._inbox.insert(0, _Pending((FullPass(),), None))
        self._arrived.set()
        while True:
            batch = await self._next_batch()
            await self._decide(batch, term)
            self._ready.set()

    async def _next_batch(self) -> list[_Pending]:
        """All that has gathered, up to the limit; waits for the first input or the next due timer."""
        while True:
            now = self._now()
            if due := self._timers.take_due(now):
                self._inbox.append(_Pending((Wake(services=due),), None))
            if self._inbox:
                batch, self._inbox = self._inbox[:BATCH_LIMIT], self._inbox[BATCH_LIMIT:]
                return batch
            self._arrived.clear()
            next_at = self._timers.next_at()
            delay = None if next_at is None else max(0.0, (next_at - now) / 1e9)
            try:
                async with asyncio.timeout(delay):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    def _now(self) -> Instant:
        """Cluster time: the wall clock, but never before the last entry."""
        return max(self.view.now, self._clock.now())

    async def _decide(self, batch: list[_Pending], term: int) -> None:
        inputs = [one for pending in batch for one in pending.inputs]
        decision = step(self.view, inputs, self._now(), self._entropy)
        try:
            await self._commit(decision, term)
        except StackdError as error:
            await self._not_stored(batch, error)
            return
        for at, service in decision.wakeups:
            self._timers.add(at, service)
        if decision.more:
            self._put(_Pending((Wake(services=decision.more),), None))
        self._answer(batch, decision.replies)

    async def _commit(self, decision: Decision, term: int) -> None:
        if decision.transaction is not None:
            index = await self._consensus.propose(encode(decision.transaction), term)
            await self.feed.wait_for(index)

    def _answer(self, batch: Iterable[_Pending], replies: Sequence[Reply]) -> None:
        start = 0
        for pending in batch:
            end = start + len(pending.inputs)
            if pending.answer is not None and not pending.answer.done():
                pending.answer.set_result(tuple(replies[start:end]))
            start = end

    async def _not_stored(self, batch: list[_Pending], error: StackdError) -> None:
        """The decision came to nothing: tell the clients, keep the observations and rest a little."""
        log.error("decision not stored: inputs=%d error=%s", len(batch), error)
        observations = [pending for pending in batch if pending.is_observation]
        for pending in batch:
            if not pending.is_observation and pending.answer is not None and not pending.answer.done():
                pending.answer.set_exception(error)
        self._inbox[:0] = observations
        if isinstance(error, NotLeader):
            raise error
        await asyncio.sleep(STORAGE_RETRY_SECONDS)

    def _fail_waiting(self, error: StackdError) -> None:
        """Nobody is led any more: whoever waits is told to ask the next leader."""
        waiting, self._inbox = self._inbox, []
        for pending in waiting:
            if pending.answer is not None and not pending.answer.done():
                pending.answer.set_exception(error)
