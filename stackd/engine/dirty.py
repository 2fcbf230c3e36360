"""Where a decision has to look. Inputs only mark; what is true is read from the view.

Marking too much costs time, never correctness: every stage is level-triggered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stackd.base.ids import NodeId, ServiceId
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode


@dataclass(slots=True)
class Dirty:
    """`services` in the order they were marked; `room`: tasks that wait for a node may fit now; `garbage`: content may
    have lost its last reference."""

    services: dict[ServiceId, None] = field(default_factory=dict)
    room: bool = False
    garbage: bool = False

    def mark(self, services: Iterable[ServiceId]) -> None:
        for service in services:
            self.services[service] = None

    def mark_node(self, view: View, node: NodeId) -> None:
        """A node has changed: its tasks, every global service, and whatever waits for a node."""
        self.mark(task.service_id for task in view.tasks_of_node(node))
        self.mark(row.id for row in view.services.values() if row.settings.mode is ServiceMode.GLOBAL)
        self.room = True

    def mark_all(self, view: View) -> None:
        self.mark(row.id for row in view.services.values())
        self.room = self.garbage = True
