"""What every form of consensus promises, as tests. A form's test class inherits them and says how it is started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from stackd.base.errors import StackdError, Unavailable
from stackd.raft.consensus import (
    MAX_ENTRY_BYTES,
    Consensus,
    Entry,
    Leadership,
    NotLeader,
    OutcomeUnknown,
    SnapshotView,
    StorageFailed,
)

WAIT_SECONDS = 10.0


async def next_role(member: Consensus) -> Leadership:
    async for role in member.leadership():
        return role
    raise AssertionError("leadership() ended without a role")


async def next_term(member: Consensus) -> int:
    """The term that the member leads, as soon as it does."""
    async for role in member.leadership():
        if role.is_leader:
            return role.term
    raise AssertionError("leadership() ended without a term")


async def take_entries(entries: AsyncIterator[Entry], count: int) -> list[Entry]:
    """The next `count` entries."""
    async with asyncio.timeout(WAIT_SECONDS):
        return [await anext(entries) for _ in range(count)]


def content(entries: list[Entry]) -> list[bytes]:
    """What was proposed, without the entries that open terms."""
    return [entry.data for entry in entries if entry.data]


class ConsensusContract:
    """Inherit, and override `storage` and `new_member`."""

    def storage(self) -> object:
        """Something empty that outlives a member."""
        raise AssertionError("to be overridden")

    def new_member(self, storage: object) -> Consensus:
        """A member that isn't started yet, over `storage`."""
        raise AssertionError("to be overridden")

    @asynccontextmanager
    async def running(self, storage: object) -> AsyncIterator[tuple[Consensus, bytes | None, int]]:
        """A started member with the snapshot it found and its term."""
        member = self.new_member(storage)
        snapshot = await member.start()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                yield member, snapshot, (await next_role(member)).term
        finally:
            await member.close()

    def run(self, story: Callable[[object], Awaitable[None]]) -> None:
        asyncio.run(self._tell(story))

    async def _tell(self, story: Callable[[object], Awaitable[None]]) -> None:
        await story(self.storage())

    def test_a_started_member_leads_a_term_that_opens_with_an_empty_entry(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, snapshot, term):
                assert snapshot is None
                assert await next_role(member) == Leadership(term, is_leader=True)
                assert await take_entries(member.committed(), 1) == [Entry(1, term, b"")]

        self.run(story)

    def test_proposals_are_committed_in_the_order_of_their_indexes(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                committed = member.committed()
                indexes = [await member.propose(data, term) for data in (b"a", b"b", b"c")]
                entries = await take_entries(committed, 4)
                assert indexes == [2, 3, 4]
                assert [(entry.index, entry.data) for entry in entries] == [(1, b""), (2, b"a"), (3, b"b"), (4, b"c")]

        self.run(story)

    def test_concurrent_proposals_each_get_an_index_of_their_own(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                proposed = [b"%d" % number for number in range(200)]
                indexes = await asyncio.gather(*(member.propose(data, term) for data in proposed))
                entries = await take_entries(member.committed(), 201)
                by_index = {entry.index: entry.data for entry in entries}
                assert [entry.index for entry in entries] == list(range(1, 202))
                assert [by_index[index] for index in indexes] == proposed

        self.run(story)

    def test_a_proposal_of_another_term_is_refused(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                for other in (term - 1, term + 1):
                    with pytest.raises(NotLeader):
                        await member.propose(b"late", other)
                assert await member.read_barrier() == 1

        self.run(story)

    def test_an_entry_above_the_limit_is_refused_and_one_at_the_limit_is_not(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                with pytest.raises(StackdError) as refused:
                    await member.propose(b"x" * (MAX_ENTRY_BYTES + 1), term)
                assert refused.value.code == "raft.entry.too_large"
                assert await member.propose(b"x" * MAX_ENTRY_BYTES, term) == 2

        self.run(story)

    def test_the_read_barrier_covers_every_acknowledged_write(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                index = await member.propose(b"a", term)
                assert await member.read_barrier() >= index

        self.run(story)

    def test_a_restart_replays_every_entry_and_opens_a_higher_term(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, first_term):
                for data in (b"a", b"b"):
                    await member.propose(data, first_term)
            async with self.running(storage) as (member, snapshot, term):
                entries = await take_entries(member.committed(), 4)
                assert snapshot is None
                assert term > first_term
                assert content(entries) == [b"a", b"b"]
                assert entries[-1] == Entry(4, term, b"")

        self.run(story)

    def test_a_restart_after_a_snapshot_gives_its_content_and_what_follows_it(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                for data in (b"a", b"b", b"c"):
                    await member.propose(data, term)
                await member.take_snapshot(SnapshotView(3, lambda: iter([b"a", b"b"])))
                await member.propose(b"d", term)
            async with self.running(storage) as (member, snapshot, _):
                assert snapshot == b"ab"
                entries = await take_entries(member.committed(), 3)
                assert [entry.index for entry in entries] == [4, 5, 6]
                assert content(entries) == [b"c", b"d"]

        self.run(story)

    def test_an_older_snapshot_does_not_replace_a_newer_one(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                for data in (b"a", b"b"):
                    await member.propose(data, term)
                await member.take_snapshot(SnapshotView(3, lambda: iter([b"new"])))
                await member.take_snapshot(SnapshotView(2, lambda: iter([b"old"])))
            async with self.running(storage) as (_, snapshot, _):
                assert snapshot == b"new"

        self.run(story)

    def test_a_cancelled_proposal_does_not_disturb_the_others(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                cancelled = asyncio.ensure_future(member.propose(b"cancelled", term))
                await asyncio.sleep(0)
                cancelled.cancel()
                index = await member.propose(b"kept", term)
                entries = await take_entries(member.committed(), index)
                assert entries[-1].data == b"kept"

        self.run(story)

    def test_closing_ends_the_streams_and_refuses_proposals(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                roles, entries = member.leadership(), member.committed()
                await anext(roles)
            assert [role async for role in roles] == []
            assert len([entry async for entry in entries]) == 1
            with pytest.raises(Unavailable):
                await member.propose(b"late", term)

        self.run(story)

    def test_a_proposal_under_way_at_the_close_is_written_or_its_outcome_is_unknown(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                proposal = asyncio.ensure_future(member.propose(b"a", term))
                await asyncio.sleep(0)
            try:
                acknowledged = [b"a"] if await proposal else []
            except (OutcomeUnknown, Unavailable):
                acknowledged = []
            async with self.running(storage) as (member, _, _):
                replayed = await take_entries(member.committed(), await member.read_barrier())
                assert content(replayed)[: len(acknowledged)] == acknowledged

        self.run(story)


class AloneContract(ConsensusContract):
    """What a member promises besides, if it has no others. (Among others one that can't write lets another one lead.)"""

    def set_full(self, storage: object, full: bool) -> None:
        """Make every write to `storage` fail, or work again."""
        raise AssertionError("to be overridden")

    def test_a_full_disk_refuses_proposals_and_serves_again_when_there_is_room(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                await member.propose(b"a", term)
                self.set_full(storage, True)
                with pytest.raises(StorageFailed):
                    await member.propose(b"lost", term)
                with pytest.raises(StorageFailed):
                    await member.take_snapshot(SnapshotView(2, lambda: iter([b"lost"])))
                self.set_full(storage, False)
                assert await member.propose(b"b", term) == 3
            async with self.running(storage) as (member, snapshot, _):
                assert snapshot is None
                assert content(await take_entries(member.committed(), 4)) == [b"a", b"b"]

        self.run(story)

    def test_a_member_that_starts_on_a_full_disk_has_all_it_knew_refuses_and_leads_as_soon_as_there_is_room(self) -> None:
        async def story(storage: object) -> None:
            async with self.running(storage) as (member, _, term):
                await member.propose(b"a", term)
            self.set_full(storage, True)
            async with self.running(storage) as (member, _, _):
                assert content(await take_entries(member.committed(), 2)) == [b"a"]
                assert not (await next_role(member)).is_leader
                for refused in (member.propose(b"lost", term + 1), member.read_barrier()):
                    with pytest.raises(StorageFailed):
                        await refused
                self.set_full(storage, False)
                term = await next_term(member)
                assert await member.propose(b"b", term) == 4
            async with self.running(storage) as (member, _, _):
                assert content(await take_entries(member.committed(), 4)) == [b"a", b"b"]

        self.run(story)
