"""What people and nodes ask of the cluster as such: the handler of `stackd.v1.Cluster`.

Nothing is decided here but what only consensus knows (whether the managers can go on without one of them) and what only keys
can do (signing). Whether the caller may ask at all was looked at before (`access.py`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from stackd.api.addresses import ManagerAddress
from stackd.api.cluster import (
    AutolockRequest,
    BackupPiece,
    BecomeManagerRequest,
    BecomeManagerResponse,
    ChangeCertificatesRequest,
    IssuedUser,
    IssueUserRequest,
    JoinTokenRequest,
    JoinTokenResponse,
    LeaveRequest,
    MoveManagerRequest,
    RemoveNodeRequest,
    RenewRequest,
    RenewResponse,
    RotateRootRequest,
    UnlockKeyResponse,
    UpdateNodeRequest,
    UserRequest,
    Users,
)
from stackd.api.control import Caller, Empty
from stackd.api.views import ClusterInfoView, NodeView
from stackd.base.errors import Refused
from stackd.base.ids import NodeId
from stackd.base.records import pairs
from stackd.base.time import DAY, SECOND, Duration
from stackd.engine.inputs import (
    Input,
    LeaveCluster,
    PutUser,
    RemoveNode,
    RemoveUser,
    RotateRoot,
    RotateToken,
    UpdateCluster,
    UpdateNode,
)
from stackd.engine.parts import PrincipalKind, Role
from stackd.engine.view import View
from stackd.manager import present
from stackd.manager.authority import Issuer, role_now
from stackd.manager.backup import Backups
from stackd.manager.lookup import node_of
from stackd.manager.managers import Managers
from stackd.manager.membership import check_dismissal
from stackd.manager.reply import accepted
from stackd.manager.writer import Writer
from stackd.raft.consensus import Cluster
from stackd.security.authority import Root

log = logging.getLogger(__name__)

USER_LIFE = Duration(365 * DAY)
"""Of a person's certificate, unless another one is asked for. Taking the user away ends it at any time."""


class UnlockKeys(Protocol):
    """What managers need to start, as the state holds it sealed."""

    def opened(self) -> str:
        """The unlock key, "" if there is none."""
        ...

    def sealed(self, *, on: bool, rotate: bool) -> bytes:
        """What the state is to hold next; b"" for none."""
        ...


