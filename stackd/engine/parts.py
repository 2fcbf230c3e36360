"""What stored records are made of: kinds, states, and records that lie inside others.

Nothing here is a record of its own: none has a key or a table. Rows are in `model` and `status`, and the rules that they
keep hold here as well: frozen, array-like, new fields only at the end and with a default.
"""

from __future__ import annotations

import enum

from stackd.base.ids import NetworkId, SpecDigest, TaskId
from stackd.base.records import Pairs, Record
from stackd.base.time import Instant
from stackd.spec.stack import Resources, ServiceSettings


class PrincipalKind(enum.StrEnum):
    LOCAL_USER = "local-user"
    CERTIFICATE = "certificate"
    NODE = "node"
    SOURCE = "source"
    SYSTEM = "system"


class Principal(Record):
    """Who did it."""

    kind: PrincipalKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


SYSTEM = Principal(kind=PrincipalKind.SYSTEM, name="stackd")


class Role(enum.StrEnum):
    MANAGER = "manager"
    WORKER = "worker"


class Availability(enum.StrEnum):
    ACTIVE = "active"
    PAUSE = "pause"
    DRAIN = "drain"


class NodeState(enum.StrEnum):
    UNKNOWN = "unknown"
    DOWN = "down"
    READY = "ready"
    DISCONNECTED = "disconnected"


class NodeDescription(Record):
    """What an agent says of its host. `executors` names what it can run tasks with, best first; `features` are words such
    as "ports-map" (published ports may differ from target ports) that filters ask for."""

    hostname: str
    os: str = ""
    arch: str = ""
    resources: Resources = Resources()
    executors: tuple[str, ...] = ()
    engine_version: str = ""
    engine_labels: Pairs = ()
    features: tuple[str, ...] = ()


class NodeCertificate(Record):
    """The certificate that a node uses: the role it gives, the key that signed it (see `Authority`), and when it ends."""

    role: Role
    issuer: str
    until: Instant


class ManagerStatus(Record):
    """A manager as a member of consensus: where nodes reach it, "" for one that serves no others; whether it has a vote, and
    whether the leader reaches it."""

    address: str = ""
    voter: bool = True
    reachable: bool = True
    leader: bool = False


class Owner(Record):
    """Who owns a stack: a source, or ("" as source) whoever applied it by hand."""

    source: str = ""
    file: str = ""


class PreviousSpec(Record):
    """What a service was before its last change, one level deep, for rollback."""

    spec: SpecDigest
    settings: ServiceSettings
    spec_version: int


class StartGate(Record):
    """Why a task is held at READY: not before `not_before`, and not before task `after` has stopped or `give_up_at` has
    come (SwarmKit's delayed start, semantics 9, as stored data)."""

    not_before: Instant
    after: TaskId = TaskId("")
    give_up_at: Instant = Instant(0)


class Attachment(Record):
    """What a task or a service has on a network: addresses with the length of their prefix, "10.0.16.5/20"; "" is none.

    `network` is the network's id, not its name: one that is removed and made again under the same name is another network,
    while tasks of the first may still be stopping."""

    network: NetworkId
    v4: str = ""
    v6: str = ""


class RolloutState(enum.StrEnum):
    """SwarmKit's update states (semantics 8.3)."""

    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLBACK_STARTED = "rollback_started"
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLBACK_COMPLETED = "rollback_completed"


class SourceKind(enum.StrEnum):
    DIRECTORY = "directory"
    GIT = "git"


class RevisionState(enum.StrEnum):
    PENDING = "pending"
    AWAITING_APPROVAL = "awaiting_approval"
    ROLLING = "rolling"
    CONVERGED = "converged"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"


class RootRotation(Record):
    """The root that takes the place of the present one. `crossed_pem` is the new one as signed by the old."""

    root_pem: bytes
    sealed_key: bytes
    crossed_pem: bytes
    issuer: str
    started_at: Instant


class UserRole(enum.StrEnum):
    """What a person may do from afar; each may also do what those before it may."""

    VIEWER = "viewer"
    DEPLOYER = "deployer"
    ADMIN = "admin"

    def allows(self, needed: UserRole) -> bool:
        order = tuple(UserRole)
        return order.index(self) >= order.index(needed)
