"""The reference model keeps the contract, and plays elections and crashes."""

from __future__ import annotations

import asyncio

import pytest
from consensus_contract import AloneContract, content, take_entries
from stackd.raft.consensus import Leadership, NotLeader, OutcomeUnknown, SnapshotView
from stackd.raft.model import MemoryConsensus, MemoryLog


class TestMemoryConsensus(AloneContract):
    def storage(self) -> MemoryLog:
        return MemoryLog()

    def new_member(self, storage: object) -> MemoryConsensus:
        assert isinstance(storage, MemoryLog)
        return MemoryConsensus(storage)

    def set_full(self, storage: object, full: bool) -> None:
        assert isinstance(storage, MemoryLog)
        storage.full = full


def test_followers_of_leadership_see_it_lost_and_won_back() -> None:
    async def story() -> None:
        member = MemoryConsensus(MemoryLog())
        await member.start()
        roles = member.leadership()
        seen = [await anext(roles)]
        member.step_down()
        with pytest.raises(NotLeader):
            await member.propose(b"a", 1)
        member.lead()
        seen += [await anext(roles), await anext(roles)]
        assert seen == [Leadership(1, is_leader=True), Leadership(1, is_leader=False), Leadership(2, is_leader=True)]
        with pytest.raises(NotLeader):
            await member.propose(b"a", 1)
        assert await member.propose(b"b", 2) == 3

    asyncio.run(story())


def test_a_crash_leaves_proposals_under_way_unknown_and_out_of_the_log() -> None:
    async def story() -> None:
        log = MemoryLog()
        member = MemoryConsensus(log, delay_seconds=0.01)
        await member.start()
        proposal = asyncio.ensure_future(member.propose(b"a", 1))
        await asyncio.sleep(0)
        member.crash()
        with pytest.raises(OutcomeUnknown):
            await proposal
        restarted = MemoryConsensus(log)
        await restarted.start()
        assert content(await take_entries(restarted.committed(), 2)) == []

    asyncio.run(story())


def test_a_snapshot_is_due_after_the_set_number_of_entries() -> None:
    async def story() -> None:
        member = MemoryConsensus(MemoryLog(), snapshot_entries=3)
        await member.start()
        await member.propose(b"a", 1)
        assert not member.snapshot_due()
        await member.propose(b"b", 1)
        assert member.snapshot_due()
        await member.take_snapshot(SnapshotView(3, lambda: iter([b"ab"])))
        assert not member.snapshot_due()

    asyncio.run(story())
