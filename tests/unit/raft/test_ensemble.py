"""The model with several members keeps the contract, alone and in company, and plays what happens to leaders."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from consensus_contract import AloneContract, ConsensusContract, content, next_role, take_entries
from stackd.raft.consensus import Consensus, Leadership, NotLeader, OutcomeUnknown
from stackd.raft.ensemble import Ensemble, EnsembleMember, Pace
from stackd.simulation.loop import run

PACE = Pace(commit_seconds=0.01, lag_seconds=(0.01, 0.2))


def an_ensemble(members: int = 3, seed: int = 1) -> Ensemble:
    return Ensemble([f"m{n}" for n in range(1, members + 1)], random.Random(seed), PACE)


class OnEnsemble(ConsensusContract):
    """The contract over an ensemble, of which m1 is looked at."""

    def run(self, story: Callable[[object], Awaitable[None]]) -> None:
        run(self._tell(story))

    def new_member(self, storage: object) -> EnsembleMember:
        assert isinstance(storage, Ensemble)
        return storage.member("m1")


class TestEnsembleOfOne(OnEnsemble, AloneContract):
    def storage(self) -> Ensemble:
        return an_ensemble(1)

    def set_full(self, storage: object, full: bool) -> None:
        assert isinstance(storage, Ensemble)
        storage.set_full("m1", full)


class TestLeaderAmongThree(OnEnsemble):
    """The leader of three members, of whom the other two come and go with it."""

    def storage(self) -> Ensemble:
        return an_ensemble(3)

    @asynccontextmanager
    async def running(self, storage: object) -> AsyncIterator[tuple[Consensus, bytes | None, int]]:
        assert isinstance(storage, Ensemble)
        others = [storage.member(name) for name in ("m2", "m3")]
        member = self.new_member(storage)
        snapshot = await member.start()
        await others[0].start()
        storage.depose("m1")
        await others[1].start()
        try:
            yield member, snapshot, (await next_role(member)).term
        finally:
            for one in (member, *others):
                await one.close()


async def three() -> tuple[Ensemble, dict[str, EnsembleMember]]:
    """Three members of whom m1 leads term 1."""
    ensemble = an_ensemble()
    members = {name: ensemble.member(name) for name in ensemble.names}
    for member in members.values():
        await member.start()
    ensemble.depose("m1")
    return ensemble, members


def test_three_members_elect_one_by_themselves() -> None:
    async def story() -> None:
        ensemble = an_ensemble()
        members = [ensemble.member(name) for name in ensemble.names]
        for member in members:
            await member.start()
        assert not any(member.leads for member in members)
        await asyncio.sleep(1)
        assert [member.name for member in members if member.leads] == [ensemble.leader]

    run(story())


def test_followers_hear_of_every_entry_in_order_and_late() -> None:
    async def story() -> None:
        _, members = await three()
        for data in (b"a", b"b", b"c"):
            await members["m1"].propose(data, 1)
        assert members["m2"].delivered < 4
        assert content(await take_entries(members["m2"].committed(), 4)) == [b"a", b"b", b"c"]

    run(story())


def test_another_member_leads_soon_after_the_leader_has_crashed() -> None:
    async def story() -> None:
        ensemble, members = await three()
        await members["m1"].propose(b"a", 1)
        members["m1"].crash()
        await asyncio.sleep(1)
        assert ensemble.leader != "m1"
        successor = members[ensemble.leader]
        assert content(await take_entries(successor.committed(), 3)) == [b"a"]
        assert await successor.propose(b"b", 2) == 4

    run(story())


def test_a_leader_that_is_cut_off_acknowledges_nothing_and_steps_down() -> None:
    async def story() -> None:
        ensemble, members = await three()
        ensemble.cut("m1")
        with pytest.raises(OutcomeUnknown):
            await members["m1"].propose(b"lost", 1)
        assert not members["m1"].leads
        with pytest.raises(NotLeader):
            await members["m1"].read_barrier()
        await asyncio.sleep(1)
        assert ensemble.leader != "m1"
        ensemble.join("m1")
        entries = await take_entries(members["m1"].committed(), 2)
        assert content(entries) == []

    run(story())


def test_what_a_former_leader_proposes_does_not_hold_up_the_present_one() -> None:
    async def story() -> None:
        ensemble, members = await three()
        ensemble.cut("m1")
        ensemble.depose("m2")
        late = asyncio.ensure_future(members["m1"].propose(b"late", 1))
        await asyncio.sleep(0)
        assert await members["m2"].propose(b"a", 2) == 3
        with pytest.raises(OutcomeUnknown):
            await late

    run(story())


def test_a_barrier_of_a_leader_that_is_cut_off_waits_until_it_knows() -> None:
    async def story() -> None:
        ensemble, members = await three()
        ensemble.cut("m1")
        barrier = asyncio.ensure_future(members["m1"].read_barrier())
        await asyncio.sleep(0.1)
        assert not barrier.done()
        ensemble.join("m1")
        assert await barrier == 1

    run(story())


def test_without_a_majority_nobody_leads_and_with_it_somebody_does() -> None:
    async def story() -> None:
        ensemble, members = await three()
        members["m2"].crash()
        members["m3"].crash()
        await asyncio.sleep(2)
        assert not members["m1"].leads
        await ensemble.member("m2").start()
        await asyncio.sleep(2)
        assert ensemble.leader in ("m1", "m2")
        assert ensemble.term == 2

    run(story())


def test_what_a_crashed_leader_proposed_is_found_by_the_next_one_or_lost() -> None:
    async def proposed(seed: int) -> bool:
        ensemble, members = await three()
        ensemble.chance.seed(seed)
        proposal = asyncio.ensure_future(members["m1"].propose(b"a", 1))
        await asyncio.sleep(0)
        members["m1"].crash()
        with pytest.raises(OutcomeUnknown):
            await proposal
        await asyncio.sleep(1)
        return b"a" in [entry.data for entry in ensemble.entries]

    assert {run(proposed(seed)) for seed in range(8)} == {True, False}


def test_a_deposed_leader_hears_that_it_leads_no_more() -> None:
    async def story() -> None:
        ensemble, members = await three()
        ensemble.depose("m2")
        assert await next_role(members["m1"]) == Leadership(1, is_leader=False)
        assert await next_role(members["m2"]) == Leadership(2, is_leader=True)
        with pytest.raises(NotLeader, match="m2"):
            await members["m1"].propose(b"a", 1)

    run(story())


def test_a_member_restarts_from_its_own_disk_and_hears_the_rest() -> None:
    async def story() -> None:
        ensemble, members = await three()
        await members["m1"].propose(b"a", 1)
        await asyncio.sleep(0.3)
        members["m2"].crash()
        await members["m1"].propose(b"b", 1)
        again = ensemble.member("m2")
        await again.start()
        assert again.delivered == 2
        assert content(await take_entries(again.committed(), 3)) == [b"a", b"b"]

    run(story())


def test_a_proposal_is_answered_also_when_the_loop_fires_its_timer_a_little_early() -> None:
    async def story() -> None:
        ensemble = an_ensemble(1)
        member = ensemble.member("m1")
        await member.start()
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + PACE.commit_seconds - 2e-10, lambda: None)
        async with asyncio.timeout(1):
            assert await member.propose(b"a", 1) == 2

    run(story())
