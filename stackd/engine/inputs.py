"""What the writer loop hands to `step`: client commands, reports of nodes, and due timers.

Inputs say where to look; the view says what is true. Client commands that see a stale version, a missing object or a
conflict are answered with a `Rejected` and change nothing. Inputs are not stored; only the transaction they lead to is.
"""

from __future__ import annotations

from stackd.base.ids import BlobDigest, NodeId, RevisionId, ServiceId, SpecDigest
from stackd.base.records import Pairs, Record
from stackd.base.time import Duration
from stackd.engine.model import Authority, Blob, Node, Source, SpecRow
from stackd.engine.parts import (
    Availability,
    ManagerStatus,
    NodeCertificate,
    NodeDescription,
    NodeState,
    Owner,
    Principal,
    Role,
    RootRotation,
    UserRole,
)
from stackd.engine.status import TaskStatus
from stackd.spec.stack import External, ExternalKind, NetworkSpec, ServiceSettings


class ServiceManifest(Record):
    """One service of a stack to deploy; `spec` was staged before. `name` is the short name."""

    name: str
    spec: SpecDigest
    settings: ServiceSettings


class FileManifest(Record):
    """A config or secret by name; its content was staged before. `digest` is "" for a secret that a driver provides."""

    name: str
    digest: BlobDigest
    labels: Pairs = ()
    template: str = ""
    driver: str = ""
    driver_options: Pairs = ()


class StackManifest(Record):
    """One stack to deploy: small, because specs and contents were staged in earlier entries. `externals` are what it uses
    and has not itself; references to external configs and secrets in its specs have no digest yet."""

    name: str
    owner: Owner
    services: tuple[ServiceManifest, ...]
    networks: tuple[NetworkSpec, ...] = ()
    configs: tuple[FileManifest, ...] = ()
    secrets: tuple[FileManifest, ...] = ()
    externals: tuple[External, ...] = ()


class StageContent(Record):
    """Store content-addressed specs and blobs ahead of the manifest that needs them. Already known ones cost nothing."""

    specs: tuple[SpecRow, ...] = ()
    blobs: tuple[Blob, ...] = ()


class DeployRevision(Record):
    """Flip to a whole revision, over all its stacks, or change nothing.

    `prune` names stacks to remove because the source no longer has them. `adopt` allows taking over stacks of another
    owner. `principal` is who asked. `base_version` is that of the state it was planned on (`written`), 0 any."""

    label: str
    source: str
    stacks: tuple[StackManifest, ...]
    principal: Principal
    prune: tuple[str, ...] = ()
    adopt: bool = False
    author: str = ""
    subject: str = ""
    base_version: int = 0


class ScaleService(Record):
    name: str
    replicas: int
    principal: Principal
    version: int | None = None
    override: bool = False


class ForceUpdate(Record):
    """Replace all tasks of a service with the same spec."""

    name: str
    principal: Principal
    version: int | None = None


class SetSpec(Record):
    """Imperative change of one service (for example its image); `spec` was staged before."""

    name: str
    spec: SpecDigest
    settings: ServiceSettings
    principal: Principal
    version: int | None = None
    override: bool = False


class RollbackService(Record):
    name: str
    principal: Principal
    version: int | None = None
    override: bool = False


class RemoveService(Record):
    name: str
    principal: Principal
    override: bool = False


class RemoveStack(Record):
    name: str
    principal: Principal
    override: bool = False


class UpdateCluster(Record):
    """Change settings of the cluster; None leaves one as it is. `address_pools` and `subnet_bits` count for networks that get
    their subnets from now on."""

    principal: Principal
    history_limit: int | None = None
    rebalance_tasks: int | None = None
    certificate_life_ns: Duration | None = None
    sealed_unlock_key: bytes | None = None
    address_pools: tuple[str, ...] | None = None
    subnet_bits: int | None = None


class CreateNetwork(Record):
    """Make a network by hand."""

    spec: NetworkSpec
    principal: Principal


class CreateFile(Record):
    """Make a config or secret by hand; its content was staged before."""

    kind: ExternalKind
    file: FileManifest
    principal: Principal


class RemoveObject(Record):
    """Remove a network, config or secret that nothing uses."""

    kind: ExternalKind
    name: str
    principal: Principal
    override: bool = False


class PutSource(Record):
    source: Source
    principal: Principal


