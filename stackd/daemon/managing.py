"""A manager on this node: log, consensus, what decides, and the three listeners on which others reach it.

`managing` opens all of it in the order of need, and closes it the other way round: listeners first, the log last. In a cluster
of one, without certificates, there are no listeners, and the agent's stream needs none.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from stackd.api.addresses import ManagerAddress
from stackd.api.cluster import CLUSTER_METHODS
from stackd.api.dispatch import FromAgent, FromManager, Goodbye
from stackd.api.forward import Router
from stackd.api.grpc_stream import dispatcher_handlers
from stackd.api.join import serve_joiners
from stackd.api.metering import Called
from stackd.api.route import LeaderRoute
from stackd.api.secure import peer_of, serve_tls
from stackd.api.server import control_handlers, service_handlers
from stackd.api.stream import Stream, memory_pair
from stackd.base.errors import StackdError, Unavailable
from stackd.base.time import SteadyClock
from stackd.daemon.authoritycopy import AuthorityCopy, renew_if_expired
from stackd.daemon.credentials import Credentials
from stackd.daemon.desk import Desk
from stackd.daemon.home import Home
from stackd.daemon.moving import keep_address
from stackd.daemon.reach import Reach
from stackd.daemon.role import ALONE, MANAGER
from stackd.daemon.sources import Following
from stackd.engine.model import Node as NodeRecord
from stackd.engine.parts import Role
from stackd.engine.store import Store
from stackd.engine.view import View
from stackd.manager.dispatcher import turn_away
from stackd.manager.fellows import Fellows
from stackd.manager.manager import Foundation, Manager
from stackd.raft.address import listen
from stackd.raft.credentials import Credentials as PeerCredentials
from stackd.raft.member import ClusterMember
from stackd.raft.membership import decode_membership
from stackd.raft.peers import Hello
from stackd.raft.transport import TlsPeers
from stackd.security.keyring import NodeKeys
from stackd.security.keys import Purpose
from stackd.security.tls import mutual_context

log = logging.getLogger(__name__)

_REMOVED = "raft.member.removed"


@dataclass(frozen=True, slots=True)
class Network:
    """What a manager has that serves others; one that is alone has none of it."""

    credentials: Credentials
    reach: Reach
    listen: ManagerAddress
    advertise: ManagerAddress


class ManagerRole:
    """The role of a manager. It is over when consensus has let go of it."""

    def __init__(
        self,
        manager: Manager,
        member: ClusterMember,
        control: Any,
        group: asyncio.TaskGroup,
        network: Network | None,
        renew_expired: Callable[[], None],
    ) -> None:
        """`renew_expired` renews this node's certificate if it has expired, and asks nobody."""
        self.manager = manager
        self.member = member
        self.control = control
        self.cluster = manager.cluster
        self.renew_expired = renew_expired
        self.message = ""
        self.state = ALONE if network is None else MANAGER
        self._group = group
        self._network = network
        self._route = None
        if network is not None:
            self._route = LeaderRoute(self._leader_elsewhere, network.credentials.material, group)

    def _leader_elsewhere(self) -> ManagerAddress | None:
        """Where the leader is; None if that is this manager. One that has just been elected has yet to apply what was
        acknowledged before, and answers nothing until then. Raises Unavailable("manager.no_leader")."""
        address = self.manager.managers.elsewhere()
        if address is None and not self.manager.writer.leads:
            raise Unavailable("manager.no_leader", "this manager is about to lead", hint="try again in a moment")
        return address

    @property
    def router(self) -> Router | None:
        return self._route

    @property
    def unlock_key(self) -> str:
        """With which this manager's keys are locked; "" for none."""
        return self.manager.autolock.opened()

    async def connect(self) -> Stream[FromManager, FromAgent]:
        """The leader's own agent needs no socket; the agents of other managers go to the leader like any worker's."""
        network, managers = self._network, self.manager.managers
        if network is None or managers.leads:
            return self._connect_here()
        if managers.leader_address:
            network.reach.redirect(managers.leader_address)
        return await network.reach.stream(but=str(network.advertise))

    def _connect_here(self) -> Stream[FromManager, FromAgent]:
        ours, theirs = memory_pair()
        node_id = self.manager.managers.me
        host = self._network.advertise.host if self._network is not None else ""
        founder = NodeRecord(id=node_id, created_at=self.manager.writer.view.now, role=Role.MANAGER)
        session = self.manager.role.serve(theirs, address=host, node=founder, peer=node_id)
        self._group.create_task(session, name="session")
        return ours

    async def serve_agent(self, stream: Stream[FromAgent, FromManager], context: Any) -> None:
        """An agent has opened a stream on the node listener."""
        try:
            peer = peer_of(context)
            node_id = self.manager.access.agent(peer)
        except StackdError as error:
            await turn_away(stream, Goodbye(reason=error.message))
            return
        await self.manager.role.serve(stream, address=peer.address, peer=node_id)

    async def wait_registered(self) -> None:
        """Return once the node's own agent has said what it can run; at once while the disk is full, which can last."""
        writer = self.manager.writer
        if self.member.storage_error is not None:
            return
        await writer.wait_ready()
        while self.manager.managers.me not in writer.view.node_statuses:
            await writer.feed.wait_past(writer.feed.index)

    async def over(self) -> None:
        error = await self.member.ended()
        if error.code != _REMOVED:
            raise error
        log.warning("no manager any more: %s", error.message)

    @asynccontextmanager
    async def listening(self, called: Called | None) -> AsyncIterator[None]:
        """Serve nodes, people from afar and joiners inside the block. Raises Refused("api.listen.failed")."""
        if self._network is None:
            yield
            return
        manager, network = self.manager, self._network
        access, material, place = manager.access, network.credentials.material, network.listen
        handlers = (
            control_handlers(self.control, access.caller_of, self._route, access.scope, called),
            service_handlers(CLUSTER_METHODS, self.cluster, access.caller_of, self._route, access.scope, called),
            dispatcher_handlers(self.serve_agent),
        )
        async with AsyncExitStack() as listeners:
            await listeners.enter_async_context(serve_tls(str(place), material, handlers))
            await listeners.enter_async_context(serve_joiners(place.host, place.port + 2, material, manager.joiners))
            yield

    async def close(self) -> None:
        await self.manager.role.close()
        if self._route is not None:
            await self._route.close()


