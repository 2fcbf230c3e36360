"""What the tasks of each node take up, kept up to date with every applied row, so that placing one task scans nothing.

A ledger is derived: it is never stored, and a restored state has the same one. It remembers what it charged for each task,
so a task is always credited with exactly what it was charged. Tasks count from being assigned until they have really
stopped, whatever is desired of them (semantics 13).

It keeps the nodes in the order in which they come up for a task: `by_load` has exactly the open nodes (`filters.is_open`),
each under the number of its tasks that should run. `by_id` has all nodes, in the order in which a global service is updated.

It also knows which addresses are in use. There is no list of free ones to get out of step: an address is free if no record
of a task or an endpoint names it, and so none can leak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from stackd.base.ids import NodeId, ServiceId, TaskId
from stackd.engine.allocate.addresses import Addresses
from stackd.engine.failures import Failures
from stackd.engine.fates import Fates
from stackd.engine.model import SpecRow, Task
from stackd.engine.schedule.nodes import Listener, listeners
from stackd.engine.schedule.resources import NOTHING, minus, plus
from stackd.engine.status import TaskStatus
from stackd.engine.tables import Counts, Ordered, Rows, Table
from stackd.engine.tally import Tally
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Resources


@dataclass(frozen=True, slots=True)
class Charge:
    """What one task takes up on its node. `live`: it should run, so it counts when tasks are spread."""

    service_id: ServiceId
    node_id: NodeId
    reserved: Resources
    ports: frozenset[Listener]
    live: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What all tasks of one node take up. `ports` counts the tasks on each listener, `live` those that should run, `stopping`
    the others, whose room will be free soon."""

    reserved: Resources = NOTHING
    ports: dict[Listener, int] = field(default_factory=dict)
    live: int = 0
    stopping: int = 0

    def plus(self, charge: Charge) -> Usage:
        return self._changed(plus(self.reserved, charge.reserved), charge, 1)

    def minus(self, charge: Charge) -> Usage:
        return self._changed(minus(self.reserved, charge.reserved), charge, -1)

    def _changed(self, reserved: Resources, charge: Charge, by: int) -> Usage:
        live, stopping = (by, 0) if charge.live else (0, by)
        return Usage(reserved, self._counted(charge, by), self.live + live, self.stopping + stopping)

    def _counted(self, charge: Charge, by: int) -> dict[Listener, int]:
        if not charge.ports:
            return self.ports
        counts = Counter(self.ports)
        for port in charge.ports:
            counts[port] += by
        return {port: count for port, count in counts.items() if count}


UNUSED = Usage()


def holds(task: Task, status: TaskStatus | None) -> bool:
    """Whether the task takes up room on its node."""
    return bool(task.node_id) and status is not None and TaskState.ASSIGNED <= status.state <= TaskState.RUNNING


def charge_of(task: Task | None, status: TaskStatus | None, specs: Rows[SpecRow]) -> Charge | None:
    """What the task takes up now, None for nothing."""
    if task is None or not holds(task, status):
        return None
    row = specs.get(task.spec)
    live = task.desired <= TaskState.COMPLETE
    if row is None:
        return Charge(task.service_id, task.node_id, NOTHING, frozenset(), live)
    reserved = row.spec.reservations
    if reserved.generic or task.generic:
        reserved = msgspec.structs.replace(reserved, generic=task.generic)
    return Charge(task.service_id, task.node_id, reserved, listeners(row.spec) if row.spec.ports else frozenset(), live)


class Ledger:
    """The usage of every node, the charge of every task in it, the open nodes `by_load`, the `addresses` in use, the
    `failures` on record, the tasks that are `underway` and `running` by service, and the `fates` of the runs of jobs."""

    def __init__(self) -> None:
        self.addresses = Addresses()
        self.failures = Failures()
        self.underway = Tally()
        self.running = Tally()
        self.fates = Fates()
        self._charges: Table[Charge] = Table()
        self._usage: Table[Usage] = Table()
        self._members = Counts()
        self.by_load = Ordered()
        self.by_id = Ordered()

    def fork(self) -> Ledger:
        other = Ledger()
        other.addresses = self.addresses.fork()
        other.failures = self.failures.fork()
        other.underway = self.underway.fork()
        other.running = self.running.fork()
        other.fates = self.fates.fork()
        other.by_load = self.by_load.fork()
        other.by_id = self.by_id.fork()
        other._members = self._members.fork()
        other._charges = self._charges.fork()
        other._usage = self._usage.fork()
        return other

    def usage(self, node_id: NodeId) -> Usage:
        return self._usage.get(node_id) or UNUSED

    def members(self, service_id: ServiceId, node_id: NodeId) -> int:
        """How many tasks of the service should run on the node."""
        return self._members.of(service_id).get(node_id, 0)

    def members_of(self, service_id: ServiceId) -> Mapping[str, int]:
        """How many tasks of the service should run on each node that has any."""
        return self._members.of(service_id)

    def charge(self, task_id: TaskId) -> Charge | None:
        """What is charged for the task."""
        return self._charges.get(task_id)

    def settle(self, task_id: str, charge: Charge | None) -> None:
        """Charge the task with `charge` in place of what it was charged before."""
        before = self._charges.get(task_id)
        if before == charge:
            return
        if before is not None:
            self._use(before.node_id, self.usage(before.node_id).minus(before))
            self._charges.pop(task_id)
            self._count_member(before, -1)
        if charge is not None:
            self._use(charge.node_id, self.usage(charge.node_id).plus(charge))
            self._charges.put(task_id, charge)
            self._count_member(charge, 1)

    def list_node(self, node_id: NodeId, *, is_there: bool, is_open: bool) -> None:
        """Let the node come up for tasks, or not; and have it among all nodes, or not."""
        if is_there:
            self.by_id.add(0, node_id)
        else:
            self.by_id.discard(0, node_id)
        load = self.usage(node_id).live
        if is_open:
            self.by_load.add(load, node_id)
        else:
            self.by_load.discard(load, node_id)

    def _use(self, node_id: NodeId, usage: Usage) -> None:
        before = self.usage(node_id).live
        self._usage.put(node_id, usage)
        if usage.live != before and self.by_load.discard(before, node_id):
            self.by_load.add(usage.live, node_id)

    def _count_member(self, charge: Charge, by: int) -> None:
        if charge.live:
            self._members.add(charge.service_id, charge.node_id, by)