class ReportSource(Record):
    """The result of looking at a source; with an error, nothing else of the state changes."""

    name: str
    seen: str
    revision: RevisionId = RevisionId("")
    error: str = ""
    error_code: str = ""
    held_prune: tuple[str, ...] = ()


class RegisterNode(Record):
    """An agent has opened a session. Creates the node if it is new and `node` is given."""

    id: NodeId
    description: NodeDescription
    address: str = ""
    node: Node | None = None
    certificate: NodeCertificate | None = None


class ReportNode(Record):
    """The dispatcher's verdict on a node's session."""

    id: NodeId
    state: NodeState
    message: str = ""


class SetAvailability(Record):
    id: NodeId
    availability: Availability
    principal: Principal


class RemoveNode(Record):
    """Take a node out of the cluster for good. One that is ready, or at least not known to be down, only with `force`: what
    runs there is given up, and goes on until somebody stops it."""

    id: NodeId
    principal: Principal
    force: bool = False


class AdmitNode(Record):
    """A node has shown a join token. One that is known already stays as it is: it hadn't heard the answer."""

    node: Node
    hostname: str = ""


class UpdateNode(Record):
    """Change what people say of a node; None leaves a setting as it is. `labels` are added or replaced."""

    id: NodeId
    principal: Principal
    availability: Availability | None = None
    role: Role | None = None
    labels: Pairs = ()
    labels_removed: tuple[str, ...] = ()


class LeaveCluster(Record):
    """A node goes for good: its tasks move, and it is forgotten as soon as it is no manager any more."""

    id: NodeId
    principal: Principal


class ReportManagers(Record):
    """The members of consensus as the leader sees them; nodes that aren't named are none."""

    managers: tuple[tuple[NodeId, ManagerStatus], ...]


class FoundAuthority(Record):
    """Give the cluster its certificate authority, if it has none."""

    authority: Authority
    principal: Principal


class RotateToken(Record):
    """Replace the secret of a role's join token: `sealed_secrets` holds those of both roles. `version` is that of the authority
    that was seen (so also below)."""

    role: Role
    sealed_secrets: bytes
    version: int
    principal: Principal


class RotateRoot(Record):
    """Begin to replace the root, or replace it by another one than was begun with."""

    rotation: RootRotation
    version: int
    principal: Principal


class FinishRootRotation(Record):
    """Trust only the new root from now on. Refused as long as a node uses a certificate of another one."""

    sealed_secrets: bytes
    version: int


class PutUser(Record):
    """Let a person call from afar, or give one another role."""

    name: str
    role: UserRole
    principal: Principal


class RemoveUser(Record):
    name: str
    principal: Principal


class ReportTasks(Record):
    """Statuses from one node. Reports of tasks that are not assigned to that node are ignored."""

    node_id: NodeId
    statuses: tuple[TaskStatus, ...]


class Wake(Record):
    """Look at these services again: at everything, or only at what waits for a deadline (a timer). Those that are `unfilled`
    only lack tasks that there was no room for."""

    services: tuple[ServiceId, ...]
    whole: bool = True
    unfilled: tuple[ServiceId, ...] = ()


class FullPass(Record):
    """Look at everything: the first input of a new leader."""

    cluster_id: str = ""


Input = (
    StageContent
    | DeployRevision
    | ScaleService
    | ForceUpdate
    | SetSpec
    | RollbackService
    | RemoveService
    | RemoveStack
    | UpdateCluster
    | CreateNetwork
    | CreateFile
    | RemoveObject
    | PutSource
    | ReportSource
    | RegisterNode
    | ReportNode
    | SetAvailability
    | RemoveNode
    | AdmitNode
    | UpdateNode
    | LeaveCluster
    | ReportManagers
    | FoundAuthority
    | RotateToken
    | RotateRoot
    | FinishRootRotation
    | PutUser
    | RemoveUser
    | ReportTasks
    | Wake
    | FullPass
)


class Applied(Record):
    """A command was carried out. `changed` is False for a no-op, which writes nothing. `revision` is set by deploys."""

    changed: bool
    version: int = 0
    revision: RevisionId = RevisionId("")


class Rejected(Record):
    """A command was refused and nothing changed: a dotted code, one sentence, and what to do next."""

    code: str
    message: str
    hint: str = ""


Reply = Applied | Rejected
