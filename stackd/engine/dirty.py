"""Where a decision has to look. Inputs only mark; what is true is read from the view.

Marking too much costs time, never correctness: every stage is level-triggered. A service is marked as a whole, or only some
of its slots are, so that a report on one of many thousand tasks costs what one task costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stackd.base.ids import NodeId, ServiceId, TaskId
from stackd.engine.model import Task
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode

SlotKey = tuple[int, NodeId]
"""What identifies a slot within its service: number and "", or 0 and the node."""

Scope = set[SlotKey] | None
"""The slots of a service that are looked at, besides those that wait for something anyway; None is all of them."""

UNFILLED: SlotKey = (0, NodeId(""))
"""Stands for the slots that no task has been made for yet."""

EVERYWHERE = frozenset({ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB})
"""The modes in which a service has one slot per node."""


DEADLINE: SlotKey = (-1, NodeId(""))
"""No slot: in a scope it says that a deadline of the service has come. Most of them are found with what is in flux."""

JOBS = frozenset({ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB})
"""The modes of services whose tasks are to complete."""


CONTENT = ServiceId("")
"""Stands for no service: what wakes up for it looks for content that nothing names any more."""


def key_of(task: Task) -> SlotKey:
    """The slot of a task: its number, or its node if it has none."""
    return task.slot, NodeId("") if task.slot else task.node_id


@dataclass(slots=True)
class Dirty:
    """`services` in the order they were marked, with the slots to look at; `room`: tasks that wait for a node may fit now;
    `garbage`: content may have lost its last reference."""

    services: dict[ServiceId, Scope] = field(default_factory=dict)
    room: bool = False
    garbage: bool = False
    subnets: bool = False
    unaddressed: set[TaskId] = field(default_factory=set)

    def mark(self, services: Iterable[ServiceId]) -> None:
        """Look at everything of these services."""
        for service in services:
            self.services[service] = None

    def mark_slot(self, service: ServiceId, key: SlotKey) -> None:
        """Look at one slot of the service, and at what its other slots wait for."""
        scope = self.services.setdefault(service, set())
        if scope is not None:
            scope.add(key)

    def mark_waiting(self, services: Iterable[ServiceId]) -> None:
        """Look at what the slots of these services wait for."""
        for service in services:
            self.services.setdefault(service, set())

    def mark_due(self, services: Iterable[ServiceId]) -> None:
        """A deadline of these services has come."""
        for service in services:
            self.mark_slot(service, DEADLINE)

    def mark_dependents(self, view: View, service: ServiceId) -> list[ServiceId]:
        """What depends on the service has to be looked at as well; returns those that were not marked before."""
        row = view.services.get(service)
        others = view.dependents_of(row) if row is not None else []
        new = [other.id for other in others if other.id not in self.services]
        self.mark_waiting(new)
        return new

    def mark_node(self, view: View, node: NodeId) -> None:
        """A node has changed: its tasks, its slot of every global service, and whatever waits for a node."""
        for task in view.tasks_of_node(node):
            self.mark_slot(task.service_id, key_of(task))
        for service in view.services.values():
            if service.settings.mode in EVERYWHERE:
                self.mark_slot(service.id, (0, node))
        self.room = True

    def mark_all(self, view: View) -> None:
        self.mark(row.id for row in view.services.values())
        self.room = self.garbage = self.subnets = True
