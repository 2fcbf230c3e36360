"""A member that died anywhere comes back with every entry it acknowledged: from its snapshot, its log, or both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stackd.raft.consensus import SnapshotView
from stackd.raft.memory_disk import Crash, MemoryDisk, Step

from raft_builders import a_disk_with_a_log, a_member

Proposals = int
"""So many proposals at once; 0 stands for a snapshot of what is there."""


@dataclass
class Life:
    """One run of a member: what it proposed in which order, and the journal's length at each acknowledgement."""

    disk: MemoryDisk
    proposed: list[bytes] = field(default_factory=list)
    acknowledged_at: list[int] = field(default_factory=list)

    def acknowledged_before(self, operations: int) -> int:
        return sum(length <= operations for length in self.acknowledged_at)


async def live(life: Life, steps: list[Proposals]) -> None:
    member = a_member(life.disk, segment_bytes=700)
    await member.start()
    for count in steps:
        if count:
            await asyncio.gather(*(propose(life, member.propose) for _ in range(count)))
        else:
            content = msgspec.msgpack.encode(life.proposed)
            index = await member.read_barrier()
            await member.take_snapshot(SnapshotView(index, lambda content=content: iter([content[:5], content[5:]])))
    await member.close()


async def propose(life: Life, to: object) -> None:
    assert callable(to)
    data = b"%d" % len(life.proposed) + b"x" * 90
    life.proposed.append(data)
    await to(data, 1)
    life.acknowledged_at.append(len(life.disk.journal))


async def comes_back_with(disk: MemoryDisk) -> list[bytes]:
    """What a member started on `disk` has, snapshot and log together."""
    member = a_member(disk)
    snapshot = await member.start()
    have = msgspec.msgpack.decode(snapshot, type=list[bytes]) if snapshot else []
    await member.close()
    return have + [entry.data async for entry in member.committed() if entry.data]


def crashes(journal: list) -> Iterator[MemoryDisk]:  # type: ignore[type-arg]
    yield MemoryDisk.after_crash(journal, Crash(keep_unsynced=True))
    yield MemoryDisk.after_crash(journal, Crash(keep_unsynced=False))
    if journal[-1].step is Step.WRITE:
        yield MemoryDisk.after_crash(journal, Crash(torn=len(journal[-1].data) // 2, tail=bytes(30)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([0, 0, 1, 1, 3, 8]), min_size=1, max_size=7))
def test_a_member_that_died_at_any_write_has_everything_it_acknowledged(steps: list[Proposals]) -> None:
    life = Life(a_disk_with_a_log())
    created = len(life.disk.journal)

    async def story() -> None:
        await live(life, steps)
        for operations in range(created, len(life.disk.journal) + 1):
            for crashed in crashes(life.disk.journal[:operations]):
                have = await comes_back_with(crashed)
                assert have == life.proposed[: len(have)]
                assert len(have) >= life.acknowledged_before(operations)

    asyncio.run(story())
