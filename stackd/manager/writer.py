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
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from stackd.base.errors import Retry, StackdError, Unavailable
from stackd.base.ids import Entropy
from stackd.base.time import Instant, SteadyClock
from stackd.engine.inputs import FullPass, Input, Reply, Wake
from stackd.engine.step import Decision, step
from stackd.engine.store import Changes, Store, View, encode_transaction
from stackd.manager.clustertime import ClusterTime, is_fencing
from stackd.manager.feed import Feed
from stackd.manager.inbox import Inbox, Pending, fail
from stackd.manager.timers import Timers
from stackd.raft.consensus import Consensus, Installed, NotLeader, OutcomeUnknown, SnapshotView, StorageFailed

log = logging.getLogger(__name__)

STORAGE_RETRY_SECONDS = 1.0
"""Pause before observations are decided again after the log could not be written (a full disk)."""

Listener = Callable[[Changes], None]

Decide = Callable[[View, Sequence[Input], Instant, Entropy], Decision]


class Meter(Protocol):
    """Who wants to know how the loop is doing. Calls are quick and don't raise; times are in seconds."""

    def stepped(self, seconds: float, inputs: int) -> None:
        """The engine has decided on so many inputs."""
        ...

    def committed(self, seconds: float) -> None:
        """An entry has been stored and applied."""
        ...

    def not_stored(self, code: str) -> None:
        """A decision could not be stored."""
        ...


