"""A member that is alone keeps the contract, writes in groups, and stops when its disk can't be trusted."""

from __future__ import annotations

import asyncio
import errno

import pytest
from consensus_contract import AloneContract, content, take_entries
from stackd.base.errors import StackdError, Unavailable
from stackd.raft.consensus import Leadership, OutcomeUnknown, SnapshotView, StorageFailed
from stackd.raft.member import ClusterMember
from stackd.raft.memory_disk import MemoryDisk, Operation, Step
from stackd.raft.wal import LogUnusable

from raft_builders import a_disk_with_a_log, a_member, last_segment, open_log


class TestMemberAlone(AloneContract):
    def storage(self) -> MemoryDisk:
        return a_disk_with_a_log()

    def new_member(self, storage: object) -> ClusterMember:
        assert isinstance(storage, MemoryDisk)
        return a_member(storage)

    def set_full(self, storage: object, full: bool) -> None:
        assert isinstance(storage, MemoryDisk)
        storage.capacity_bytes = 0 if full else None


def fail_syncs(operation: Operation) -> None:
    if operation.step is Step.SYNC:
        raise OSError(errno.EIO, "input/output error")


def syncs(disk: MemoryDisk) -> int:
    return sum(operation.step is Step.SYNC for operation in disk.journal)


def test_proposals_that_arrive_during_a_write_share_the_next_sync() -> None:
    async def story() -> None:
        disk = a_disk_with_a_log()
        member = a_member(disk)
        await member.start()
        before = syncs(disk)
        await asyncio.gather(*(member.propose(b"%d" % number, 1) for number in range(100)))
        assert syncs(disk) - before < 20
        await member.close()

    asyncio.run(story())


def test_a_batch_is_bounded_in_bytes() -> None:
    async def story() -> None:
        disk = a_disk_with_a_log()
        member = a_member(disk, batch_bytes=1000)
        await member.start()
        before = syncs(disk)
        await asyncio.gather(*(member.propose(b"x" * 400, 1) for _ in range(9)))
        assert syncs(disk) - before >= 3
        await member.close()

    asyncio.run(story())


def test_more_proposals_than_the_disk_can_take_are_refused() -> None:
    async def story() -> None:
        member = a_member(a_disk_with_a_log(), waiting_proposals=2)
        await member.start()
        results = await asyncio.gather(*(member.propose(b"a", 1) for _ in range(5)), return_exceptions=True)
        refused = [result.code for result in results if isinstance(result, Unavailable)]
        assert refused == ["raft.overloaded"] * 3
        await member.close()

    asyncio.run(story())


def test_after_a_failed_sync_nothing_is_accepted_until_a_restart() -> None:
    async def story() -> None:
        disk = a_disk_with_a_log()
        member = a_member(disk)
        await member.start()
        await member.propose(b"kept", 1)
        roles = member.leadership()
        await anext(roles)
        disk.fail = fail_syncs
        with pytest.raises(OutcomeUnknown):
            await member.propose(b"unknown", 1)
        disk.fail = lambda operation: None
        assert await anext(roles) == Leadership(1, is_leader=False)
        with pytest.raises(LogUnusable):
            await member.propose(b"refused", 1)
        with pytest.raises(LogUnusable):
            await member.read_barrier()
        await member.close()

        restarted = a_member(disk)
        await restarted.start()
        replayed = content(await take_entries(restarted.committed(), await restarted.read_barrier()))
        assert replayed in ([b"kept"], [b"kept", b"unknown"])
        await restarted.close()

    asyncio.run(story())


def test_a_snapshot_is_due_after_enough_entries_or_enough_bytes() -> None:
    async def story() -> None:
        member = a_member(a_disk_with_a_log(), snapshot_entries=5, snapshot_bytes=10_000)
        await member.start()
        for _ in range(3):
            await member.propose(b"small", 1)
        assert not member.snapshot_due()
        await member.propose(b"small", 1)
        assert member.snapshot_due()
        await member.take_snapshot(SnapshotView(5, lambda: iter([b"state"])))
        assert not member.snapshot_due()
        await member.propose(b"x" * 10_000, 1)
        assert member.snapshot_due()
        await member.close()

    asyncio.run(story())


