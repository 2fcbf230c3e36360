"""The Cluster service, `stackd.v1.Cluster`: nodes, certificates, join tokens and who may call from afar.

Like Control (`api/control.py`) it is one table of methods. Some are called by nodes in their own name, with the certificate
that they have; the rest by people. What is secret in an answer isn't shown by its repr.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

import msgspec

from stackd.api.control import Caller, Empty, Message, Method
from stackd.api.views import ClusterInfoView, NodeView, UserView
from stackd.engine.parts import Availability, Role, UserRole


class JoinTokenRequest(Message, frozen=True, kw_only=True):
    role: Role


class JoinTokenResponse(Message, frozen=True, kw_only=True):
    """`addresses` are where managers take joiners."""

    token: str
    addresses: tuple[str, ...]

    def __repr__(self) -> str:
        return f"JoinTokenResponse(addresses={self.addresses})"


class UpdateNodeRequest(Message, frozen=True, kw_only=True):
    """Change a node, named by hostname or id; None leaves a setting as it is. `labels` are added or replaced. A manager is
    demoted only if the others can go on without it."""

    name: str
    availability: Availability | None = None
    role: Role | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    labels_removed: tuple[str, ...] = ()


class RemoveNodeRequest(Message, frozen=True, kw_only=True):
    """Take a node out for good; one that isn't down only with `force`."""

    name: str
    force: bool = False


class ChangeCertificatesRequest(Message, frozen=True, kw_only=True):
    """How long certificates live that are issued from now on."""

    life_seconds: int


class RotateRootRequest(Message, frozen=True, kw_only=True):
    """Replace the root by this one (PEM), or by a new one (b"")."""

    root: bytes = b""
    key: bytes = b""

    def __repr__(self) -> str:
        return f"RotateRootRequest(root={self.root!r})"


class AutolockRequest(Message, frozen=True, kw_only=True):
    """Let managers start only with an unlock key, or without one. `rotate`: with another one than at present."""

    on: bool
    rotate: bool = False


class UnlockKeyResponse(Message, frozen=True, kw_only=True):
    """`key` is "" while managers start without."""

    key: str

    def __repr__(self) -> str:
        return "UnlockKeyResponse()"


class IssueUserRequest(Message, frozen=True, kw_only=True):
    """Let a person call with this role; `request` is a certificate request in PEM form."""

    name: str
    role: UserRole
    request: bytes
    life_seconds: int = 0


class IssuedUser(Message, frozen=True, kw_only=True):
    """What a person needs besides the key: `managers` are where they answer."""

    certificate: bytes
    roots: bytes
    managers: tuple[str, ...]


class Users(Message, frozen=True, kw_only=True):
    items: tuple[UserView, ...]


class UserRequest(Message, frozen=True, kw_only=True):
    name: str


class RenewRequest(Message, frozen=True, kw_only=True):
    """A node asks for another certificate for itself: `request` in PEM form, for a new key."""

    request: bytes


class RenewResponse(Message, frozen=True, kw_only=True):
    """The certificate is for the role that the node has now. `roots` are all that it shall trust."""

    certificate: bytes
    roots: bytes
    managers: tuple[str, ...]


class BecomeManagerRequest(Message, frozen=True, kw_only=True):
    """A node with a manager's certificate, about to start a member: `address` is where it will serve nodes, `host:port`."""

    address: str


class MoveManagerRequest(Message, frozen=True, kw_only=True):
    """A manager serves nodes at another `address` now, `host:port`."""

    address: str


class BecomeManagerResponse(Message, frozen=True, kw_only=True):
    """`membership` is what `raft.membership.decode_membership` reads; `cluster_key` is for the key file and nothing else."""

    cluster: str
    membership: bytes
    cluster_key: bytes
    unlock_key: str = ""

    def __repr__(self) -> str:
        return f"BecomeManagerResponse(cluster={self.cluster!r})"


class LeaveRequest(Message, frozen=True, kw_only=True):
    """A node asks to be let go for good. A manager only if the others can go on without it."""


class BackupPiece(Message, frozen=True, kw_only=True):
    """The next bytes of a backup (`raft.backup`)."""

    data: bytes

    def __repr__(self) -> str:
        return f"BackupPiece(<{len(self.data)} bytes>)"


_method = partial(Method, service="Cluster")

CLUSTER_METHODS = (
    _method("Info", Empty, ClusterInfoView, needs=UserRole.VIEWER),
    _method("JoinToken", JoinTokenRequest, JoinTokenResponse),
    _method("RotateToken", JoinTokenRequest, JoinTokenResponse),
    _method("UpdateNode", UpdateNodeRequest, NodeView),
    _method("RemoveNode", RemoveNodeRequest, Empty),
    _method("ChangeCertificates", ChangeCertificatesRequest, ClusterInfoView),
    _method("RotateRoot", RotateRootRequest, ClusterInfoView),
    _method("SetAutolock", AutolockRequest, UnlockKeyResponse),
    _method("UnlockKey", Empty, UnlockKeyResponse),
    _method("IssueUser", IssueUserRequest, IssuedUser),
    _method("Users", Empty, Users),
    _method("RemoveUser", UserRequest, Empty),
    _method("Backup", Empty, BackupPiece, stream=True),
    _method("Renew", RenewRequest, RenewResponse, nodes=Role.WORKER),
    _method("BecomeManager", BecomeManagerRequest, BecomeManagerResponse, nodes=Role.MANAGER),
    _method("MoveManager", MoveManagerRequest, Empty, nodes=Role.MANAGER),
    _method("Leave", LeaveRequest, Empty, nodes=Role.WORKER),
)


class ClusterHandler(Protocol):
    """What the manager implements: one coroutine (or async generator) per method, named in snake_case."""

    async def info(self, request: Empty, caller: Caller) -> ClusterInfoView: ...
    async def join_token(self, request: JoinTokenRequest, caller: Caller) -> JoinTokenResponse: ...
    async def rotate_token(self, request: JoinTokenRequest, caller: Caller) -> JoinTokenResponse: ...
    async def update_node(self, request: UpdateNodeRequest, caller: Caller) -> NodeView: ...
    async def remove_node(self, request: RemoveNodeRequest, caller: Caller) -> Empty: ...
    async def change_certificates(self, request: ChangeCertificatesRequest, caller: Caller) -> ClusterInfoView: ...
    async def rotate_root(self, request: RotateRootRequest, caller: Caller) -> ClusterInfoView: ...
    async def set_autolock(self, request: AutolockRequest, caller: Caller) -> UnlockKeyResponse: ...
    async def unlock_key(self, request: Empty, caller: Caller) -> UnlockKeyResponse: ...
    async def issue_user(self, request: IssueUserRequest, caller: Caller) -> IssuedUser: ...
    async def users(self, request: Empty, caller: Caller) -> Users: ...
    async def remove_user(self, request: UserRequest, caller: Caller) -> Empty: ...
    def backup(self, request: Empty, caller: Caller) -> AsyncIterator[BackupPiece]: ...
    async def renew(self, request: RenewRequest, caller: Caller) -> RenewResponse: ...
    async def become_manager(self, request: BecomeManagerRequest, caller: Caller) -> BecomeManagerResponse: ...
    async def move_manager(self, request: MoveManagerRequest, caller: Caller) -> Empty: ...
    async def leave(self, request: LeaveRequest, caller: Caller) -> Empty: ...
