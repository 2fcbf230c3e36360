"""Who may call what: decided for every call, from the replicated state as this manager has it.

A certificate says who calls and can only narrow what is allowed. A node may call if it is a member of the cluster and its role,
in the state and in its certificate, is the one that the method asks for; a person, if there is a record of that name and its
role and the certificate's both reach as far. Managers may name whom they call for; then it is that one who is looked at.
When the state takes a right away, what is still being streamed on the strength of it ends at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, assert_never

from stackd.api.control import Caller, Method
from stackd.api.forward import forwarded_caller
from stackd.api.secure import Peer, peer_of
from stackd.base.errors import Refused, Unavailable
from stackd.base.ids import NodeId
from stackd.engine.model import Node, User
from stackd.engine.parts import Principal, PrincipalKind, Role, UserRole
from stackd.engine.store import Changes
from stackd.engine.view import View
from stackd.security.identity import NodeIdentity, UserIdentity

log = logging.getLogger(__name__)


class Access:
    """The rights of those who reach this manager over the network. Have `notice` told of each applied entry."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view
        self._open: dict[asyncio.Timeout, tuple[Principal, Method]] = {}

    def caller_of(self, context: Any, method: Method) -> Caller:
        """The caller of a method served with `api.secure.serve_tls`; see `authorize`."""
        peer = peer_of(context)
        try:
            named = forwarded_caller(context, peer)
        except Refused as refusal:
            log.warning("refused: from=%s method=%s reason=%s", peer.address, method.name, refusal.message)
            raise
        return self.authorize(peer, method, named)

    def authorize(self, peer: Peer, method: Method, named: Caller | None = None) -> Caller:
        """Who calls, if that is allowed; `named` is whom a manager calls for. Raises Refused("api.access.denied")."""
        try:
            if named is None:
                principal = self._own(peer, method)
            else:
                self._check_manager(peer)
                principal = named.principal
                self._check(principal, method)
        except Refused as refusal:
            log.warning("refused: who=%s from=%s method=%s", peer.presented.name, peer.address, method.name)
            raise refusal
        return Caller(principal=principal)

    def agent(self, peer: Peer) -> NodeId:
        """The node whose agent opens a stream. Raises Refused("api.access.denied")."""
        node = self._node_of(peer)
        if node is None:
            log.warning("agent refused: who=%s from=%s", peer.presented.name, peer.address)
            raise _denied(f"{peer.presented.name} is not a node of this cluster")
        return node.id

    @asynccontextmanager
    async def scope(self, caller: Caller, method: Method) -> AsyncIterator[None]:
        """What a stream lives in; raises Refused("api.access.denied") when the caller's right ends."""
        try:
            async with asyncio.timeout(None) as limit:
                self._open[limit] = (caller.principal, method)
                try:
                    yield
                finally:
                    del self._open[limit]
        except TimeoutError:
            if not limit.expired():
                raise
            raise _denied(f"{caller.principal.name} may not call {method.name} any more") from None

    def notice(self, changes: Changes) -> None:
        """An entry was applied: cut what nobody has a right to any more."""
        touched = any(isinstance(row, Node | User) for row in changes.puts)
        if not touched and not any(table in ("nodes", "users") for table, _ in changes.deletes):
            return
        for limit, (principal, method) in tuple(self._open.items()):
            try:
                self._check(principal, method)
            except Refused:
                log.warning("cut off: who=%s method=%s", principal, method.name)
                limit.reschedule(asyncio.get_running_loop().time())

    def _own(self, peer: Peer, method: Method) -> Principal:
        """The peer speaks for itself."""
        identity = peer.presented.identity
        self._check_cluster(identity.cluster)
        match identity:
            case NodeIdentity():
                if method.nodes is Role.MANAGER and identity.role is not Role.MANAGER:
                    raise _denied(f"node {identity.node_id} has no manager's certificate")
                principal = Principal(kind=PrincipalKind.NODE, name=identity.node_id)
            case UserIdentity():
                _check_reach(identity.role, method, identity.name)
                principal = Principal(kind=PrincipalKind.CERTIFICATE, name=identity.name)
            case other:
                assert_never(other)
        self._check(principal, method)
        return principal

    def _check(self, principal: Principal, method: Method) -> None:
        """Whether the state lets the principal call the method. Raises Refused("api.access.denied")."""
        match principal.kind:
            case PrincipalKind.LOCAL_USER:
                return
            case PrincipalKind.CERTIFICATE:
                user = self._view().users.get(principal.name)
                if user is None:
                    raise _denied(f"there is no user {principal.name}", "`stackd cluster ca user` lets one in")
                _check_reach(user.role, method, principal.name)
            case PrincipalKind.NODE:
                node = self._view().nodes.get(principal.name)
                if node is None:
                    raise _denied(f"node {principal.name} is not a node of this cluster")
                if method.nodes is None or (method.nodes is Role.MANAGER and node.role is not Role.MANAGER):
                    raise _denied(f"node {principal.name} may not call {method.name}")
            case PrincipalKind.SOURCE | PrincipalKind.SYSTEM:
                raise _denied(f"{principal} is nobody who calls")
            case other:
                assert_never(other)

    def _check_manager(self, peer: Peer) -> None:
        node = self._node_of(peer)
        if node is None or node.role is not Role.MANAGER or not peer.is_manager:
            raise _denied(f"{peer.presented.name} is not a manager of this cluster")

    def _node_of(self, peer: Peer) -> Node | None:
        identity = peer.presented.identity
        self._check_cluster(identity.cluster)
        return self._view().nodes.get(identity.node_id) if isinstance(identity, NodeIdentity) else None

    def _check_cluster(self, named: str) -> None:
        """A root that people bring may have signed for other clusters as well. Raises also Unavailable("manager.no_leader")
        while this manager knows nothing yet."""
        authority = self._view().authority
        if authority is None:
            raise Unavailable("manager.no_leader", "this manager has not caught up yet", hint="try again in a moment")
        if authority.cluster != named:
            raise _denied("the certificate is for another cluster")


def _check_reach(role: UserRole, method: Method, name: str) -> None:
    if not role.allows(method.needs):
        raise _denied(f"{name} has the role {role}, and {method.name} needs {method.needs}", "ask an admin of the cluster")


def _denied(why: str, hint: str | None = None) -> Refused:
    return Refused("api.access.denied", why, hint=hint)
