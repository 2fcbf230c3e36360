"""The certificate authority as a manager uses it: it opens what the replicated state holds sealed, signs, and makes what the
state is to hold next.

Every manager can sign, since every manager has the cluster's key: that is how one whose certificate has expired while the
cluster was off renews it before it talks to anybody (`Issuer.issue_node` asks nobody). Which role a node's certificate gives
follows what the state says, never what the node asks for.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stackd.base.errors import Refused, StackdError
from stackd.base.ids import NodeId
from stackd.base.records import Record, decoder, encode
from stackd.base.time import Clock, Duration, Instant
from stackd.engine.model import Authority
from stackd.engine.parts import Role, RootRotation, UserRole
from stackd.engine.view import View
from stackd.raft.consensus import Sealer
from stackd.security.authority import NODE_LIFE_NS, Root
from stackd.security.authority import Authority as Signer
from stackd.security.identity import NodeIdentity, UserIdentity
from stackd.security.tokens import JoinSecrets, JoinToken, new_secret

_ROOT_KEY = b"root key:"
_SECRETS = b"join secrets"


class _Secrets(Record):
    """The join secrets as they are sealed."""

    worker: str
    manager: str


_decode_secrets = decoder(_Secrets).decode


class Issuer:
    """Signs with what `row` says now. `sealer` is that of the cluster key for `Purpose.AUTHORITY`."""

    def __init__(self, row: Callable[[], Authority | None], sealer: Sealer, clock: Clock) -> None:
        self._row = row
        self._sealer = sealer
        self._clock = clock
        self._signer: tuple[bytes, Signer] | None = None
        """The one that was opened last, with what it was sealed as: opening costs more than signing."""

    @property
    def row(self) -> Authority:
        """Raises Refused("cluster.authority.missing") while the cluster has no certificates."""
        row = self._row()
        if row is None:
            hint = "`stackd cluster init` on this node makes them"
            raise Refused("cluster.authority.missing", "the cluster has no certificates yet", hint=hint)
        return row

    @property
    def roots(self) -> bytes:
        """What nodes trust now (PEM): the root that join tokens name, then the one that takes its place, if any."""
        return roots_of(self.row)

    def token(self, role: Role) -> JoinToken:
        """The join token of a role. Raises StackdError("security.seal.broken")."""
        row = self.row
        secrets = self._secrets(row)
        return JoinToken(Root(row.root_pem).digest, secrets.manager if role is Role.MANAGER else secrets.worker)

    def role_of(self, secret: str) -> Role | None:
        """The role that a token's secret gives; None for a wrong one."""
        return self._secrets(self.row).role_of(secret)

    def issue_node(self, request: bytes, node_id: NodeId, role: Role) -> bytes:
        """A node's certificate (PEM, with the intermediate behind it if there is one). Raises StackdError
        ("security.request.bad"), and Refused("cluster.root.no_key") if only the root's certificate is in the cluster."""
        row = self.row
        identity = NodeIdentity(node_id, role, row.cluster)
        return self._open(row).issue(request, identity, self._clock.now(), row.certificate_life_ns)

    def issue_user(self, request: bytes, name: str, role: UserRole, life_ns: Duration) -> bytes:
        """A person's certificate. Raises the same."""
        row = self.row
        return self._open(row).issue(request, UserIdentity(name, role, row.cluster), self._clock.now(), life_ns)

    # What the state is to hold next.

    def with_new_token(self, role: Role) -> bytes:
        """Sealed join secrets, that of `role` being new."""
        old = self._secrets(self.row)
        worker = new_secret() if role is Role.WORKER else old.worker
        return _seal_secrets(self._sealer, JoinSecrets(worker, new_secret() if role is Role.MANAGER else old.manager))

    def with_new_tokens(self) -> bytes:
        """Sealed join secrets, both new: tokens name the root, so they change with it."""
        return _seal_secrets(self._sealer, _new_secrets())

    def rotation_to(self, root: bytes, key: bytes) -> RootRotation:
        """What begins to replace the root by the given one (PEM), or by a new one (b""). Raises what reading it raises, and
        Refused("cluster.root.same") if that is the present one."""
        row, now = self.row, self._clock.now()
        new = _given_or_new(root, key, now)
        if new.root.public_key_id == row.issuer:
            raise Refused("cluster.root.same", "that is the root that the cluster has")
        crossed = self._load(row.root_pem, row.sealed_key, row.issuer, b"").cross_sign(new)
        return RootRotation(
            root_pem=new.root.pem,
            sealed_key=_seal_key(self._sealer, new),
            crossed_pem=crossed.intermediate,
            issuer=new.root.public_key_id,
            started_at=now,
        )

    def _open(self, row: Authority) -> Signer:
        """Who signs now: during a rotation the new root, with itself as signed by the old one."""
        new = row.rotation
        if new is not None:
            return self._load(new.root_pem, new.sealed_key, new.issuer, new.crossed_pem)
        return self._load(row.root_pem, row.sealed_key, row.issuer, b"")

    def _load(self, root: bytes, sealed_key: bytes, issuer: str, crossed: bytes) -> Signer:
        if not sealed_key:
            raise Refused(
                "cluster.root.no_key",
                "the cluster doesn't have the key of its root certificate, so it can't sign",
                hint="replace the root: `stackd cluster ca rotate`",
            )
        if self._signer is None or self._signer[0] != sealed_key or self._signer[1].intermediate != crossed:
            key = self._sealer.open(sealed_key, _ROOT_KEY + issuer.encode())
            self._signer = sealed_key, Signer.load(Root(root), key, crossed)
        return self._signer[1]

    def _secrets(self, row: Authority) -> JoinSecrets:
        opened = self._sealer.open(row.sealed_secrets, _SECRETS)
        try:
            secrets: _Secrets = _decode_secrets(opened)
        except msgspec.DecodeError as exc:
            raise StackdError("security.seal.broken", "the join secrets can't be read") from exc
        return JoinSecrets(worker=secrets.worker, manager=secrets.manager)