class ClusterControl:
    """Implements `api.cluster.ClusterHandler`. `cluster_key` is the one that a new manager is given."""

    def __init__(
        self,
        *,
        writer: Writer,
        consensus: Cluster,
        managers: Managers,
        issuer: Issuer,
        unlock_keys: UnlockKeys,
        cluster_key: Callable[[], bytes],
        backups: Backups,
    ) -> None:
        self._writer = writer
        self._consensus = consensus
        self._managers = managers
        self._issuer = issuer
        self._unlock_keys = unlock_keys
        self._cluster_key = cluster_key
        self._backups = backups

    @property
    def _view(self) -> View:
        return self._writer.view

    async def info(self, request: Empty, caller: Caller) -> ClusterInfoView:
        view, authority = self._view, self._view.authority
        return present.cluster_info_view(
            view,
            leader=present.node_name(view, self._managers.leader),
            managers=self._addresses(),
            root_digest=Root(authority.root_pem).digest if authority is not None else "",
            next_root_digest=Root(authority.rotation.root_pem).digest if authority and authority.rotation else "",
        )

    # Nodes, as people change them.

    async def update_node(self, request: UpdateNodeRequest, caller: Caller) -> NodeView:
        """Raises Refused with node.demote.last or node.demote.quorum."""
        node = node_of(self._view, request.name)
        if request.role is Role.WORKER:
            await self._check_dismissal(node.id)
        command = UpdateNode(
            id=node.id,
            principal=caller.principal,
            availability=request.availability,
            role=request.role,
            labels=pairs(request.labels),
            labels_removed=request.labels_removed,
        )
        await self._carry_out(command)
        return present.node_view(self._view, node_of(self._view, node.id), leader=self._managers.leader)

    async def remove_node(self, request: RemoveNodeRequest, caller: Caller) -> Empty:
        node = node_of(self._view, request.name)
        await self._carry_out(RemoveNode(id=node.id, principal=caller.principal, force=request.force))
        return Empty()

    # Certificates and tokens.

    async def join_token(self, request: JoinTokenRequest, caller: Caller) -> JoinTokenResponse:
        joiners = tuple(address.joiners for address in self._managers.addresses())
        return JoinTokenResponse(token=str(self._issuer.token(request.role)), addresses=joiners)

    async def rotate_token(self, request: JoinTokenRequest, caller: Caller) -> JoinTokenResponse:
        """Raises Refused("cluster.authority.stale") if somebody else was quicker (so also `rotate_root`)."""
        secrets, version = self._issuer.with_new_token(request.role), self._issuer.row.version
        await self._carry_out(
            RotateToken(role=request.role, sealed_secrets=secrets, version=version, principal=caller.principal)
        )
        return await self.join_token(request, caller)

    async def change_certificates(self, request: ChangeCertificatesRequest, caller: Caller) -> ClusterInfoView:
        life = Duration(request.life_seconds * SECOND)
        await self._carry_out(UpdateCluster(principal=caller.principal, certificate_life_ns=life))
        return await self.info(Empty(), caller)

    async def rotate_root(self, request: RotateRootRequest, caller: Caller) -> ClusterInfoView:
        rotation, version = self._issuer.rotation_to(request.root, request.key), self._issuer.row.version
        await self._carry_out(RotateRoot(rotation=rotation, version=version, principal=caller.principal))
        return await self.info(Empty(), caller)

    # The unlock key.

    async def set_autolock(self, request: AutolockRequest, caller: Caller) -> UnlockKeyResponse:
        sealed = self._unlock_keys.sealed(on=request.on, rotate=request.rotate)
        await self._carry_out(UpdateCluster(principal=caller.principal, sealed_unlock_key=sealed))
        return await self.unlock_key(Empty(), caller)

    async def unlock_key(self, request: Empty, caller: Caller) -> UnlockKeyResponse:
        return UnlockKeyResponse(key=self._unlock_keys.opened())

    # People who call from afar.

    async def issue_user(self, request: IssueUserRequest, caller: Caller) -> IssuedUser:
        life = Duration(request.life_seconds * SECOND) or USER_LIFE
        certificate = self._issuer.issue_user(request.request, request.name, request.role, life)
        await self._carry_out(PutUser(name=request.name, role=request.role, principal=caller.principal))
        return IssuedUser(certificate=certificate, roots=self._issuer.roots, managers=self._addresses())

    async def users(self, request: Empty, caller: Caller) -> Users:
        users = sorted(self._view.users.values(), key=lambda user: user.name)
        return Users(items=tuple(present.user_view(user) for user in users))

    async def remove_user(self, request: UserRequest, caller: Caller) -> Empty:
        await self._carry_out(RemoveUser(name=request.name, principal=caller.principal))
        return Empty()

    async def backup(self, request: Empty, caller: Caller) -> AsyncIterator[BackupPiece]:
        log.warning("backup taken: who=%s", caller.principal)
        async for data in self._backups.read():
            yield BackupPiece(data=data)

    # What nodes ask in their own name.

    async def renew(self, request: RenewRequest, caller: Caller) -> RenewResponse:
        node_id = _node_that_calls(caller)
        role = role_now(self._view, node_id)
        if role is None:
            raise Refused("api.access.denied", f"node {node_id} is not a node of this cluster")
        certificate = self._issuer.issue_node(request.request, node_id, role)
        return RenewResponse(certificate=certificate, roots=self._issuer.roots, managers=self._addresses())

    async def become_manager(self, request: BecomeManagerRequest, caller: Caller) -> BecomeManagerResponse:
        """Makes the node a member before it starts one: until it does, it is a learner that nobody waits for."""
        node_id, address = _node_that_calls(caller), ManagerAddress.parse(request.address)
        membership = await self._consensus.add(node_id, address.consensus)
        return BecomeManagerResponse(
            cluster=self._issuer.row.cluster,
            membership=membership,
            cluster_key=self._cluster_key(),
            unlock_key=self._unlock_keys.opened(),
        )

    async def move_manager(self, request: MoveManagerRequest, caller: Caller) -> Empty:
        """Consensus finds the manager at the new address; the role manager tells the nodes."""
        node_id, address = _node_that_calls(caller), ManagerAddress.parse(request.address)
        if self._managers.address_of(node_id) is None:
            raise Refused("api.access.denied", f"node {node_id} is no manager at present")
        await self._consensus.add(node_id, address.consensus)
        log.info("manager moved: node=%s address=%s", node_id, address)
        return Empty()

    async def leave(self, request: LeaveRequest, caller: Caller) -> Empty:
        """Raises Refused with node.demote.last or node.demote.quorum."""
        node_id = _node_that_calls(caller)
        await self._check_dismissal(node_id)
        await self._carry_out(LeaveCluster(id=node_id, principal=caller.principal))
        return Empty()

    async def _check_dismissal(self, node_id: NodeId) -> None:
        check_dismissal(await self._consensus.members(), node_id, present.node_name(self._view, node_id))

    async def _carry_out(self, command: Input) -> None:
        accepted(await self._writer.submit(command))

    def _addresses(self) -> tuple[str, ...]:
        return tuple(str(address) for address in self._managers.addresses())


def _node_that_calls(caller: Caller) -> NodeId:
    if caller.principal.kind is not PrincipalKind.NODE:
        raise Refused("api.access.denied", f"{caller.principal} is not a node")
    return NodeId(caller.principal.name)