class Writer:
    """Owns the store. `run()` applies what is committed and, while this member leads, decides. `decide` is `step`, or
    `step` with somebody looking on."""

    def __init__(
        self,
        store: Store,
        consensus: Consensus,
        clock: SteadyClock,
        entropy: Entropy,
        *,
        decide: Decide = step,
        meter: Meter | None = None,
        cluster_id: str = "",
        follows: Callable[[], bool] = lambda: False,
    ) -> None:
        """`cluster_id` names a cluster that is new ("": a name is made). `follows` says whether this member is in touch with
        another one that leads."""
        self.store = store
        self._cluster_id = cluster_id
        self.feed = Feed(store.index)
        self._consensus = consensus
        self._time = ClusterTime(clock)
        self._entropy = entropy
        self._follows = follows
        self._decide_on = decide
        self._meter = meter
        self._inbox = Inbox()
        self._timers = Timers()
        self._listeners: list[Listener] = []
        self._leading = False
        self._ready = asyncio.Event()
        self._snapshotting = False

    @property
    def view(self) -> View:
        return self.store.view

    @property
    def waiting(self) -> int:
        """How many submissions wait to be decided on."""
        return len(self._inbox)

    def listen(self, listener: Listener) -> None:
        """Call `listener` with what each applied entry changed, in order, in the loop. It must be quick and not raise: one
        that has missed an entry would be wrong from then on without knowing it, so its error ends the writer."""
        self._listeners.append(listener)

    async def wait_ready(self) -> None:
        """Return once this member leads and has made its first full pass."""
        await self._ready.wait()

    @property
    def leads(self) -> bool:
        """Whether this member leads, and its state has everything that was acknowledged before it did."""
        return self._leading

    async def submit(self, command: Input) -> Reply:
        """Decide on one input; returns once the outcome is durable and applied. Raises Unavailable, NotLeader or
        StorageFailed; then nothing has changed (OutcomeUnknown: it may have)."""
        (reply,) = await self.submit_all((command,))
        return reply

    async def submit_all(self, inputs: Sequence[Input]) -> tuple[Reply, ...]:
        """Like `submit`, for inputs that are decided in one step, in order."""
        if not self._leading:
            await self._consensus.read_barrier()  # the log may know better why nothing can be written
            raise NotLeader
        if self._inbox.is_full:
            raise Unavailable("manager.overloaded", "the manager has too much to do", hint="try again in a moment")
        answer: asyncio.Future[tuple[Reply, ...]] = asyncio.get_running_loop().create_future()
        self._inbox.put(Pending(tuple(inputs), answer))
        return await answer

    async def run(self) -> None:
        """Apply and decide until cancelled. An error of the log's stream ends it: the daemon must not go on without."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._apply_committed(group), name="apply")
            group.create_task(self._follow_leadership(group), name="follow leadership")

    # Applying.

    async def _apply_committed(self, group: asyncio.TaskGroup) -> None:
        async for entry in self._consensus.committed():
            before = self.view.now
            if isinstance(entry, Installed):
                changes = self.store.install(entry.content)
            else:
                changes = self.store.apply(entry.index, entry.data)
            if self.view.now > before and self._follows():
                self._time.heard(self.view.now)
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

    # Leading.

    async def _follow_leadership(self, group: asyncio.TaskGroup) -> None:
        """Lead while this member is the leader; what is under way when that ends is given up at once."""
        present: asyncio.Task[None] | None = None
        async for change in self._consensus.leadership():
            if present is not None:
                present.cancel()
                await asyncio.wait([present])
            present = group.create_task(self._lead(change.term), name="lead") if change.is_leader else None

    async def _lead(self, term: int) -> None:
        """Decide for as long as this member leads `term`. Starts with a full pass over a state that has every entry."""
        try:
            await self.feed.wait_for(await self._consensus.read_barrier())
            self._timers.clear()
            self._inbox.put(Pending((FullPass(cluster_id=self._cluster_id),)))
            self._leading = True
            while True:
                batch, now = await self._next_batch()
                await self._decide(batch, now, term)
                self._ready.set()
        except StackdError as error:  # also: nothing can be written, or the member ends; then whoever watches it knows why
            log.info("leadership lost: term=%d reason=%s", term, error.message)
        finally:
            self._leading = False
            self._ready.clear()
            self._inbox.fail_all(NotLeader())

    async def _next_batch(self) -> tuple[list[Pending], Instant]:
        """What has gathered, and the time, by which every due timer is in it; waits for the first input or timer."""
        while True:
            now = self._now()
            if due := self._timers.take_due(now):
                self._inbox.put(Pending((Wake(services=due, whole=False),)))
            if batch := self._inbox.take_batch():
                return batch, now
            next_at = self._timers.next_at()
            await self._inbox.wait(None if next_at is None else self._time.seconds_until(next_at))

    def _now(self) -> Instant:
        return self._time.now(self.view.now, lambda now: is_fencing(self.view, now))

    async def _decide(self, batch: list[Pending], now: Instant, term: int) -> None:
        """Decide on the batch, store the decision, answer. Whatever happens, nobody in the batch is left waiting."""
        inputs = [one for pending in batch for one in pending.inputs]
        try:
            decision = self._decision_on(inputs, now)
            await self._commit(decision, term)
        except StackdError as error:
            await self._not_stored(batch, now, term, error)
            return
        except BaseException:
            fail(batch, OutcomeUnknown("the manager stopped leading while this was being decided"))
            raise
        for at, service in decision.wakeups:
            self._timers.add(at, service)
        if decision.rest is not None:
            self._inbox.put(Pending((decision.rest,)))
        _answer(batch, decision.replies)

    def _decision_on(self, inputs: Sequence[Input], now: Instant) -> Decision:
        """What the engine makes of the inputs. It contains its own faults; should one get through, then the input at fault is
        refused, and the loop goes on."""
        began = _loop_time()
        try:
            return self._decide_on(self.view, inputs, now, self._entropy)
        except Exception as exc:
            log.exception("the engine failed: inputs=%d", len(inputs))
            raise StackdError("engine.fault", f"stackd failed to decide on this: {type(exc).__name__}: {exc}") from exc
        finally:
            if self._meter is not None:
                self._meter.stepped(_loop_time() - began, len(inputs))

    async def _commit(self, decision: Decision, term: int) -> None:
        if decision.transaction is None:
            return
        began = _loop_time()
        await self._append(encode_transaction(decision.transaction), term)
        if self._meter is not None:
            self._meter.committed(_loop_time() - began)

    async def _append(self, data: bytes, term: int) -> None:
        """Return once the entry is durable and applied."""
        await self.feed.wait_for(await self._consensus.propose(data, term))

    async def _not_stored(self, batch: list[Pending], now: Instant, term: int, error: StackdError) -> None:
        """The decision came to nothing. What could never be stored is set aside; else the clients are told, and the
        observations are kept and decided again after a little rest."""
        log.error("decision not stored: inputs=%d error=%s", len(batch), error)
        if self._meter is not None:
            self._meter.not_stored(error.code)
        if error.retry is Retry.NEVER:
            await self._set_aside(batch, now, term, error)
            return
        fail([pending for pending in batch if not pending.is_observation], error)
        self._inbox.put_back([pending for pending in batch if pending.is_observation])
        if isinstance(error, NotLeader):
            raise error
        if isinstance(error, StorageFailed):
            self._inbox.fail_commands(error)  # they would wait for room behind the observations that wait for it
        await asyncio.sleep(STORAGE_RETRY_SECONDS)
        if isinstance(error, OutcomeUnknown):
            await self._fence(term)

    async def _set_aside(self, batch: list[Pending], now: Instant, term: int, error: StackdError) -> None:
        """Decide each of the batch by itself, so that the one at fault (an entry too large) doesn't stop the others."""
        if len(batch) == 1:
            fail(batch, error)
            return
        for at, pending in enumerate(batch):
            try:
                await self._decide([pending], now, term)
            except BaseException:
                self._inbox.put_back(batch[at + 1 :])
                raise

    async def _fence(self, term: int) -> None:
        """Return once an empty entry is applied: then nothing proposed before can still come and move the state under a
        decision. Raises NotLeader."""
        while True:
            try:
                await self._append(b"", term)
                return
            except NotLeader:
                raise
            except StackdError as error:
                log.error("still not sure what the log holds: error=%s", error)
            await asyncio.sleep(STORAGE_RETRY_SECONDS)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _answer(batch: list[Pending], replies: Sequence[Reply]) -> None:
    start = 0
    for pending in batch:
        end = start + len(pending.inputs)
        pending.reply(replies[start:end])
        start = end
