"""The writer loop: what is decided together, who is answered what, and what happens when the log can't be written."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import Entropy, NodeId, ServiceId
from stackd.base.time import SECOND, Instant
from stackd.engine.inputs import (
    Applied,
    Input,
    Rejected,
    ReportNode,
    ReportSource,
    ReportTasks,
    ScaleService,
    StageContent,
    Wake,
)
from stackd.engine.model import Blob, Service
from stackd.engine.parts import SYSTEM, NodeState
from stackd.engine.status import TaskStatus
from stackd.engine.step import Decision
from stackd.engine.store import Changes, View
from stackd.engine.taskstate import TaskState
from stackd.manager.inbox import BATCH_BYTES, BATCH_LIMIT, INBOX_LIMIT, Inbox, Pending
from stackd.manager.timers import Timers
from stackd.raft.consensus import MAX_ENTRY_BYTES, NotLeader, OutcomeUnknown, SnapshotView, StorageFailed
from stackd.raft.model import MemoryConsensus, MemoryLog
from stackd.simulation.loop import run
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.digest import blob_digest
from stackd.spec.stack import RestartCondition

from control_builders import NODE, LiveManager, play


def look(number: int) -> ReportSource:
    return ReportSource(name=f"source{number}", seen="x")


def content(size: int, fill: int) -> StageContent:
    data = random.Random(fill).randbytes(size)  # doesn't shrink when the entry is compressed
    return StageContent(blobs=(Blob(digest=blob_digest(data), data=data),))


def entries(manager: LiveManager) -> int:
    """Entries in the log that aren't the opening of a term."""
    return sum(1 for entry in manager.log.entries if entry.data)


class ForgetfulConsensus(MemoryConsensus):
    """Answers the proposals numbered in `forget` with OutcomeUnknown although they were written."""

    forget: tuple[int, ...] = ()
    proposals = 0

    async def propose(self, data: bytes, term: int) -> int:
        index = await super().propose(data, term)
        self.proposals += 1
        if self.proposals in self.forget:
            raise OutcomeUnknown("nobody knows")
        return index


class NoRoomForSnapshots(MemoryConsensus):
    """Its disk takes entries but no snapshots."""

    async def take_snapshot(self, view: SnapshotView) -> None:
        raise StorageFailed("no space left on device")


def test_inputs_gather_while_an_entry_is_under_way_and_become_one() -> None:
    async def story(manager: LiveManager) -> None:
        before = entries(manager)
        async with asyncio.TaskGroup() as group:
            group.create_task(manager.submit(look(0)))
            await asyncio.sleep(0.05)
            for number in range(1, 50):
                group.create_task(manager.submit(look(number)))
        assert entries(manager) == before + 2
        assert len(manager.view.source_statuses) == 50

    play(story, LiveManager(delay_seconds=0.1))


def test_replies_come_in_the_order_of_the_inputs() -> None:
    async def story(manager: LiveManager) -> None:
        unknown = ReportNode(id=NodeId("nobody"), state=NodeState.DOWN)
        first, second, third = await manager.submit(look(1), unknown, look(1))
        assert first == Applied(changed=True)
        assert isinstance(second, Rejected)
        assert third == Applied(changed=False)

    play(story)


def test_a_command_that_changes_nothing_writes_nothing() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.submit(look(1))
        before = manager.log.last_index
        assert await manager.submit(look(1)) == (Applied(changed=False),)
        assert manager.log.last_index == before

    play(story)


def test_a_client_is_told_that_the_log_is_full_and_reports_are_decided_once_it_is_not() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service()))
        manager.log.full = True
        async with asyncio.TaskGroup() as group:
            report = group.create_task(manager.writer.submit(look(1)))
            await asyncio.sleep(0.1)
            with pytest.raises(StorageFailed):
                await manager.writer.submit(ScaleService(name="shop_web", replicas=3, principal=SYSTEM))
            assert not report.done()
            assert manager.service().settings.replicas == 1
            manager.log.full = False
            assert await report == Applied(changed=True)
        await manager.until(lambda: manager.running_tasks() == 1)

    play(story)


def test_no_command_waits_behind_reports_that_there_is_no_room_for() -> None:
    """One that is too large to be decided together with them would."""

    async def story(manager: LiveManager) -> None:
        manager.log.full = True
        async with asyncio.TaskGroup() as group:
            report = group.create_task(manager.writer.submit(look(1)))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(5):
                with pytest.raises(StorageFailed):
                    await manager.writer.submit(content(400_000, 1))
            assert not report.done()
            manager.log.full = False
            assert await report == Applied(changed=True)

    play(story)


