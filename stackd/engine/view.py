"""What every decision reads: the tables by name and the lookups on them.

A `View` is the store's live state, a fork of it, or a draft's changes on top of either; readers can't tell which. The
indexes behind the lookups are maintained by whoever holds the tables: nothing here scans a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from heapq import merge
from itertools import groupby
from typing import Protocol

from stackd.base.ids import NodeId, ServiceId, TaskId
from stackd.base.time import Instant
from stackd.engine.ledger import Ledger
from stackd.engine.model import (
    Authority,
    Blob,
    Cluster,
    Config,
    Event,
    Network,
    Node,
    Revision,
    Row,
    Secret,
    Service,
    Source,
    SpecRow,
    Stack,
    Task,
    User,
)
from stackd.engine.parts import NodeState, RevisionState
from stackd.engine.status import Endpoint, NetworkStatus, NodeStatus, Rollout, SourceStatus, TaskStatus
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
    Network: "networks",
    NetworkStatus: "network_statuses",
    Endpoint: "endpoints",
    Config: "configs",
    Secret: "secrets",
    Authority: "authorities",
    User: "users",
}
"""The table of each kind of record: its attribute of `View`, and its name in the deletes of a transaction."""

SLOTS_PER_BLOCK = 4
"""Numbered slots whose tasks share a bucket of the index."""


ADDRESSLESS = "allocate."
"""How the reasons begin for which a task waits for an address."""


def buckets_of(row: Row) -> tuple[str, ...]:
    """The index buckets in which a row's key stands."""
    match row:
        case Task():
            block = slot_block(row.service_id, row.slot, row.node_id)
            leaving = (f"leaving:{row.service_id}",) if row.desired is TaskState.REMOVE else ()
            places = (f"service:{row.service_id}", f"node:{row.node_id}", block, *leaving)
            if row.replaces or row.gate is not None:
                return (*places, "succeeding", f"succeeding:{row.node_id}", f"flux:{row.service_id}")
            return (*places, f"flux:{row.service_id}") if row.desired is TaskState.READY else places
        case TaskStatus():
            if row.state >= TaskState.ASSIGNED:
                return ()
            return ("waiting", "addressless") if row.reason.startswith(ADDRESSLESS) else ("waiting",)
        case Service():
            depends = (f"dependents:{row.stack}_{one.service}" for one in row.settings.depends_on)
            return (f"stack:{row.stack}", *depends, *(() if row.removing else (f"name:{row.name}",)))
        case Revision():
            return (f"revision:{row.state}",)
        case NodeStatus():
            return (f"node-state:{row.state}",)
        case Network():
            return f"networks:{row.stack}", f"network-name:{row.name.lower()}"
        case NetworkStatus():
            return ("leaving",) if row.removed else ("subnetless",) if row.reason else ()
        case Config():
            return f"configs:{row.stack}", f"config-name:{row.name.lower()}"
        case Secret():
            return f"secrets:{row.stack}", f"secret-name:{row.name.lower()}"
        case _:
            return ()


