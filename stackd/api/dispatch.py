"""What dispatcher and agent say to each other.

The agent opens with `Hello`; the dispatcher answers with one complete `Assignments` (sequence 1), then numbered
increments, each of which applies to the one before. The agent sends `TaskReports` and `Heartbeat`s; the latter are answered
with a `Renewal`. Tasks that are not in a complete set are to be removed from the node. Secrets travel opened and stay in the
agent's memory.
"""

from __future__ import annotations

from stackd.base.ids import BlobDigest, NodeId, RevisionId, ServiceId, SpecDigest, TaskId
from stackd.base.records import Pairs, Record
from stackd.base.time import Duration
from stackd.engine.parts import NodeCertificate, NodeDescription
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import GenericResource, NetworkSpec, TaskSpec


class Assignment(Record):
    """A task as its node sees it. `status` is the manager's last knowledge: an agent that knows better keeps its own.
    `service_labels` are for templates; `generic` are the generic resources that the task was given on its node."""

    id: TaskId
    service_id: ServiceId
    stack: str
    service: str
    slot: int
    node_id: NodeId
    spec_digest: SpecDigest
    desired: TaskState
    status: TaskStatus
    revision: RevisionId = RevisionId("")
    service_labels: Pairs = ()
    generic: tuple[GenericResource, ...] = ()

    @property
    def name(self) -> str:
        """`shop_web.3.<id>`, for a global task `shop_web.<node>.<id>` (semantics 1.1)."""
        return f"{self.service}.{self.slot or self.node_id}.{self.id}"


class SpecContent(Record):
    digest: SpecDigest
    spec: TaskSpec


class FileContent(Record):
    """A config's or an opened secret's content."""

    digest: BlobDigest
    data: bytes
    secret: bool = False

    def __repr__(self) -> str:
        return f"FileContent(digest={self.digest!r}, secret={self.secret}, data=<{len(self.data)} bytes>)"


class Hello(Record, tag="hello"):
    """`certificate` is the one that the node uses, None if it has none (so also below)."""

    node_id: NodeId
    description: NodeDescription
    version: str
    certificate: NodeCertificate | None = None


class TaskReports(Record, tag="reports"):
    statuses: tuple[TaskStatus, ...]


class Heartbeat(Record, tag="heartbeat"):
    """Also carries the node's description and its certificate when they have changed. The manager answers with its
    `number`."""

    description: NodeDescription | None = None
    number: int = 0
    certificate: NodeCertificate | None = None


class Assignments(Record, tag="assignments"):
    """`complete`: all there is; else changes on top of the message before. `specs`, `files` and `networks` are sent once,
    ahead of the first task that needs them; `dropped` and `dropped_networks` name those that no task on the node needs any
    more."""

    sequence: int
    complete: bool
    tasks: tuple[Assignment, ...] = ()
    removed: tuple[TaskId, ...] = ()
    specs: tuple[SpecContent, ...] = ()
    files: tuple[FileContent, ...] = ()
    dropped: tuple[str, ...] = ()
    networks: tuple[NetworkSpec, ...] = ()
    dropped_networks: tuple[str, ...] = ()


class Standing(Record, tag="standing"):
    """How a node stands in the cluster: where managers serve nodes (what it remembers for the next start), the roots that it
    shall trust from now on (b"": the cluster has no certificates), and whether it needs another certificate. Then it asks for
    one (`Renew`) at a random moment within `renew_within_ns`, so that not all come at once; None: it doesn't."""

    managers: tuple[str, ...] = ()
    roots: bytes = b""
    renew_within_ns: Duration | None = None


class Welcome(Record, tag="welcome"):
    """The session is open; heartbeats are expected at this period. An agent that has not been heard for `lease_ns`, by its
    own clock, stops the tasks that are to be fenced (0: never). `standing` is sent again when it changes."""

    session: str
    heartbeat_ns: Duration
    lease_ns: Duration = Duration(0)
    standing: Standing = Standing()


class Renewal(Record, tag="renewal"):
    """The heartbeat with this number has arrived. An agent's lease runs from when it sent the last one that was answered."""

    number: int


class Goodbye(Record, tag="goodbye"):
    """The session is over: connect again (to `leader`, if named)."""

    reason: str
    leader: str = ""


LOG_WINDOW = 512
"""Lines of one log stream that may be under way ahead of their reader. A `LogRequest` grants this many, and one with
`more` for a stream that is open grants that many again: a reader that stops pauses its stream and nothing else."""


class LogRequest(Record, tag="log-request"):
    """Stream a task's log to the manager; `tail` -1 is everything. `request` numbers the stream."""

    request: int
    task_id: TaskId
    follow: bool = False
    tail: int = -1
    since_ns: int = 0
    cancel: bool = False
    more: int = 0


class LogChunk(Record, tag="log-chunk"):
    """A line (without its newline) of a task's log; `end` closes the stream, with `error` if it broke."""

    request: int
    at_ns: int = 0
    stream: str = "stdout"
    line: bytes = b""
    end: bool = False
    error: str = ""


FromAgent = Hello | TaskReports | Heartbeat | LogChunk
FromManager = Welcome | Assignments | Goodbye | LogRequest | Renewal | Standing