def test_a_snapshot_that_failed_is_not_due_again_at_the_next_entry() -> None:
    async def story() -> None:
        disk = a_disk_with_a_log()
        member = a_member(disk, snapshot_entries=1, snapshot_retry_entries=3)
        await member.start()
        disk.capacity_bytes = 0
        with pytest.raises(StorageFailed):
            await member.take_snapshot(SnapshotView(1, lambda: iter([b"state"])))
        disk.capacity_bytes = None
        due = []
        for _ in range(4):
            due.append(member.snapshot_due())
            await member.propose(b"a", 1)
        assert due == [False, False, False, True]
        await member.close()

    asyncio.run(story())


def test_entries_are_accepted_while_a_snapshot_is_being_written() -> None:
    async def story() -> None:
        disk = a_disk_with_a_log()
        member = a_member(disk)
        await member.start()
        loop, proposed = asyncio.get_running_loop(), []

        def chunks() -> list[bytes]:
            index = asyncio.run_coroutine_threadsafe(member.propose(b"meanwhile", 1), loop)
            proposed.append(index.result(timeout=10))
            return [b"state"]

        await member.take_snapshot(SnapshotView(1, chunks))
        assert proposed == [2]
        await member.close()
        restarted = a_member(disk)
        assert await restarted.start() == b"state"
        assert content(await take_entries(restarted.committed(), 2)) == [b"meanwhile"]
        await restarted.close()

    asyncio.run(story())


def test_a_snapshot_removes_the_one_before_and_the_log_below() -> None:
    async def story() -> None:
        disk = a_disk_with_a_log()
        member = a_member(disk, segment_bytes=500)
        await member.start()
        for number in range(2, 40):
            await member.propose(b"x" * 100, 1)
            if number % 10 == 0:
                await member.take_snapshot(SnapshotView(number, lambda: iter([b"state"])))
        snapshots = [name for name in disk.names() if name.startswith("snapshot-")]
        segments = [name for name in disk.names() if name.startswith("log-")]
        assert snapshots == ["snapshot-0000000000000030"]
        assert len(segments) <= 6
        await member.close()

    asyncio.run(story())


def start_and_close(disk: MemoryDisk) -> None:
    async def story() -> None:
        member = a_member(disk)
        await member.start()
        await member.close()

    asyncio.run(story())


def a_disk_with_a_snapshot() -> MemoryDisk:
    async def story() -> MemoryDisk:
        disk = a_disk_with_a_log()
        member = a_member(disk)
        await member.start()
        await member.propose(b"a", 1)
        await member.take_snapshot(SnapshotView(2, lambda: iter([b"state"])))
        await member.close()
        return disk

    return asyncio.run(story())


def refusal(disk: MemoryDisk) -> str:
    """The code with which a member refuses to start; it must have changed nothing."""
    before = {name: disk.read(name) for name in disk.names()}
    with pytest.raises(StackdError) as refused:
        start_and_close(disk)
    assert {name: disk.read(name) for name in disk.names()} == before
    return refused.value.code


def test_a_log_whose_snapshot_is_missing_is_refused() -> None:
    disk = a_disk_with_a_snapshot()
    disk.remove("snapshot-0000000000000002")
    assert refusal(disk) == "raft.snapshot.missing"


def test_a_log_that_ends_before_its_snapshot_is_refused() -> None:
    disk = a_disk_with_a_snapshot()
    disk.overwrite(last_segment(disk), a_disk_with_a_log().read("log-0000000000000001"))
    assert refusal(disk) == "raft.log.behind_snapshot"


def test_a_damaged_snapshot_is_refused_whichever_byte_is_damaged() -> None:
    disk = a_disk_with_a_snapshot()
    name = "snapshot-0000000000000002"
    whole = disk.read(name)
    for at in range(len(whole)):
        disk.overwrite(name, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert refusal(disk).startswith(("raft.snapshot.damaged", "raft.file."))
    for size in range(len(whole)):
        disk.overwrite(name, whole[:size])
        assert refusal(disk).startswith(("raft.snapshot.damaged", "raft.file."))


def test_a_start_removes_what_a_crash_left_half_written() -> None:
    disk = a_disk_with_a_snapshot()
    disk.create("snapshot-0000000000000009.tmp")
    disk.create("log-0000000000000002.tmp")
    start_and_close(disk)
    assert not [name for name in disk.names() if name.endswith(".tmp")]


def test_a_log_can_be_opened_after_each_of_many_restarts() -> None:
    disk = a_disk_with_a_log()
    for _ in range(20):
        start_and_close(disk)
    assert open_log(disk).state.term == 20
