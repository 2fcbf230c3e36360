"""Managers with real members of consensus, in one process: threads, elections and logs in memory, streams that a test cuts.

What the daemon does beside them (start a member, renew a certificate, register the node) is done here by the book.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from stackd.api.cluster import BecomeManagerRequest, RenewRequest
from stackd.api.control import Caller
from stackd.api.join import JoinAnswer, JoinRequest
from stackd.base.errors import StackdError
from stackd.base.ids import NodeId
from stackd.base.time import Duration, Instant, after
from stackd.daemon.clock import SystemClock
from stackd.engine.inputs import Applied, FoundAuthority, RegisterNode
from stackd.engine.model import Node
from stackd.engine.parts import SYSTEM, NodeCertificate, NodeDescription, Principal, PrincipalKind, Role
from stackd.engine.store import Store
from stackd.manager.authority import new_authority
from stackd.manager.manager import Foundation, Manager
from stackd.raft.frame import Identity
from stackd.raft.member import ClusterMember
from stackd.raft.membership import Membership, decode_membership
from stackd.raft.memory_disk import MemoryDisk
from stackd.raft.settings import Settings
from stackd.raft.wal import Log
from stackd.security.identity import NodeKey, read_certificate
from stackd.security.keys import Purpose, RootKey

from raft_builders import SEALER
from raft_streams import Network

T = TypeVar("T")

CLUSTER = "cluster1"
ANN = Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name="ann"))
WAIT_SECONDS = 15.0


class HostClock(SystemClock):
    """The machine's clock, with a time of day that is off by `off`."""

    def __init__(self) -> None:
        super().__init__()
        self.off = Duration(0)

    def now(self) -> Instant:
        return after(super().now(), self.off)


class MemoryKeyFile:
    """A key file as far as its lock goes."""

    def __init__(self) -> None:
        self.unlock_key = ""

    def follow(self, unlock_key: str) -> bool:
        changed, self.unlock_key = unlock_key != self.unlock_key, unlock_key
        return changed

    def copy(self) -> bytes:
        return b"a key file"


def as_node(node_id: NodeId) -> Caller:
    return Caller(principal=Principal(kind=PrincipalKind.NODE, name=node_id))