def slot_block(service: ServiceId, number: int, node: NodeId) -> str:
    """The bucket of a slot's tasks, which neighbouring slots share: one for each would cost more than it saves."""
    return f"slots:{service}:{number // SLOTS_PER_BLOCK}" if number else f"slots:{service}:{node}"


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
    networks: Rows[Network]
    network_statuses: Rows[NetworkStatus]
    endpoints: Rows[Endpoint]
    configs: Rows[Config]
    secrets: Rows[Secret]
    authorities: Rows[Authority]
    users: Rows[User]
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

    @property
    def authority(self) -> Authority | None:
        """The cluster's certificate authority; None as long as it has no other nodes."""
        return self.authorities.get("default")

    def changed_tasks(self) -> Set[str]:
        """The keys of tasks that are not here as the ledger knows them: under a draft, those that it has changed."""
        return frozenset()

    def changed_nodes(self) -> Set[str]:
        """The same for nodes."""
        return frozenset()

    def nodes_from(self, first: NodeId) -> Iterator[Node]:
        """The nodes in the order of their ids, from `first` on."""
        listed = (key for _, key in self.ledger.by_id.since((0, first)))
        changed = sorted(key for key in self.changed_nodes() if key >= first)
        for key, _ in groupby(merge(listed, changed)):
            if (node := self.nodes.get(key)) is not None:
                yield node

    def tasks_of_service(self, service: ServiceId) -> list[Task]:
        """All tasks of a service that are still on record, whatever their state; in no particular order."""
        return self._tasks(f"service:{service}")

    def each_task_of_service(self, service: ServiceId) -> Iterator[Task]:
        """The same, one by one, for who need not see them all."""
        return (row for key in self._buckets.keys(f"service:{service}") if (row := self.tasks.get(key)))

    def has_tasks(self, service: ServiceId) -> bool:
        """Whether any task of the service is on record."""
        return any(True for _ in self._buckets.keys(f"service:{service}"))

    def tasks_of_node(self, node: NodeId) -> list[Task]:
        """All tasks on record that name the node; "" are those that have none."""
        return self._tasks(f"node:{node}")

    def tasks_in_slots(self, service: ServiceId, slots: Set[tuple[int, NodeId]]) -> list[Task]:
        """All tasks on record of some slots: a number and "", or 0 and a node."""
        blocks = {slot_block(service, number, node) for number, node in slots}
        tasks = [task for block in sorted(blocks) for task in self._tasks(block)]
        return [task for task in tasks if (task.slot, "" if task.slot else task.node_id) in slots]

    def tasks_in_block(self, service: ServiceId, block: int) -> list[Task]:
        """All tasks on record in the numbered slots of one block."""
        return self._tasks(slot_block(service, block * SLOTS_PER_BLOCK or 1, NodeId("")))

    def tasks_in_flux(self, service: ServiceId) -> list[Task]:
        """The service's tasks that take the place of another one, or that wait for something before they start."""
        return self._tasks(f"flux:{service}")

    def tasks_to_remove(self, service: ServiceId) -> list[Task]:
        """The service's tasks whose records go as soon as they may."""
        return self._tasks(f"leaving:{service}")

    def waiting_tasks(self) -> list[Task]:
        """The tasks that are not yet placed (or, of global services, not yet confirmed) on a node."""
        return self._tasks("waiting")

    def succeeding_tasks(self) -> list[Task]:
        """The tasks that take the place of another one, or wait for it."""
        return self._tasks("succeeding")

    def succeeding_on(self, node: NodeId) -> list[Task]:
        """Those of them that are on the node."""
        return self._tasks(f"succeeding:{node}")

    def addressless_tasks(self) -> list[Task]:
        """The tasks that wait for an address, with a reason."""
        return self._tasks("addressless")

    def subnetless_networks(self) -> list[NetworkStatus]:
        """The networks that have no subnet yet."""
        return self._network_statuses("subnetless")

    def leaving_networks(self) -> list[NetworkStatus]:
        """The networks that are gone but for the addresses that tasks still have there."""
        return self._network_statuses("leaving")

    def networks_of_stack(self, stack: str) -> list[Network]:
        """The networks that a stack owns, also those that are to go (so also the next two)."""
        return [row for key in self._buckets.keys(f"networks:{stack}") if (row := self.networks.get(key))]

    def configs_of_stack(self, stack: str) -> list[Config]:
        return [row for key in self._buckets.keys(f"configs:{stack}") if (row := self.configs.get(key))]

    def secrets_of_stack(self, stack: str) -> list[Secret]:
        return [row for key in self._buckets.keys(f"secrets:{stack}") if (row := self.secrets.get(key))]

    def spellings(self, kind: str, name: str) -> list[str]:
        """The names of objects of a `kind` (network, config, secret) that differ from `name` in case at most."""
        return list(self._buckets.keys(f"{kind}-name:{name.lower()}"))

    def services_of_stack(self, stack: str) -> list[Service]:
        """The services of a stack, also those being removed."""
        return [row for key in self._buckets.keys(f"stack:{stack}") if (row := self.services.get(key))]

    def dependents_of(self, service: Service) -> list[Service]:
        """The services of its stack that depend on the service, also those being removed."""
        rows = (self.services.get(key) for key in self._buckets.keys(f"dependents:{service.name}"))
        return [row for row in rows if row is not None and row.stack == service.stack]

    def service_named(self, name: str) -> Service | None:
        """The service with this scoped name (`shop_web`); one that is being removed has lost its name."""
        return next((row for key in self._buckets.keys(f"name:{name}") if (row := self.services.get(key))), None)

    def revisions_in(self, state: RevisionState) -> list[Revision]:
        """The revisions that are in `state`."""
        return [row for key in self._buckets.keys(f"revision:{state}") if (row := self.revisions.get(key))]

    def nodes_in(self, state: NodeState) -> list[NodeStatus]:
        """The nodes that are in `state`."""
        return [row for key in self._buckets.keys(f"node-state:{state}") if (row := self.node_statuses.get(key))]

    def status_of(self, task: TaskId) -> TaskStatus:
        """What is observed of a task; a task nobody has reported on is NEW."""
        return self.statuses.get(task) or TaskStatus(id=task, state=TaskState.NEW, at=Instant(0))

    def events_after(self, seq: int) -> list[Event]:
        """The events after number `seq` that the ring still holds, oldest first."""
        first = max(seq + 1, self.event_seq - len(self.events) + 1)
        return [row for number in range(first, self.event_seq + 1) if (row := self.events.get(event_key(number)))]

    def _network_statuses(self, bucket: str) -> list[NetworkStatus]:
        return [row for key in self._buckets.keys(bucket) if (row := self.network_statuses.get(key))]

    def _tasks(self, bucket: str) -> list[Task]:
        return [row for key in self._buckets.keys(bucket) if (row := self.tasks.get(key))]


def event_key(seq: int) -> str:
    """The key of the event with this number."""
    return f"{seq:020d}"
