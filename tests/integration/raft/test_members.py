"""Members with their threads and real disks, over streams in one process: they keep the contract of consensus together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.base.records import pairs
from stackd.raft.consensus import Entry, Installed, Member, NotLeader, OutcomeUnknown, SnapshotView
from stackd.raft.directory import open_directory
from stackd.raft.frame import Identity
from stackd.raft.member import ClusterMember
from stackd.raft.membership import Membership, decode_membership
from stackd.raft.settings import DEFAULT_SETTINGS, Settings

from raft_builders import SEALER
from raft_streams import Network

WAIT_SECONDS = 15.0
THREE = Membership(epoch=0, voters=pairs({name: f"{name}:1" for name in "abc"}))


@dataclass
class Running:
    """A started member and what it has told so far."""

    name: str
    member: ClusterMember
    items: list[Entry | Installed] = field(default_factory=list)
    leads: int = 0
    """The term it leads; 0 when it doesn't."""

    @property
    def data(self) -> list[bytes]:
        return [item.data for item in self.items if isinstance(item, Entry) and item.data]

    async def follow_entries(self) -> None:
        async for item in self.member.committed():
            self.items.append(item)

    async def follow_role(self) -> None:
        async for role in self.member.leadership():
            self.leads = role.term if role.is_leader else 0


class Cluster:
    """Members in one loop."""

    def __init__(self, path: Path, group: asyncio.TaskGroup, settings: Settings) -> None:
        self.network = Network()
        self.running: dict[str, Running] = {}
        self._path = path
        self._group = group
        self._settings = settings

    async def start(self, name: str, initial: Membership = THREE) -> Running:
        directory = open_directory(self._path / name, SEALER, Identity("cluster1", name))
        member = ClusterMember(
            directory.disk,
            SEALER,
            directory.identity,
            peers=self.network.join(name),
            initial=initial,
            settings=self._settings,
        )
        self.running[name] = running = Running(name, member)
        await member.start()
        self._group.create_task(running.follow_entries())
        self._group.create_task(running.follow_role())
        return running

    async def stop(self, name: str) -> None:
        await self.running.pop(name).member.close()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not is_so():
                await asyncio.sleep(0.005)

    async def leader(self) -> Running:
        await self.until(lambda: any(running.leads for running in self.running.values()))
        return max(self.running.values(), key=lambda running: running.leads)

    async def write(self, *data: bytes) -> None:
        leader = await self.leader()
        await asyncio.gather(*(leader.member.propose(one, leader.leads) for one in data))


@asynccontextmanager
async def a_cluster(path: Path, names: str = "abc", settings: Settings = DEFAULT_SETTINGS) -> AsyncIterator[Cluster]:
    async with asyncio.TaskGroup() as group:
        cluster = Cluster(path, group, settings)
        try:
            for name in names:
                await cluster.start(name)
            yield cluster
        finally:
            for name in list(cluster.running):
                await cluster.stop(name)


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))  # type: ignore[arg-type]


def test_what_is_acknowledged_is_on_every_member_in_one_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_cluster(tmp_path) as cluster:
            written = [b"%d" % number for number in range(500)]
            await cluster.write(*written)
            await cluster.until(lambda: all(len(running.data) == 500 for running in cluster.running.values()))
            assert [running.data for running in cluster.running.values()] == [written] * 3

    run(story)


