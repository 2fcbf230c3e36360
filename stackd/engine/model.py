"""The stored records: what the replicated state consists of.

Rules that every record keeps: frozen, array-like, new fields only at the end and with a default. What a person or a
source writes (`Node`, `Service`, `Source`) is here; what nodes or the engine report (`NodeStatus`, `TaskStatus`, `Rollout`,
`SourceStatus`) is in `status`, so the version a client sees never moves because of a report. Kinds, states and records
that lie inside others are in `parts`. Every record has a `key`, unique in its table. Decisions and deadlines are stored as
instants of cluster time; nothing here is a cache.
"""

from __future__ import annotations

from stackd.base.ids import BlobDigest, NetworkId, NodeId, RevisionId, ServiceId, SpecDigest, TaskId
from stackd.base.records import Pairs, Record
from stackd.base.time import DAY, SECOND, Duration, Instant
from stackd.engine.parts import (
    SYSTEM,
    Attachment,
    Availability,
    Owner,
    PreviousSpec,
    Principal,
    RevisionState,
    Role,
    RootRotation,
    SourceKind,
    StartGate,
    UserRole,
)
from stackd.engine.status import Endpoint, NetworkStatus, NodeStatus, Rollout, SourceStatus, TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import GenericResource, NetworkSpec, ServiceSettings, TaskSpec, UpdateOrder


class Cluster(Record, tag="cluster"):
    """The cluster's own settings; the table holds one, under the key "default".

    Networks that don't say which addresses they want get subnets of /`subnet_bits` out of `address_pools`.
    `rebalance_tasks` tasks at a time are moved to a node that has joined or come back; 0 leaves everything where it is.
    `lease_ns` after it last heard from a manager a node has begun to stop the tasks that are to be fenced.
    `sealed_unlock_key` is what managers need to start, sealed with the cluster's key; b"" if they start without."""

    id: str
    created_at: Instant
    history_limit: int = 5
    feature_level: int = 1
    key: str = "default"
    address_pools: tuple[str, ...] = ("10.0.0.0/8",)
    subnet_bits: int = 20
    rebalance_tasks: int = 0
    lease_ns: Duration = Duration(15 * SECOND)
    sealed_unlock_key: bytes = b""


class Node(Record, tag="node"):
    """What people say of a node. `leaving`: it has asked to go, and is forgotten once it is no manager any more."""

    id: NodeId
    created_at: Instant
    version: int = 0
    role: Role = Role.WORKER
    availability: Availability = Availability.ACTIVE
    labels: Pairs = ()
    leaving: bool = False

    @property
    def key(self) -> str:
        return self.id


class Stack(Record, tag="stack"):
    """A deployed stack; its name is its identity."""

    name: str
    owner: Owner
    created_at: Instant
    updated_at: Instant
    version: int = 0
    revision: RevisionId = RevisionId("")

    @property
    def key(self) -> str:
        return self.name


class Service(Record, tag="service"):
    """A service as it is wanted. `name` is scoped (`shop_web`); `spec` names a `SpecRow`.

    `version` moves with every write; `spec_version` is the version at which the current spec was submitted. `iteration`
    counts the runs of a job from 1 on: each submission of another spec is another run. 0 for everything else."""

    id: ServiceId
    stack: str
    name: str
    spec: SpecDigest
    settings: ServiceSettings
    created_at: Instant
    updated_at: Instant
    version: int = 0
    spec_version: int = 0
    previous: PreviousSpec | None = None
    removing: bool = False
    frozen: str = ""
    revision: RevisionId = RevisionId("")
    override: bool = False
    iteration: int = 0

    @property
    def key(self) -> str:
        return self.id


class SpecRow(Record, tag="spec"):
    """A content-addressed task spec; services and tasks name it by digest. `staged_at` protects it from collection until
    the service that needs it has come (so also for blobs)."""

    digest: SpecDigest
    spec: TaskSpec
    staged_at: Instant = Instant(0)

    @property
    def key(self) -> str:
        return self.digest


class Blob(Record, tag="blob"):
    """Content of a config, or of a secret (then `sealed`: encrypted under the cluster's key)."""

    digest: BlobDigest
    data: bytes
    sealed: bool = False
    staged_at: Instant = Instant(0)

    @property
    def key(self) -> str:
        return self.digest

    def __repr__(self) -> str:
        return f"Blob(digest={self.digest!r}, sealed={self.sealed}, data=<{len(self.data)} bytes>)"


