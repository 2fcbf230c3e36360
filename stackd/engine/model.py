"""The stored records: what the replicated state consists of.

Rules that every record keeps: frozen, array-like, new fields only at the end and with a default. What a person or a
source writes (`Node`, `Service`, `Source`) and what nodes or the engine report (`NodeStatus`, `TaskStatus`, `Rollout`,
`SourceStatus`) are separate records, so the version a client sees never moves because of a report. Every record has a
`key`, unique in its table. Decisions and deadlines are stored as instants of cluster time; nothing here is a cache.
"""

from __future__ import annotations

import enum

from stackd.base.ids import BlobDigest, NetworkId, NodeId, RevisionId, ServiceId, SpecDigest, TaskId
from stackd.base.records import Pairs, Record
from stackd.base.time import DAY, SECOND, Duration, Instant
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import GenericResource, NetworkSpec, Pool, Port, Resources, ServiceSettings, TaskSpec, UpdateOrder


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


class Role(enum.StrEnum):
    MANAGER = "manager"
    WORKER = "worker"


class Availability(enum.StrEnum):
    ACTIVE = "active"
    PAUSE = "pause"
    DRAIN = "drain"


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


class NodeStatus(Record, tag="node-status"):
    """What is known of a node now. `certificate` is None for a node that has none, `manager` for one that is no member of
    consensus: what it is follows what `Node` says that it shall be."""

    id: NodeId
    state: NodeState
    at: Instant
    message: str = ""
    address: str = ""
    description: NodeDescription = NodeDescription(hostname="")
    certificate: NodeCertificate | None = None
    manager: ManagerStatus | None = None

    @property
    def key(self) -> str:
        return self.id


class Owner(Record):
    """Who owns a stack: a source, or ("" as source) whoever applied it by hand."""

    source: str = ""
    file: str = ""


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


class PreviousSpec(Record):
    """What a service was before its last change, one level deep, for rollback."""

    spec: SpecDigest
    settings: ServiceSettings
    spec_version: int


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


class TaskStatus(Record, tag="task-status"):
    """What is observed of a task; `at` is cluster time of the change, `running_at` when it first ran (0: never)."""

    id: TaskId
    state: TaskState
    at: Instant
    message: str = ""
    error: str = ""
    exit_code: int | None = None
    container_id: str = ""
    pid: int = 0
    running_at: Instant = Instant(0)
    reason: str = ""

    @property
    def key(self) -> str:
        return self.id


class RolloutState(enum.StrEnum):
    """SwarmKit's update states (semantics 8.3)."""

    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLBACK_STARTED = "rollback_started"
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLBACK_COMPLETED = "rollback_completed"


class Rollout(Record, tag="rollout"):
    """The progress of a service's rolling update.

    `generation` counts rollouts of the service, `target` is the spec rolled out. `total` is the number of slots that were
    dirty when it began, `failed` the tasks of this rollout that failed (each counts once). `not_before` holds one instant
    per slot finished within the update delay: the worker of that slot rests until then. `monitor_until` is set once all
    slots are done. `spec_version` is the submission that is carried out: another one starts another rollout. `cause` is the
    failure that paused it or turned it back.

    `failed_slots` are those of the `failed` tasks: a slot counts once, however often it is tried again. `progress_at` is when
    a slot was last done. `cursor` is the first slot, in their order, that waits for its turn, and `last_slot` the highest
    number of any; `sweep` says that they don't tell which slot is next, so that all have to be looked at."""

    service_id: ServiceId
    generation: int
    state: RolloutState
    target: SpecDigest
    started_at: Instant
    total: int
    failed: tuple[TaskId, ...] = ()
    done: int = 0
    not_before: tuple[Instant, ...] = ()
    monitor_until: Instant = Instant(0)
    completed_at: Instant = Instant(0)
    message: str = ""
    spec_version: int = 0
    cause: str = ""
    failed_slots: tuple[tuple[int, NodeId], ...] = ()
    progress_at: Instant = Instant(0)
    cursor: tuple[int, NodeId] = (0, NodeId(""))
    last_slot: int = 0
    sweep: bool = True

    @property
    def key(self) -> str:
        return self.service_id


class SourceKind(enum.StrEnum):
    DIRECTORY = "directory"
    GIT = "git"


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


class SourceStatus(Record, tag="source-status"):
    """The last look at a source: what was read, and the error if it could not be used (then nothing was changed)."""

    name: str
    at: Instant
    revision: RevisionId = RevisionId("")
    seen: str = ""
    error: str = ""
    error_code: str = ""
    held_prune: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.name


class RevisionState(enum.StrEnum):
    PENDING = "pending"
    AWAITING_APPROVAL = "awaiting_approval"
    ROLLING = "rolling"
    CONVERGED = "converged"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"


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


class NetworkStatus(Record, tag="network-status"):
    """What the allocator gave a network: its subnets with their gateways, and its VXLAN id (0 for none).

    Outlives the `Network` (then it is `removed`) until the last task with an address there has stopped, so that no subnet is
    given out twice. `cursors` are the last address given out in each pool, as an offset into it: addresses are given out in
    turn, so that one that has become free rests before it is used again. `reason` is a code: why there is no subnet yet.
    `crowded`: people were told that the addresses are running out."""

    id: NetworkId
    name: str
    pools: tuple[Pool, ...] = ()
    vni: int = 0
    cursors: tuple[int, ...] = ()
    reason: str = ""
    error: str = ""
    crowded: bool = False
    removed: bool = False

    @property
    def key(self) -> str:
        return self.id


class Endpoint(Record, tag="endpoint"):
    """How a service is reached: its virtual address on each of its networks, and the ports it publishes in the whole cluster
    with the numbers that the engine chose. A `reason` is a code: why it isn't complete."""

    service_id: ServiceId
    virtual: tuple[Attachment, ...] = ()
    ports: tuple[Port, ...] = ()
    reason: str = ""
    error: str = ""

    @property
    def key(self) -> str:
        return self.service_id


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


class RootRotation(Record):
    """The root that takes the place of the present one. `crossed_pem` is the new one as signed by the old."""

    root_pem: bytes
    sealed_key: bytes
    crossed_pem: bytes
    issuer: str
    started_at: Instant


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


class UserRole(enum.StrEnum):
    """What a person may do from afar; each may also do what those before it may."""

    VIEWER = "viewer"
    DEPLOYER = "deployer"
    ADMIN = "admin"

    def allows(self, needed: UserRole) -> bool:
        order = tuple(UserRole)
        return order.index(self) >= order.index(needed)


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