def test_when_the_leader_stops_another_leads_and_it_comes_back_as_a_follower(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_cluster(tmp_path) as cluster:
            await cluster.write(b"1")
            old = await cluster.leader()
            await cluster.stop(old.name)
            await cluster.write(b"2")
            back = await cluster.start(old.name)
            await cluster.until(lambda: back.data == [b"1", b"2"])
            assert back.leads == 0

    run(story)


def test_a_leader_that_is_cut_off_answers_its_proposers(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_cluster(tmp_path) as cluster:
            await cluster.write(b"1")
            old = await cluster.leader()
            term = old.leads
            cluster.network.isolate(old.name)
            with pytest.raises(OutcomeUnknown):
                await old.member.propose(b"lost", term)
            await cluster.until(lambda: not old.leads)
            with pytest.raises(NotLeader):
                await old.member.propose(b"refused", term)
            with pytest.raises(NotLeader):
                await old.member.read_barrier()
            await cluster.write(b"2")
            cluster.network.isolate()
            await cluster.until(lambda: old.data == [b"1", b"2"])

    run(story)


def test_a_member_that_was_away_for_long_gets_a_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        content = bytes(range(256)) * 4096
        async with a_cluster(tmp_path, settings=Settings(kept_entries=0)) as cluster:
            await cluster.write(b"1")
            leader = await cluster.leader()
            away = next(running for running in cluster.running.values() if running is not leader)
            cluster.network.isolate(away.name)
            await cluster.write(b"2", b"3")
            index = await leader.member.read_barrier()
            await leader.member.take_snapshot(SnapshotView(index, lambda: iter([content])))
            await cluster.write(b"4")
            cluster.network.isolate()
            await cluster.until(lambda: away.data[-1:] == [b"4"])
            assert Installed(index, content) in away.items
            await cluster.stop(away.name)
            again = await cluster.start(away.name)
            await cluster.until(lambda: again.data == [b"4"])

    run(story)


def test_members_come_and_go_while_the_cluster_works(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_cluster(tmp_path) as cluster:
            await cluster.write(b"1")
            leader = await cluster.leader()
            told = await leader.member.add("d", "d:1")
            new = await cluster.start("d", decode_membership(told))
            await cluster.until(lambda: new.data == [b"1"])
            gone = next(name for name in "abc" if name != leader.name)
            assert {running.member.leader() for running in cluster.running.values()} == {leader.name}
            assert leader.member.feature_level() == 1
            members: dict[str, Member] = {}
            while not ("d" in members and members["d"].is_voter):
                members = {member.node: member for member in await leader.member.members()}
            assert members[leader.name].is_leader
            await cluster.write(b"2")  # what came before it, the change of the members too, is committed with it
            await leader.member.remove(gone)
            error = await asyncio.wait_for(cluster.running[gone].member.ended(), WAIT_SECONDS)
            assert error.code == "raft.member.removed"
            with pytest.raises(StackdError) as refused:
                await cluster.running[gone].member.propose(b"x", 1)
            assert refused.value.code == "raft.member.removed"
            await cluster.write(b"3")
            await cluster.until(lambda: new.data == [b"1", b"2", b"3"])

    run(story)


def test_leadership_is_handed_over_without_a_lost_write(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_cluster(tmp_path) as cluster:
            acknowledged: list[bytes] = []

            async def write_through_it_all() -> None:
                for number in range(300):
                    data = b"%d" % number
                    while data not in acknowledged:
                        leader = await cluster.leader()
                        try:
                            await leader.member.propose(data, leader.leads)
                        except (NotLeader, OutcomeUnknown):
                            await asyncio.sleep(0.001)
                        else:
                            acknowledged.append(data)

            writing = asyncio.create_task(write_through_it_all())
            for _ in range(3):
                leader = await cluster.leader()
                await leader.member.transfer_leadership()
                await cluster.until(lambda old=leader: not old.leads)  # type: ignore[misc]
            await asyncio.wait_for(writing, WAIT_SECONDS)
            for running in cluster.running.values():
                await cluster.until(lambda running=running: running.data[-1:] == [b"299"])  # type: ignore[misc]
                assert set(acknowledged) == set(running.data)

    run(story)


def test_an_idle_cluster_sleeps(tmp_path: Path) -> None:
    """Nothing polls: a member wakes for heartbeats, and alone not at all."""

    async def story() -> None:
        async with a_cluster(tmp_path) as cluster:
            await cluster.write(b"1")
            before = cluster.network.messages
            await asyncio.sleep(1.0)
            assert cluster.network.messages - before < 60

    run(story)
