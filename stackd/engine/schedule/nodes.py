"""What the scheduler knows of a node, what a task demands of it, and what a replaced task still holds there.

`NodeInfo` is a scratch account, filled by the caller from the state and charged with each placement, so that the next
group sees what the last one took. It is never stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from stackd.base.ids import NodeId
from stackd.engine.model import Node
from stackd.engine.schedule.resources import NOTHING, Generic, beyond, claim, minus, returned, still_offered
from stackd.engine.status import NodeStatus
from stackd.spec.stack import MountType, Resources, TaskSpec

Listener = tuple[str, int]
"""Protocol and port; a node has each of them once."""

LOCAL_DRIVER = "local"
"""The driver of volumes that every node has."""


@dataclass(frozen=True, slots=True)
class Discount:
    """What the task being replaced holds on its node, free for its successor and for nobody else. Only for a successor
    that starts once its predecessor has stopped; with start-first both need room.

    `counted` says whether the task is among the node's `tasks_total` and `tasks_of_service`."""

    node_id: NodeId
    resources: Resources = NOTHING
    ports: frozenset[Listener] = frozenset()
    counted: bool = True


def listeners(spec: TaskSpec) -> frozenset[Listener]:
    """The ports of a node that a task listens on. An ingress port is one listener per port and node too, as long as there is
    no routing mesh to share it. A port that is still to be chosen (published 0) collides with nothing."""
    return frozenset((port.protocol, port.published) for port in spec.ports if port.published)


@dataclass(frozen=True, slots=True)
class Demand:
    """What each task of a group asks of a node. `plugins` are words like "volume:nfs"; `platform` is (os, architecture),
    "" for any; `max_per_node` 0 is any number of tasks of the service."""

    reservations: Resources = NOTHING
    ports: frozenset[Listener] = frozenset()
    maps_ports: bool = False
    constraints: tuple[str, ...] = ()
    executor: str = ""
    plugins: tuple[str, ...] = ()
    platform: tuple[str, str] = ("", "")
    max_per_node: int = 0
    cluster_volumes: bool = False

    @classmethod
    def of(cls, spec: TaskSpec, network_drivers: Iterable[str] = ()) -> Demand:
        """`network_drivers` are those of the networks that the spec joins."""
        return cls(
            reservations=spec.reservations,
            ports=listeners(spec),
            maps_ports=any(port.published != port.target for port in spec.ports),
            constraints=spec.placement.constraints,
            executor=spec.executor,
            plugins=_plugins(spec, network_drivers),
            platform=_platform(spec.container.platform),
            max_per_node=spec.placement.max_per_node,
            cluster_volumes=any(mount.type is MountType.CLUSTER for mount in spec.container.mounts),
        )


def _plugins(spec: TaskSpec, network_drivers: Iterable[str]) -> tuple[str, ...]:
    """The drivers that a node has to have (semantics 12.3): `volume:`, `network:` and `log:` with their names."""
    words = {f"network:{driver}" for driver in network_drivers}
    for mount in spec.container.mounts:
        if mount.type is MountType.VOLUME and mount.driver not in ("", LOCAL_DRIVER):
            words.add(f"volume:{mount.driver}")
    if spec.log is not None and spec.log.name not in ("", "none"):
        words.add(f"log:{spec.log.name}")
    return tuple(sorted(words))


def _platform(text: str) -> tuple[str, str]:
    """Operating system and architecture of `os[/arch[/variant]]`."""
    system, _, rest = text.partition("/")
    return system.lower(), rest.partition("/")[0].lower()


@dataclass(slots=True)
class NodeInfo:
    """One node as the scheduler sees it: `available` is what it describes less what its tasks reserve (below zero after it
    shrank), `tasks_total` and `tasks_of_service` count its active tasks, the latter those of the group's service;
    `recent_failures` are those of the group's spec on this node in the last five minutes.

    `slots_of_service` counts tasks of the group's service as well, but also those that are about to be replaced: for limits,
    where `tasks_of_service` is for ranking. `stopping` counts the tasks that still hold room but are to stop."""

    node: Node
    status: NodeStatus
    available: Resources = NOTHING
    used_ports: set[Listener] = field(default_factory=set)
    tasks_total: int = 0
    tasks_of_service: int = 0
    recent_failures: int = 0
    slots_of_service: int = 0
    stopping: int = 0

    @property
    def id(self) -> NodeId:
        return self.node.id

    def freed(self, discount: Discount) -> NodeInfo:
        """The node as the successor of the discounted task sees it: a copy."""
        return NodeInfo(
            node=self.node,
            status=self.status,
            available=returned(self.available, self._passed_on(discount)),
            used_ports=self.used_ports - discount.ports,
            tasks_total=self.tasks_total,
            tasks_of_service=self.tasks_of_service,
            recent_failures=self.recent_failures,
            slots_of_service=self.slots_of_service - discount.counted,
        )

    def charge(self, demand: Demand, discount: Discount | None = None) -> Generic:
        """Account for one more task, in place of the discounted one; returns the generic resources it is given."""
        given: Generic = ()
        if demand.reservations != NOTHING:
            held = self._passed_on(discount) if discount is not None else NOTHING
            taken = demand.reservations
            if taken.generic:
                given = claim(returned(self.available, held).generic, taken.generic)
                taken = msgspec.structs.replace(taken, generic=given)
            self.available = minus(self.available, beyond(taken, held))
        self.used_ports |= demand.ports
        self.tasks_total += 1
        self.tasks_of_service += 1
        self.slots_of_service += not (discount is not None and discount.counted)
        return given

    def _passed_on(self, discount: Discount) -> Resources:
        return still_offered(self.status.description.resources, discount.resources)

    def forget(self) -> None:
        """One task that is counted here is about to be replaced."""
        self.tasks_total -= 1
        self.tasks_of_service -= 1
