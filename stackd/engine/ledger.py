"""What the tasks of each node take up, kept up to date with every applied row, so that placing one task scans nothing.

A ledger is derived: it is never stored, and a restored state has the same one. It remembers what it charged for each task,
so a task is always credited with exactly what it was charged. Tasks count from being assigned until they have really
stopped, whatever is desired of them (semantics 13).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stackd.base.ids import NodeId, TaskId
from stackd.engine.model import SpecRow, Task, TaskStatus
from stackd.engine.schedule.nodes import Demand, Listener
from stackd.engine.schedule.resources import NOTHING, minus, plus
from stackd.engine.tables import Rows, Table
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Resources


@dataclass(frozen=True, slots=True)
class Charge:
    """What one task takes up on its node. `live`: it should run, so it counts when tasks are spread."""

    node_id: NodeId
    reserved: Resources
    ports: frozenset[Listener]
    live: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What all tasks of one node take up. `ports` counts the tasks on each listener."""

    reserved: Resources = NOTHING
    ports: dict[Listener, int] = field(default_factory=dict)
    live: int = 0

    def plus(self, charge: Charge) -> Usage:
        return Usage(plus(self.reserved, charge.reserved), self._counted(charge, 1), self.live + charge.live)

    def minus(self, charge: Charge) -> Usage:
        return Usage(minus(self.reserved, charge.reserved), self._counted(charge, -1), self.live - charge.live)

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
    demand = Demand.of(row.spec) if row is not None else Demand()
    return Charge(task.node_id, demand.reservations, demand.ports, live=task.desired <= TaskState.COMPLETE)


class Ledger:
    """The usage of every node, and the charge of every task in it."""

    def __init__(self) -> None:
        self._charges: Table[Charge] = Table()
        self._usage: Table[Usage] = Table()

    def fork(self) -> Ledger:
        other = Ledger()
        other._charges = self._charges.fork()
        other._usage = self._usage.fork()
        return other

    def usage(self, node_id: NodeId) -> Usage:
        return self._usage.get(node_id) or UNUSED

    def charge(self, task_id: TaskId) -> Charge | None:
        """What is charged for the task."""
        return self._charges.get(task_id)

    def settle(self, task_id: str, charge: Charge | None) -> None:
        """Charge the task with `charge` in place of what it was charged before."""
        before = self._charges.get(task_id)
        if before == charge:
            return
        if before is not None:
            self._usage.put(before.node_id, self.usage(before.node_id).minus(before))
            self._charges.pop(task_id)
        if charge is not None:
            self._usage.put(charge.node_id, self.usage(charge.node_id).plus(charge))
            self._charges.put(task_id, charge)
