"""What people ask of the daemon of this very machine: the handler of `stackd.v1.Node`.

Each command changes what is on the disk, has the supervisor take up the role that follows from it, and answers once the node
has that role. One command at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from stackd.api.addresses import DEFAULT_PORT, ManagerAddress
from stackd.api.cluster import CLUSTER_METHODS, LeaveRequest
from stackd.api.control import Caller, Empty
from stackd.api.join import JoinAnswer, JoinRequest, join
from stackd.api.local import InitRequest, JoinClusterRequest, LeaveClusterRequest, LocalNodeView, UnlockRequest
from stackd.api.views import rfc3339
from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.base.ids import NodeId
from stackd.daemon import role as roles
from stackd.daemon.addresses import Addresses, check_free, chosen
from stackd.daemon.identity import Identity
from stackd.daemon.managing import ManagerRole
from stackd.daemon.supervisor import Supervisor
from stackd.engine.inputs import FoundAuthority
from stackd.engine.model import Authority
from stackd.engine.parts import Principal, PrincipalKind, Role
from stackd.manager.authority import check_root, new_authority
from stackd.manager.membership import status_of
from stackd.manager.reply import accepted
from stackd.security.identity import NodeKey
from stackd.security.keyring import NodeKeys
from stackd.security.keys import Purpose
from stackd.security.tokens import JoinToken

log = logging.getLogger(__name__)

LEAVE = next(method for method in CLUSTER_METHODS if method.name == "Leave")

SETTLE_SECONDS = 20.0
"""How long a command waits for the node to have its new place; it gets there without anyone waiting."""

DISMISSAL_SECONDS = 50.0
"""How long a manager that leaves waits until consensus has let go of it: a leader hands the leadership on first."""


_LOOK_SECONDS = 0.02
_ANYWHERE = "0.0.0.1"
"""Stands for the address at which a manager will see this node, while the others are looked at before anything is done."""


class LocalNode:
    """Implements `api.local.NodeHandler`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._home = supervisor.home
        self._turn = asyncio.Lock()
        self._doing = ""
        """How far the command is that has its turn."""

    async def info(self, request: Empty, caller: Caller) -> LocalNodeView:
        identity, role = self._home.known, self._supervisor.present
        credentials = self._home.credentials
        state = role.state if role is not None else str(self._home.station)
        belongs = identity is not None and state != roles.IDLE
        return LocalNodeView(
            node_id=identity.node_id if identity and belongs else "",
            cluster=identity.cluster_id if identity and belongs else "",
            state=state,
            executor=identity.executor if identity else "",
            advertise=identity.advertise if identity else "",
            managers=identity.managers if identity else (),
            certificate_until=rfc3339(credentials.presented.not_after) if credentials else None,
            message=await self._lacks(role) if role is not None else "changing its role",
            doing=self._doing,
        )

    async def _lacks(self, role: roles.Role) -> str:
        """What the node waits for. Without a leader everything else is a consequence of that."""
        if isinstance(role, ManagerRole) and not role.manager.managers.leader:
            with contextlib.suppress(StackdError):  # it is just ending
                members = await role.member.members()
                missed = ", ".join(status_of(member).address for member in members if not member.is_connected)
                reached = sum(member.is_connected for member in members)
                which = f", and not {missed}" if missed else ""
                return f"a manager that leads: it reaches {reached} of {len(members)} managers, itself included{which}"
        return role.message or self._supervisor.trouble

    async def init(self, request: InitRequest, caller: Caller) -> LocalNodeView:
        """Raises Refused with daemon.in_cluster, daemon.advertise.unclear or api.listen.failed; what a bad root is refused
        with."""
        async with self._turn:
            state = self._supervisor.role.state
            if state not in (roles.IDLE, roles.ALONE):
                raise _in_cluster("`stackd cluster join-token worker` prints how others join it")
            addresses = chosen(*self._asked(request.listen, request.advertise))
            check_free(addresses.listen)
            if request.root:
                check_root(request.root, request.key, self._supervisor.clock.now())
            if state == roles.IDLE:
                self._supervisor.found()
                await self._take_up(lambda: self._supervisor.role.state == roles.ALONE)
            await self._open_up(addresses, request, caller)
        return await self.info(Empty(), caller)

    async def join(self, request: JoinClusterRequest, caller: Caller) -> LocalNodeView:
        """Raises Refused("daemon.in_cluster"); what `api.join.join` raises."""
        async with self._command():
            if self._supervisor.role.state != roles.IDLE:
                raise _in_cluster("`stackd cluster leave` takes it out of that one")
            asked = self._asked(request.listen, request.advertise)
            chosen(*asked, seen_as=_ANYWHERE)
            key = self._home.joining_key()
            answer = await self._ask_to_join(request, key)
            addresses = chosen(*asked, seen_as=answer.peer)
            self._home.enter(
                self._supervisor.named(_identity_in(answer, addresses)),
                answer.certificate,
                key,
                answer.roots,
                self._supervisor.clock.now(),
            )
            self._doing = "it has a place, and looks for the manager that leads"
            await self._take_up(lambda: self._supervisor.welcomed.is_set() and self._has_its_role())
        return await self.info(Empty(), caller)

    async def leave(self, request: LeaveClusterRequest, caller: Caller) -> LocalNodeView:
        """Raises Refused("daemon.no_cluster"); without `force` also what the cluster refuses, and Unavailable if it can't be
        asked."""
        async with self._command():
            role = self._supervisor.role
            if role.state == roles.IDLE:
                raise roles.NO_CLUSTER
            if not request.force:
                self._doing = "asking the managers to let it go"
                await self._ask_to_leave(role)
            self._doing = "stopping its tasks"
            changes = self._supervisor.changes
            self._supervisor.vacate()
            await self._supervisor.wait_past(changes)
        return await self.info(Empty(), caller)

    async def unlock(self, request: UnlockRequest, caller: Caller) -> LocalNodeView:
        """Raises Refused("daemon.not_locked"); what a wrong key is refused with."""
        async with self._turn:
            if self._supervisor.role.state != roles.LOCKED:
                raise Refused("daemon.not_locked", "this node is not locked")
            self._home.open_keys(request.key)
            self._supervisor.unlock_key = request.key
            await self._take_up(lambda: True)
        return await self.info(Empty(), caller)

    def _asked(self, listen: str, advertise: str) -> tuple[str, str]:
        """The addresses that a command names, else those that the daemon was started with."""
        return listen or self._supervisor.options.listen, advertise or self._supervisor.options.advertise

    @contextlib.asynccontextmanager
    async def _command(self) -> AsyncIterator[None]:
        """The turn of a command that says how far it is."""
        async with self._turn:
            try:
                yield
            finally:
                self._doing = ""

    # Joining

    async def _ask_to_join(self, request: JoinClusterRequest, key: NodeKey) -> JoinAnswer:
        """The cluster's answer. People may name the port at which joiners are taken, or the one that managers are known by."""
        token = JoinToken.parse(request.token)
        question = JoinRequest(
            secret=token.secret, request=key.request(), hostname=socket.gethostname(), availability=request.availability
        )
        last: StackdError | None = None
        for address in _places(request.manager):
            self._doing = f"asking at {address}"
            try:
                return await join(address, token, question)
            except StackdError as error:
                if error.code not in ("api.manager.unreachable", "api.message.malformed"):
                    raise
                last = last or error
        assert last is not None
        raise last

    # Founding

    async def _open_up(self, addresses: Addresses, request: InitRequest, caller: Caller) -> None:
        """Make a cluster of one a cluster that others can join: authority, address, certificate, and then the listeners."""
        role = self._supervisor.role
        assert isinstance(role, ManagerRole)
        identity, manager, now = self._home.identity, role.manager, self._supervisor.clock.now()
        authority = self._authority(self._home.open_keys(self._supervisor.unlock_key), request)
        accepted(await manager.writer.submit(FoundAuthority(authority=authority, principal=caller.principal)))
        await role.member.add(identity.node_id, addresses.advertise.consensus)
        key = NodeKey.create()
        certificate = manager.issuer.issue_node(key.request(), identity.node_id, Role.MANAGER)
        named = msgspec.structs.replace(
            identity, listen=str(addresses.listen), advertise=str(addresses.advertise), managers=(str(addresses.advertise),)
        )
        self._home.enter(named, certificate, key, manager.issuer.roots, now)
        await self._take_up(self._leads)

    def _authority(self, keys: NodeKeys, request: InitRequest) -> Authority:
        return new_authority(
            keys.cluster.sealer(Purpose.AUTHORITY),
            self._home.identity.cluster_id,
            self._supervisor.clock.now(),
            root=request.root,
            key=request.key,
        )

    def _leads(self) -> bool:
        role = self._supervisor.present
        return isinstance(role, ManagerRole) and role.state == roles.MANAGER and role.manager.role.dispatcher is not None

    # Leaving

    async def _ask_to_leave(self, role: roles.Role) -> None:
        """The cluster lets go of this node. Raises what it refuses, or Unavailable."""
        membership = self._supervisor.membership
        if membership is None:
            raise Refused(
                "node.demote.last",
                "this node is the whole cluster",
                hint="`stackd down` ends it; --force forgets it with everything in it",
            )
        changes = self._supervisor.changes
        if isinstance(role, ManagerRole) and role.manager.managers.leads:
            me = Caller(principal=Principal(kind=PrincipalKind.NODE, name=self._home.identity.node_id))
            await role.manager.cluster.leave(LeaveRequest(), me)
        else:
            try:
                await membership.reach.ask(LEAVE, LeaveRequest())
            except StackdError as error:
                error.hint = error.hint or "`stackd cluster leave --force` leaves without asking: this node forgets the cluster"
                raise
        if isinstance(role, ManagerRole):
            await self._until_dismissed(changes)

    async def _until_dismissed(self, changes: int) -> None:
        try:
            async with asyncio.timeout(DISMISSAL_SECONDS):
                await self._supervisor.wait_past(changes)
        except TimeoutError:
            hint = "try again; --force leaves without waiting for them"
            raise Unavailable("daemon.leave.slow", "the other managers have not let go of this one yet", hint=hint) from None

    # Waiting

    async def _take_up(self, settled: Callable[[], bool]) -> None:
        """Have the supervisor take up the next role, and wait for it; and for `settled`, but not for ever. Raises why the node
        can't be what it was told to be."""
        changes = self._supervisor.changes
        self._supervisor.turn()
        await self._supervisor.wait_past(changes)
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not settled():
                    self._supervisor.check()
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            log.warning("the node has not settled yet: seconds=%s", SETTLE_SECONDS)

    def _has_its_role(self) -> bool:
        """Whether a node that joined as a manager is one, and knows who leads."""
        role, credentials = self._supervisor.present, self._home.credentials
        if credentials is None or credentials.presented.node.role is Role.WORKER:
            return role is not None
        return isinstance(role, ManagerRole) and role.manager.managers.leader_address != ""


def _places(text: str) -> tuple[str, ...]:
    address = ManagerAddress.parse(text)
    if address.port == DEFAULT_PORT:
        return (address.joiners,)
    return (str(address), address.joiners)


def _identity_in(answer: JoinAnswer, addresses: Addresses) -> Identity:
    return Identity(
        node_id=NodeId(answer.node_id),
        cluster_id=answer.cluster,
        executor="",
        listen=str(addresses.listen),
        advertise=str(addresses.advertise),
        managers=answer.managers,
    )


def _in_cluster(hint: str) -> Refused:
    return Refused("daemon.in_cluster", "this node is in a cluster already", hint=hint)


class Present:
    """Stands for a handler of the role that the node has at the moment: it is looked up anew at each call."""

    def __init__(self, handler: Callable[[], Any]) -> None:
        self._handler = handler

    def __getattr__(self, name: str) -> Callable[[object, Caller], Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(request: object, caller: Caller) -> Any:
            return getattr(self._handler(), name)(request, caller)

        return call