def test_a_due_deadline_is_decided_on_at_its_time() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(restart=RestartCondition.ANY, restart_seconds=40.0)))
        await manager.settle()
        (task,) = manager.tasks()
        failed = TaskStatus(id=task.id, state=TaskState.FAILED, at=manager.view.now, error="it broke")
        await manager.submit(ReportTasks(node_id=NODE, statuses=(failed,)))
        began = manager.view.now
        await manager.until(lambda: manager.running_tasks() == 1)
        assert 40 <= (manager.view.now - began) / SECOND < 42

    play(story)


def test_what_one_entry_has_no_room_for_follows_in_the_next() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(replicas=3000)))
        await manager.until(lambda: len(manager.tasks()) == 3000)
        assert max(len(entry.data) for entry in manager.log.entries) < MAX_ENTRY_BYTES

    play(story, node=False)


def test_content_of_many_clients_at_once_is_spread_over_entries() -> None:
    async def story(manager: LiveManager) -> None:
        before = entries(manager)
        async with asyncio.TaskGroup() as group:
            for fill in range(12):
                group.create_task(manager.submit(content(250 * 1024, fill)))
        assert len(manager.view.blobs) == 12
        assert entries(manager) == before + 12

    play(story)


def test_the_one_input_that_can_never_be_stored_is_refused_alone() -> None:
    async def story(manager: LiveManager) -> None:
        too_large = content(MAX_ENTRY_BYTES, 1)
        async with asyncio.TaskGroup() as group:
            reports = [group.create_task(manager.writer.submit(look(number))) for number in range(3)]
            with pytest.raises(StackdError) as refused:
                await manager.submit(look(9), too_large)
        assert refused.value.code == "raft.entry.too_large"
        assert [report.result() for report in reports] == [Applied(changed=True)] * 3

    play(story, LiveManager(delay_seconds=0.1))


def test_an_input_on_which_the_engine_fails_is_refused_alone_and_the_loop_goes_on() -> None:
    async def story(manager: LiveManager) -> None:
        decide = manager.writer._decide_on

        def failing(view: View, inputs: Sequence[Input], now: Instant, entropy: Entropy) -> Decision:
            if look(9) in inputs:
                raise RuntimeError("planted")
            return decide(view, inputs, now, entropy)

        manager.writer._decide_on = failing
        async with asyncio.TaskGroup() as group:
            reports = [group.create_task(manager.writer.submit(look(number))) for number in range(3)]
            with pytest.raises(StackdError) as refused:
                await manager.writer.submit(look(9))
        assert refused.value.code == "engine.fault"
        assert [report.result() for report in reports] == [Applied(changed=True)] * 3

    play(story, LiveManager(delay_seconds=0.1))


def test_a_leader_begins_with_a_full_pass() -> None:
    async def story(manager: LiveManager) -> None:
        assert manager.view.cluster is not None
        await manager.apply(a_stack("shop", a_service(restart_seconds=30.0)))
        await manager.settle()
        (task,) = manager.tasks()
        failed = TaskStatus(id=task.id, state=TaskState.FAILED, at=manager.view.now)
        await manager.submit(ReportTasks(node_id=NODE, statuses=(failed,)))
        manager.consensus.step_down()
        manager.consensus.lead()  # its timers were forgotten with the old term
        await manager.until(lambda: manager.running_tasks() == 1, seconds=60)

    play(story)


def test_losing_leadership_fails_whoever_waits_and_whoever_comes() -> None:
    async def story(manager: LiveManager) -> None:
        under_way = asyncio.ensure_future(manager.writer.submit(look(1)))
        await asyncio.sleep(0.01)
        waiting = asyncio.ensure_future(manager.writer.submit(look(2)))
        await asyncio.sleep(0.01)
        manager.consensus.step_down()
        results = await asyncio.gather(under_way, waiting, return_exceptions=True)
        assert [type(result) for result in results] == [OutcomeUnknown, NotLeader]
        with pytest.raises(NotLeader):
            await manager.submit(look(3))
        manager.consensus.lead()
        await manager.writer.wait_ready()
        assert await manager.submit(look(3)) == (Applied(changed=True),)

    play(story, LiveManager(delay_seconds=0.1))


def test_nothing_is_decided_after_an_unknown_outcome_before_it_is_known() -> None:
    async def story(manager: LiveManager) -> None:
        consensus = manager.consensus
        assert isinstance(consensus, ForgetfulConsensus)
        consensus.forget = (consensus.proposals + 1, consensus.proposals + 2)  # also the entry that finds out
        with pytest.raises(OutcomeUnknown):
            await manager.submit(content(10, 1))
        assert await manager.submit(content(10, 1)) == (Applied(changed=False),)

    manager = LiveManager()
    manager.consensus = ForgetfulConsensus(manager.log)
    play(story, manager)


