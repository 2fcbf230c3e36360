"""What every decision reads: the tables by name and the lookups on them.

A `View` is the store's live state, a fork of it, or a draft's changes on top of either; readers can't tell which. The
indexes behind the lookups are maintained by whoever holds the tables: nothing here scans a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stackd.base.ids import NodeId, ServiceId, TaskId
from stackd.base.time import Instant
from stackd.engine.ledger import Ledger
from stackd.engine.model import (
    Blob,
    Cluster,
    Event,
    Node,
    NodeStatus,
    Revision,
    RevisionState,
    Rollout,
    Row,
    Service,
    Source,
    SourceStatus,
    SpecRow,
    Stack,
    Task,
    TaskStatus,
)
from stackd.engine.tables import Rows
from stackd.engine.taskstate import TaskState

TABLE_OF: dict[type[Row], str] = {
    Cluster: "clusters",
    Node: "nodes",
    NodeStatus: "node_statuses",
    Stack: "stacks",
    Service: "services",
    SpecRow: "specs",
    Blob: "blobs",
    Task: "tasks",
    TaskStatus: "statuses",
    Rollout: "rollouts",
    Source: "sources",
    SourceStatus: "source_statuses",
    Revision: "revisions",
    Event: "events",
}
"""The table of each kind of record: its attribute of `View`, and its name in the deletes of a transaction."""


def buckets_of(row: Row) -> tuple[str, ...]:
    """The index buckets in which a row's key stands."""
    match row:
        case Task():
            places = (f"service:{row.service_id}", f"node:{row.node_id}")
            return (*places, "succeeding") if row.replaces or row.gate is not None else places
        case TaskStatus():
            return ("waiting",) if row.state < TaskState.ASSIGNED else ()
        case Service():
            stack = f"stack:{row.stack}"
            return (stack,) if row.removing else (stack, f"name:{row.name}")
        case Revision():
            return (f"revision:{row.state}",)
        case _:
            return ()


class Buckets(Protocol):
    """The index as readers see it."""

    def keys(self, bucket: str) -> Iterable[str]: ...


class View:
    """Read-only state. `version` counts applied transactions: a record written next carries `version` + 1. `now` is the
    cluster time of the last entry, `event_seq` the number of the latest event. `ledger` knows what the nodes' tasks take up;
    under a draft it is that of the view below."""

    clusters: Rows[Cluster]
    nodes: Rows[Node]
    node_statuses: Rows[NodeStatus]
    stacks: Rows[Stack]
    services: Rows[Service]
    specs: Rows[SpecRow]
    blobs: Rows[Blob]
    tasks: Rows[Task]
    statuses: Rows[TaskStatus]
    rollouts: Rows[Rollout]
    sources: Rows[Source]
    source_statuses: Rows[SourceStatus]
    revisions: Rows[Revision]
    events: Rows[Event]
    index: int
    version: int
    now: Instant
    event_seq: int
    ledger: Ledger
    _buckets: Buckets

    @property
    def cluster(self) -> Cluster | None:
        """The cluster's own settings; None until the first leader has made its first full pass."""
        return self.clusters.get("default")

    def tasks_of_service(self, service: ServiceId) -> list[Task]:
        """All tasks of a service that are still on record, whatever their state; in no particular order."""
        return self._tasks(f"service:{service}")

    def tasks_of_node(self, node: NodeId) -> list[Task]:
        """All tasks on record that name the node; "" are those that have none."""
        return self._tasks(f"node:{node}")

    def waiting_tasks(self) -> list[Task]:
        """The tasks that are not yet placed (or, of global services, not yet confirmed) on a node."""
        return self._tasks("waiting")

    def succeeding_tasks(self) -> list[Task]:
        """The tasks that take the place of another one, or wait for it."""
        return self._tasks("succeeding")

    def services_of_stack(self, stack: str) -> list[Service]:
        """The services of a stack, also those being removed."""
        return [row for key in self._buckets.keys(f"stack:{stack}") if (row := self.services.get(key))]

    def service_named(self, name: str) -> Service | None:
        """The service with this scoped name (`shop_web`); one that is being removed has lost its name."""
        return next((row for key in self._buckets.keys(f"name:{name}") if (row := self.services.get(key))), None)

    def revisions_in(self, state: RevisionState) -> list[Revision]:
        """The revisions that are in `state`."""
        return [row for key in self._buckets.keys(f"revision:{state}") if (row := self.revisions.get(key))]

    def status_of(self, task: TaskId) -> TaskStatus:
        """What is observed of a task; a task nobody has reported on is NEW."""
        return self.statuses.get(task) or TaskStatus(id=task, state=TaskState.NEW, at=Instant(0))

    def events_after(self, seq: int) -> list[Event]:
        """The events after number `seq` that the ring still holds, oldest first."""
        first = max(seq + 1, self.event_seq - len(self.events) + 1)
        return [row for number in range(first, self.event_seq + 1) if (row := self.events.get(event_key(number)))]

    def _tasks(self, bucket: str) -> list[Task]:
        return [row for key in self._buckets.keys(bucket) if (row := self.tasks.get(key))]


def event_key(seq: int) -> str:
    """The key of the event with this number."""
    return f"{seq:020d}"