@asynccontextmanager
async def managing(
    home: Home, keys: NodeKeys, network: Network | None, clock: SteadyClock, desk: Desk
) -> AsyncIterator[ManagerRole]:
    """A manager that runs inside the block. Raises StackdError if it can't start."""
    copy = AuthorityCopy(home.path)

    def renew_expired() -> None:
        if network is not None:
            renew_if_expired(network.credentials, copy, keys.cluster.sealer(Purpose.AUTHORITY), clock)

    renew_expired()
    state = _State()
    member = _member(home, keys, network, state, desk.options.managers)
    snapshot = await member.start()
    try:
        state.store = Store() if snapshot is None else Store.restore(snapshot)
        foundation = Foundation(
            node_id=home.identity.node_id,
            cluster_id=home.identity.cluster_id,
            store=state.store,
            consensus=member,
            cluster_key=keys.cluster,
            key_file=keys,
        )
        following = Following(desk.options, foundation.node_id, keys.cluster)
        meter = desk.metrics
        manager = Manager(foundation, clock, random.SystemRandom(), duties=(following.run,), meter=meter)
        following.attach(manager.writer)
        if network is not None:
            copy.follow(manager.writer)
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            life = group.create_task(outlive(_live(manager, network), ending), name="manager")
            role = ManagerRole(manager, member, desk.control(manager, keys, following), group, network, renew_expired)
            async with role.listening(meter.called if meter is not None else None):
                yield role
            await role.close()
            ending.set()
            life.cancel()
    finally:
        await member.close()


async def _live(manager: Manager, network: Network | None) -> None:
    """Everything that a manager does until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(manager.run(), name="manager's parts")
        if network is not None:
            address = keep_address(manager.managers, manager.consensus, network.advertise, network.credentials.material)
            group.create_task(address, name="own address")


async def outlive(life: Coroutine[Any, Any, None], ending: asyncio.Event) -> None:
    """What fails in `life` because it is about to end is no failure: the next role has nothing to do with it."""
    try:
        await life
    except* StackdError as errors:
        if not ending.is_set():
            raise
        log.info("while the role ended: reason=%s", errors.exceptions[0])


class _State:
    """The state as the other managers' certificates are compared with it: empty until the log is open."""

    def __init__(self) -> None:
        self.store = Store()

    def view(self) -> View:
        return self.store.view


def _member(home: Home, keys: NodeKeys, network: Network | None, state: _State, elsewhere: Sequence[str]) -> ClusterMember:
    """The member of consensus; other members may be at `elsewhere` (HOST[:PORT]). Raises as opening the log does; StackdError
    ("raft.address.unusable")."""
    identity = home.identity
    directory = home.open_log(keys)
    initial = decode_membership(identity.membership) if identity.membership else None
    if network is None:
        return ClusterMember(directory.disk, keys.log, directory.identity, initial=initial)
    peers = TlsPeers(
        Hello(node=identity.node_id, cluster=identity.cluster_id),
        listen(network.listen.host, network.listen.port + 1),
        _peer_credentials(network.credentials, Fellows(state.view, identity.cluster_id)),
        elsewhere=[address.consensus for address in map(ManagerAddress.parse, elsewhere)],
    )
    return ClusterMember(directory.disk, keys.log, directory.identity, peers=peers, initial=initial)


def _peer_credentials(credentials: Credentials, fellows: Fellows) -> PeerCredentials:
    return PeerCredentials(
        to_dial=lambda: mutual_context(credentials.material(), server=False),
        to_accept=lambda: mutual_context(credentials.material(), server=True),
        name_of=fellows.name_of,
    )