def test_a_stopped_writer_leaves_nobody_waiting() -> None:
    async def main() -> None:
        manager = LiveManager(delay_seconds=5.0)
        async with manager.running(node=False):
            waiting = [asyncio.ensure_future(manager.writer.submit(look(number))) for number in range(3)]
            await asyncio.sleep(0.1)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, OutcomeUnknown) for result in results)
        with pytest.raises(NotLeader):
            await manager.writer.submit(look(4))

    run(main())


def test_a_snapshot_is_taken_when_it_is_due_and_the_next_life_goes_on_from_it_and_the_log() -> None:
    log = MemoryLog()

    async def before(manager: LiveManager) -> Service:
        await manager.apply(a_stack("shop", a_service(replicas=2)))
        await manager.settle()
        assert manager.log.snapshot is not None
        return manager.service()

    async def after(manager: LiveManager) -> Service:
        return manager.service()

    first = play(before, LiveManager(log, snapshot_entries=5))
    assert log.snapshot_index < log.last_index
    assert play(after, LiveManager(log)) == first


def test_a_snapshot_that_fails_keeps_the_log_and_the_writer() -> None:
    async def story(manager: LiveManager) -> None:
        for number in range(10):
            assert await manager.submit(look(number)) == (Applied(changed=True),)
        assert manager.log.snapshot is None
        assert len(manager.view.source_statuses) == 10

    manager = LiveManager()
    manager.consensus = NoRoomForSnapshots(manager.log, snapshot_entries=3)
    play(story, manager)


def test_a_snapshot_that_another_member_sent_replaces_the_state_and_listeners_are_told() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.submit(look(1))
        ahead, told = manager.writer.store.fork(), list[Changes]()
        ahead.apply(ahead.index + 100, b"")
        manager.writer.listen(told.append)
        manager.consensus.install(ahead.index, b"".join(ahead.freeze().chunks()))
        await manager.until(lambda: manager.view.index == ahead.index)
        assert [changes.index for changes in told] == [ahead.index]
        assert len(manager.view.source_statuses) == 1

    play(story, LiveManager())


def test_a_flood_is_refused_and_the_manager_lives() -> None:
    async def story(manager: LiveManager) -> None:
        floods = [asyncio.ensure_future(manager.writer.submit(Wake(services=()))) for _ in range(INBOX_LIMIT + 1)]
        results = await asyncio.gather(*floods, return_exceptions=True)
        refused = [result for result in results if isinstance(result, Unavailable)]
        assert [error.code for error in refused] == ["manager.overloaded"]
        assert len(results) - len(refused) == INBOX_LIMIT

    play(story)


def test_a_listener_that_fails_ends_the_writer_and_whoever_waits_is_told() -> None:
    """It has missed an entry and would be wrong from then on; a new life starts over."""

    async def main() -> list[BaseException | object]:
        manager = LiveManager()
        waiting: asyncio.Future[object] | None = None
        try:
            async with manager.running(node=False):
                manager.writer.listen(fail_at_once)
                waiting = asyncio.ensure_future(manager.writer.submit(look(1)))
                await asyncio.sleep(10)
        except* ZeroDivisionError:
            pass
        assert waiting is not None
        return await asyncio.gather(waiting, return_exceptions=True)

    def fail_at_once(changes: Changes) -> None:
        raise ZeroDivisionError

    assert [type(result) for result in run(main())] == [OutcomeUnknown]


def test_a_batch_is_bounded_in_number_and_in_size_but_never_empty() -> None:
    inbox = Inbox()
    large = Pending((content(BATCH_BYTES, 1),))
    for pending in (large, large, *(Pending((look(1),)) for _ in range(BATCH_LIMIT + 1))):
        inbox.put(pending)
    assert [len(inbox.take_batch()) for _ in range(5)] == [1, 1, BATCH_LIMIT, 1, 0]


def test_what_is_put_back_goes_first_and_in_its_order() -> None:
    inbox = Inbox()
    first, second, third = (Pending((look(number),)) for number in range(3))
    inbox.put(third)
    inbox.put_back([first, second])
    assert [id(one) for one in inbox.take_batch()] == [id(first), id(second), id(third)]


def test_reports_are_observations_and_commands_are_not() -> None:
    report = ReportTasks(node_id=NODE, statuses=())
    assert Pending((report, look(1))).is_observation
    assert not Pending((report, ScaleService(name="a", replicas=1, principal=SYSTEM))).is_observation


def test_of_two_deadlines_of_a_service_the_earlier_counts() -> None:
    timers = Timers()
    for at, service in ((30, "a"), (10, "a"), (20, "a"), (20, "b")):
        timers.add(Instant(at), ServiceId(service))
    assert timers.next_at() == 10
    assert timers.take_due(Instant(20)) == ("a", "b")
    assert timers.next_at() is None
    timers.add(Instant(30), ServiceId("a"))
    assert timers.next_at() == 30
    timers.clear()
    assert timers.take_due(Instant(99)) == ()