class Task(Record, tag="task"):
    """One run of a service's spec in a slot (replicated: 1..N; global: slot 0 and the node is the identity).

    `restarts` are the instants at which this slot was restarted under this spec (kept only as far as the restart policy
    counts), so attempts survive a change of leader. `rollout` is the generation of the rollout that created the task, 0
    for none. `replaces` is the task whose place this one takes: its host ports and reservations count as free for it.
    `version` is that of the state it was made in, which orders the tasks of a slot also when the clock stands still.
    `attachments` are its addresses, one per network of its spec; they are free again once it has stopped. `generic` are the
    generic resources it was given on its node, by name where the node names them.

    `iteration` is the run of the job that the task belongs to, 0 if its service is none. `order` says how it takes the place
    of `replaces` where the update settings don't: stop-first because both at once fit nowhere, start-first because the other
    is moved. With start-first the other is told to stop at `overlap_until` at the latest (0: when this one runs)."""

    id: TaskId
    service_id: ServiceId
    slot: int
    spec: SpecDigest
    desired: TaskState
    created_at: Instant
    node_id: NodeId = NodeId("")
    spec_version: int = 0
    gate: StartGate | None = None
    restarts: tuple[Instant, ...] = ()
    rollout: int = 0
    replaces: TaskId = TaskId("")
    revision: RevisionId = RevisionId("")
    version: int = 0
    attachments: tuple[Attachment, ...] = ()
    generic: tuple[GenericResource, ...] = ()
    iteration: int = 0
    order: UpdateOrder | None = None
    overlap_until: Instant = Instant(0)

    @property
    def key(self) -> str:
        return self.id


class Source(Record, tag="source"):
    """Where stacks come from: a directory, or a git repository with ref and path."""

    name: str
    kind: SourceKind
    location: str
    ref: str = ""
    path: str = ""
    interval_ns: Duration = Duration(0)

    @property
    def key(self) -> str:
        return self.name


class Revision(Record, tag="revision"):
    """One state of a source as a whole: one commit, or one reading of a directory (or one `apply` by hand).

    `label` is what a person knows it by: the commit id, or a digest of the directory's content."""

    id: RevisionId
    source: str
    label: str
    state: RevisionState
    created_at: Instant
    stacks: tuple[str, ...] = ()
    services: tuple[ServiceId, ...] = ()
    author: str = ""
    subject: str = ""
    message: str = ""
    finished_at: Instant = Instant(0)
    principal: Principal = SYSTEM

    @property
    def key(self) -> str:
        return self.id


class Event(Record, tag="event"):
    """One entry of the bounded ring that `stackd events` shows. `kind` is dotted: `task.failed`, `rollout.paused`."""

    seq: int
    at: Instant
    kind: str
    subject: str
    message: str
    stack: str = ""
    principal: Principal = SYSTEM

    @property
    def key(self) -> str:
        return f"{self.seq:020d}"


class Network(Record, tag="network"):
    """A network as it is wanted; its name is its name in the cluster. `stack` owns it, "" if it was made by hand. `removing`:
    nobody asks for it any more, and it goes with the last service and task that use it (so also for configs and secrets)."""

    name: str
    id: NetworkId
    spec: NetworkSpec
    created_at: Instant
    updated_at: Instant
    stack: str = ""
    version: int = 0
    removing: bool = False

    @property
    def key(self) -> str:
        return self.name


class Config(Record, tag="config"):
    """A config by name. Its content is the blob `digest`; tasks name that, not the config. `stack` owns it, "" if it was
    made by hand (so also for secrets)."""

    name: str
    id: str
    digest: BlobDigest
    created_at: Instant
    updated_at: Instant
    stack: str = ""
    labels: Pairs = ()
    template: str = ""
    version: int = 0
    removing: bool = False

    @property
    def key(self) -> str:
        return self.name


class Secret(Record, tag="secret"):
    """A secret by name. Its content is the sealed blob `digest`; with a `driver` there is none, a plugin is asked for it."""

    name: str
    id: str
    digest: BlobDigest
    created_at: Instant
    updated_at: Instant
    stack: str = ""
    labels: Pairs = ()
    template: str = ""
    driver: str = ""
    driver_options: Pairs = ()
    version: int = 0
    removing: bool = False

    @property
    def key(self) -> str:
        return self.name


class Authority(Record, tag="authority"):
    """The cluster's certificate authority; the table holds one, under the key "default".

    What is secret is sealed with the cluster's key: the root's key (b"" if the cluster doesn't have it and so can't sign), and
    the secrets of the join tokens. `issuer` names the root's key as certificates do. `cluster` is what they call the cluster.
    During a `rotation` both roots are trusted and the new one signs."""

    cluster: str
    root_pem: bytes
    issuer: str
    sealed_key: bytes
    sealed_secrets: bytes
    created_at: Instant
    certificate_life_ns: Duration = Duration(90 * DAY)
    rotation: RootRotation | None = None
    version: int = 0
    key: str = "default"

    def __repr__(self) -> str:
        return f"Authority(cluster={self.cluster!r}, issuer={self.issuer!r}, rotating={self.rotation is not None})"


class User(Record, tag="user"):
    """A person who has a certificate. Without this record, or beyond its role, the certificate is worth nothing."""

    name: str
    role: UserRole
    created_at: Instant
    version: int = 0

    @property
    def key(self) -> str:
        return self.name


Row = (
    Cluster
    | Node
    | NodeStatus
    | Stack
    | Service
    | SpecRow
    | Blob
    | Task
    | TaskStatus
    | Rollout
    | Source
    | SourceStatus
    | Revision
    | Event
    | Network
    | NetworkStatus
    | Endpoint
    | Config
    | Secret
    | Authority
    | User
)
"""Any stored record."""
