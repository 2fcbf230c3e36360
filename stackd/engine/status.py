"""The stored records that say how things stand: what nodes report, and what the engine makes of what is wanted.

They are apart from what a person or a source writes (`model`), so that the version a client sees never moves because of a
report. The rules of `model` hold for them, and its `Row` names them.
"""

from __future__ import annotations

from stackd.base.ids import NetworkId, NodeId, RevisionId, ServiceId, SpecDigest, TaskId
from stackd.base.records import Record
from stackd.base.time import Instant
from stackd.engine.parts import Attachment, ManagerStatus, NodeCertificate, NodeDescription, NodeState, RolloutState
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Pool, Port


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
