"""What the scheduler knows of a node, what a task demands of it, and what a replaced task still holds there.

`NodeInfo` is a scratch account, filled by the caller from the state and charged with each placement, so that the next
group sees what the last one took. It is never stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stackd.base.ids import NodeId
from stackd.engine.model import Node, NodeStatus
from stackd.engine.schedule.resources import NOTHING, beyond, minus, plus
from stackd.spec.stack import Resources, TaskSpec

Listener = tuple[str, int]
"""Protocol and port; a node has each of them once."""


@dataclass(frozen=True, slots=True)
class Discount:
    """What the task being replaced holds on its node, free for its successor and for nobody else. Only for a successor
    that starts once its predecessor has stopped; with start-first both need room.

    `counted` says whether the task is among the node's `tasks_total` and `tasks_of_service`."""

    node_id: NodeId
    resources: Resources = NOTHING
    ports: frozenset[Listener] = frozenset()
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Demand:
    """What each task of a group asks of a node."""

    reservations: Resources = NOTHING
    ports: frozenset[Listener] = frozenset()
    maps_ports: bool = False
    constraints: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: TaskSpec) -> Demand:
        """An ingress port is one listener per port and node too, as long as there is no routing mesh to share it. A port
        that is still to be chosen (published 0) collides with nothing, but has to be mapped."""
        return cls(
            reservations=spec.reservations,
            ports=frozenset((port.protocol, port.published) for port in spec.ports if port.published),
            maps_ports=any(port.published != port.target for port in spec.ports),
            constraints=spec.placement.constraints,
        )


@dataclass(slots=True)
class NodeInfo:
    """One node as the scheduler sees it: `available` is what it describes less what its tasks reserve (below zero after it
    shrank), `tasks_total` and `tasks_of_service` count its active tasks, the latter those of the group's service;
    `recent_failures` are those of the group's spec on this node in the last five minutes."""

    node: Node
    status: NodeStatus
    available: Resources = NOTHING
    used_ports: set[Listener] = field(default_factory=set)
    tasks_total: int = 0
    tasks_of_service: int = 0
    recent_failures: int = 0

    @property
    def id(self) -> NodeId:
        return self.node.id

    def freed(self, discount: Discount) -> NodeInfo:
        """The node as the successor of the discounted task sees it: a copy."""
        return NodeInfo(
            node=self.node,
            status=self.status,
            available=plus(self.available, discount.resources),
            used_ports=self.used_ports - discount.ports,
            tasks_total=self.tasks_total,
            tasks_of_service=self.tasks_of_service,
            recent_failures=self.recent_failures,
        )

    def charge(self, demand: Demand, held: Resources = NOTHING) -> None:
        """Account for one more task, whose predecessor still holds `held` here."""
        if demand.reservations != NOTHING:
            self.available = minus(self.available, beyond(demand.reservations, held))
        self.used_ports |= demand.ports
        self.tasks_total += 1
        self.tasks_of_service += 1

    def forget(self) -> None:
        """One task that is counted here is about to be replaced."""
        self.tasks_total -= 1
        self.tasks_of_service -= 1
