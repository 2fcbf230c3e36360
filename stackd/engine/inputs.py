"""What the writer loop hands to `step`: client commands, reports of nodes, and due timers.

Inputs say where to look; the view says what is true. Client commands that see a stale version, a missing object or a
conflict are answered with a `Rejected` and change nothing. Inputs are not stored; only the transaction they lead to is.
"""

from __future__ import annotations

from stackd.base.ids import NodeId, RevisionId, ServiceId, SpecDigest
from stackd.base.records import Record
from stackd.engine.model import (
    Availability,
    Blob,
    Node,
    NodeDescription,
    NodeState,
    Owner,
    Principal,
    Source,
    SpecRow,
    TaskStatus,
)
from stackd.spec.stack import ServiceSettings


class ServiceManifest(Record):
    """One service of a stack to deploy; `spec` was staged before. `name` is the short name."""

    name: str
    spec: SpecDigest
    settings: ServiceSettings


class StackManifest(Record):
    """One stack to deploy: small, because specs and contents were staged in earlier entries."""

    name: str
    owner: Owner
    services: tuple[ServiceManifest, ...]


class StageContent(Record):
    """Store content-addressed specs and blobs ahead of the manifest that needs them. Already known ones cost nothing."""

    specs: tuple[SpecRow, ...] = ()
    blobs: tuple[Blob, ...] = ()


class DeployRevision(Record):
    """Flip to a whole revision, over all its stacks, or change nothing.

    `prune` names stacks to remove because the source no longer has them. `adopt` allows taking over stacks of another
    owner. `principal` is who asked."""

    label: str
    source: str
    stacks: tuple[StackManifest, ...]
    principal: Principal
    prune: tuple[str, ...] = ()
    adopt: bool = False
    author: str = ""
    subject: str = ""


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


class ReportNode(Record):
    """The dispatcher's verdict on a node's session."""

    id: NodeId
    state: NodeState
    message: str = ""


class SetAvailability(Record):
    id: NodeId
    availability: Availability
    principal: Principal


class ReportTasks(Record):
    """Statuses from one node. Reports of tasks that are not assigned to that node are ignored."""

    node_id: NodeId
    statuses: tuple[TaskStatus, ...]


class Wake(Record):
    """A deadline has come: look at these services again."""

    services: tuple[ServiceId, ...]


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
    | PutSource
    | ReportSource
    | RegisterNode
    | ReportNode
    | SetAvailability
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