def new_authority(sealer: Sealer, cluster: str, now: Instant, *, root: bytes = b"", key: bytes = b"") -> Authority:
    """What makes a cluster one that others can join: with the given root and key (PEM), or with new ones. Raises StackdError
    as `Root.parse` and `Signer.load` do."""
    signer = _given_or_new(root, key, now)
    return Authority(
        cluster=cluster,
        root_pem=signer.root.pem,
        issuer=signer.root.public_key_id,
        sealed_key=_seal_key(sealer, signer),
        sealed_secrets=_seal_secrets(sealer, _new_secrets()),
        created_at=now,
        certificate_life_ns=NODE_LIFE_NS,
    )


def check_root(root: bytes, key: bytes, now: Instant) -> None:
    """See that a root and its key (PEM) can be taken, before anything is done. Raises as `new_authority`."""
    Signer.load(Root.parse(root, now), key)


def roots_of(row: Authority) -> bytes:
    """The roots that nodes trust while the authority is this, that of the join tokens first."""
    return row.root_pem + (row.rotation.root_pem if row.rotation is not None else b"")


def role_now(view: View, node_id: NodeId) -> Role | None:
    """The role that a node's next certificate gives: a manager that was demoted stays one until consensus has let go of it.
    None for a node that is no member of the cluster."""
    node, status = view.nodes.get(node_id), view.node_statuses.get(node_id)
    if node is None:
        return None
    return Role.MANAGER if status is not None and status.manager is not None else node.role


def _given_or_new(root: bytes, key: bytes, now: Instant) -> Signer:
    return Signer.load(Root.parse(root, now), key) if root else Signer.create(now)


def _new_secrets() -> JoinSecrets:
    return JoinSecrets(worker=new_secret(), manager=new_secret())


def _seal_key(sealer: Sealer, signer: Signer) -> bytes:
    return sealer.seal(signer.key_pem(), _ROOT_KEY + signer.root.public_key_id.encode())


def _seal_secrets(sealer: Sealer, secrets: JoinSecrets) -> bytes:
    return sealer.seal(encode(_Secrets(worker=secrets.worker, manager=secrets.manager)), _SECRETS)
