"""Builders for tests of the manager's side: rows in a real store, and a dispatcher over it."""

from __future__ import annotations

from collections.abc import Iterable

from stackd.api.dispatch import Hello
from stackd.base.ids import BlobDigest, NodeId, ServiceId, TaskId
from stackd.base.records import encode
from stackd.base.time import Instant
from stackd.engine.inputs import Applied, Input, RegisterNode, Reply, ReportTasks
from stackd.engine.model import Blob, Node, Row, Service, SpecRow, Task
from stackd.engine.parts import NodeDescription, NodeState
from stackd.engine.status import NodeStatus, TaskStatus
from stackd.engine.store import Store, Transaction
from stackd.engine.taskstate import TaskState
from stackd.engine.view import TABLE_OF
from stackd.manager.dispatcher import Dispatcher
from stackd.spec.digest import blob_digest, spec_digest
from stackd.spec.stack import ContainerSpec, FileRef, ServiceSettings, TaskSpec

NODE = NodeId("n1")
NOW = Instant(1)


def a_spec(image: str = "img:v1", *, files: Iterable[bytes] = ()) -> TaskSpec:
    refs = tuple(FileRef(source="s", target="/s", digest=blob_digest(data)) for data in files)
    return TaskSpec(container=ContainerSpec(image=image, secrets=refs))


def a_spec_row(spec: TaskSpec) -> SpecRow:
    return SpecRow(digest=spec_digest(spec), spec=spec)


def a_secret(data: bytes) -> Blob:
    return Blob(digest=blob_digest(data), data=data[::-1], sealed=True)


def opened(sealed: bytes, _digest: BlobDigest) -> bytes:
    """The other way round of what `a_secret` does."""
    return sealed[::-1]


def a_service() -> Service:
    settings = ServiceSettings()
    return Service(
        id=ServiceId("s1"),
        stack="shop",
        name="shop_web",
        spec=spec_digest(a_spec()),
        settings=settings,
        created_at=NOW,
        updated_at=NOW,
    )


def a_task(
    task_id: str = "t1", *, spec: TaskSpec | None = None, node: str = NODE, desired: TaskState = TaskState.RUNNING
) -> Task:
    digest = spec_digest(spec or a_spec())
    return Task(
        id=TaskId(task_id),
        service_id=ServiceId("s1"),
        slot=1,
        spec=digest,
        desired=desired,
        created_at=NOW,
        node_id=NodeId(node),
    )


def a_task_status(task_id: str = "t1", state: TaskState = TaskState.ASSIGNED) -> TaskStatus:
    return TaskStatus(id=TaskId(task_id), state=state, at=NOW)


def a_node_status(node: str = NODE, state: NodeState = NodeState.READY) -> NodeStatus:
    return NodeStatus(id=NodeId(node), state=state, at=NOW)


def a_hello(node: str = NODE) -> Hello:
    return Hello(node_id=NodeId(node), description=NodeDescription(hostname=node), version="1")


class Desk:
    """A store, a dispatcher on it, and a writer that stores reported statuses and registered nodes and notes every input."""

    def __init__(self, *rows: Row) -> None:
        self.store = Store()
        self.inputs: list[Input] = []
        self.reply: Reply = Applied(changed=True)
        self.failure: Exception | None = None
        self.removes_at_once = False
        self.dispatcher: Dispatcher | None = None
        self.write(*rows)
        self.dispatcher = Dispatcher(self.store.view, self.submit, opened)

    async def submit(self, command: Input) -> Reply:
        if self.failure is not None:
            raise self.failure
        self.inputs.append(command)
        if isinstance(command, ReportTasks):
            self.write(*command.statuses)
        elif isinstance(command, RegisterNode) and isinstance(self.reply, Applied) and not self.removes_at_once:
            self.write(Node(id=command.id, created_at=NOW))
        return self.reply

    def write(self, *rows: Row, delete: Iterable[Row] = ()) -> None:
        """Apply one entry and tell the dispatcher."""
        deletes = tuple((TABLE_OF[type(row)], row.key) for row in delete)
        entry = encode(Transaction(now=NOW, puts=rows, deletes=deletes))
        changes = self.store.apply(self.store.index + 1, entry)
        if self.dispatcher is not None:
            self.dispatcher.notice(changes)