class Host:
    """One machine: its key and certificate, and its manager while it is one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.key = NodeKey.create()
        self.node_id = NodeId("")
        self.certificate = b""
        self.key_file = MemoryKeyFile()
        self.clock = HostClock()
        self.member: ClusterMember | None = None
        self.manager: Manager
        self._life: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"10.0.0.{self.number}:2377"

    @property
    def role(self) -> Role:
        """As its certificate says."""
        return read_certificate(self.certificate).node.role

    def registration(self) -> RegisterNode:
        shown = read_certificate(self.certificate)
        return RegisterNode(
            id=self.node_id,
            description=NodeDescription(hostname=f"host{self.number}"),
            address=self.address,
            certificate=NodeCertificate(role=shown.node.role, issuer=shown.issuer_key, until=shown.not_after),
        )

    async def start(self, cluster: Hosts, initial: Membership) -> None:
        disk, identity = MemoryDisk(), Identity(CLUSTER, self.node_id)
        Log.create(disk, SEALER, identity)
        peers = cluster.network.join(self.node_id)
        self.member = ClusterMember(disk, SEALER, identity, peers=peers, initial=initial, settings=Settings())
        await self.member.start()
        foundation = Foundation(
            node_id=self.node_id,
            cluster_id=CLUSTER,
            store=Store(),
            consensus=self.member,
            cluster_key=cluster.key,
            key_file=self.key_file,
        )
        self.manager = Manager(foundation, self.clock, random.Random(self.number))
        self._life = cluster.group.create_task(self.manager.run())

    async def stop(self) -> None:
        member, self.member = self.member, None
        if member is not None and self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
            await member.close()


class Hosts:
    """The cluster. Whoever asks something asks the leader: carrying calls on is not looked at here."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.network = Network()
        self.key = RootKey.generate()
        self.hosts: list[Host] = []

    async def found(self) -> Host:
        """The first manager, from nothing."""
        host = self._new_host()
        host.node_id = NodeId("first")
        await host.start(self, Membership.sole("first", "10.0.0.1:2378"))
        writer = host.manager.writer
        await writer.wait_ready()
        authority = new_authority(self.key.sealer(Purpose.AUTHORITY), CLUSTER, SystemClock().now())
        assert isinstance(await writer.submit(FoundAuthority(authority=authority, principal=SYSTEM)), Applied)
        host.certificate = host.manager.issuer.issue_node(host.key.request(), host.node_id, Role.MANAGER)
        node = Node(id=host.node_id, created_at=Instant(0), role=Role.MANAGER)
        registration = host.registration()
        await writer.submit(RegisterNode(id=host.node_id, description=registration.description, node=node))
        await writer.submit(registration)
        return host

    async def join(self, role: Role) -> Host:
        """Another node, with a token of that role."""
        host = self._new_host()
        answer = await self.ask_to_join(host, role)
        host.node_id, host.certificate = NodeId(answer.node_id), answer.certificate
        await self.register(host)
        if role is Role.MANAGER:
            await self.enter(host)
        return host

    async def ask_to_join(self, host: Host, role: Role) -> JoinAnswer:
        leader = (await self.leader()).manager
        secret = leader.issuer.token(role).secret
        answer = await leader.joiners.join(JoinRequest(secret=secret, request=host.key.request(), hostname="new"))
        assert isinstance(answer, JoinAnswer)
        return answer

    async def enter(self, host: Host) -> None:
        """A node with a manager's certificate becomes one."""
        cluster = (await self.leader()).manager.cluster
        answer = await self.again(
            lambda: cluster.become_manager(BecomeManagerRequest(address=host.address), as_node(host.node_id))
        )
        assert answer.cluster_key == self.key.material
        await host.start(self, decode_membership(answer.membership))
        await self.until(lambda: self.voters() == {one.node_id for one in self.hosts if one.member is not None})

    async def renew(self, host: Host) -> None:
        """The node asks for another certificate, and says that it has it."""
        leader = await self.leader()
        key = NodeKey.create()
        answer = await leader.manager.cluster.renew(RenewRequest(request=key.request()), as_node(host.node_id))
        host.key, host.certificate = key, answer.certificate
        await self.register(host)

    async def register(self, host: Host) -> None:
        await self.again(lambda: self._register(host))

    async def _register(self, host: Host) -> None:
        await (await self.leader()).manager.writer.submit(host.registration())

    def voters(self) -> set[str]:
        """Whom all running managers count as voting members that can be reached, as far as they agree."""
        views = [self.voters_of(host) for host in self.hosts if host.member is not None]
        return views[0] if views and all(view == views[0] for view in views) else set()

    @staticmethod
    def voters_of(host: Host) -> set[str]:
        return {
            status.id
            for status in host.manager.writer.view.node_statuses.values()
            if status.manager is not None and status.manager.voter and status.manager.reachable
        }

    async def leader(self) -> Host:
        """The manager that leads and has begun to decide."""

        def leading() -> list[Host]:
            return [host for host in self.hosts if host.member is not None and host.manager.role.dispatcher is not None]

        await self.until(lambda: len(leading()) == 1)
        return leading()[0]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not is_so():
                await asyncio.sleep(0.01)

    async def again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What somebody who is told to come back gets in the end."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    return await ask()
                except StackdError as error:
                    if error.retry.value == "never":
                        raise
                    await asyncio.sleep(0.05)

    def _new_host(self) -> Host:
        self.hosts.append(Host(len(self.hosts) + 1))
        return self.hosts[-1]


@asynccontextmanager
async def some_hosts() -> AsyncIterator[Hosts]:
    async with asyncio.TaskGroup() as group:
        hosts = Hosts(group)
        try:
            yield hosts
        finally:
            for host in hosts.hosts:
                await host.stop()


def play(story: Callable[[Hosts], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), some_hosts() as hosts:
            await story(hosts)

    asyncio.run(main())
