"""The filters a node passes to take a task, in SwarmKit's order, each explaining itself (semantics 12.3).

A filter looks at one node and one demand and knows nothing of other nodes. The first that refuses is the node's verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stackd.engine.model import Node
from stackd.engine.parts import Availability, NodeState
from stackd.engine.schedule.constraints import matches
from stackd.engine.schedule.nodes import Demand, NodeInfo
from stackd.engine.schedule.resources import NOTHING, covers
from stackd.engine.status import NodeStatus


class Filter(Protocol):
    """One reason to refuse a node. `code` is its dotted error code; `about_usage` filters may change their mind when a
    task on the node comes or goes, the others only when the node itself changes."""

    code: str
    about_usage: bool

    def concerns(self, demand: Demand) -> bool:
        """Whether this demand can be refused at all; if not, no node is asked."""
        ...

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        """Whether the node passes."""
        ...

    def explain(self, nodes: int) -> str:
        """The part of a sentence that says why `nodes` nodes were refused."""
        ...


class Ready:
    code = "schedule.not_ready"
    about_usage = False

    def concerns(self, demand: Demand) -> bool:
        return True

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return info.status.state is NodeState.READY and info.node.availability is Availability.ACTIVE

    def explain(self, nodes: int) -> str:
        return f"{_counted(nodes)} not available for new tasks"


class EnoughResources:
    code = "schedule.resources"
    about_usage = True

    def concerns(self, demand: Demand) -> bool:
        return demand.reservations != NOTHING

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return covers(info.available, demand.reservations)

    def explain(self, nodes: int) -> str:
        return f"insufficient resources on {_counted(nodes)}"


class HasExecutor:
    code = "schedule.executor"
    about_usage = False

    def concerns(self, demand: Demand) -> bool:
        return True

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return bool(info.status.description.executors)

    def explain(self, nodes: int) -> str:
        return f"nothing to run tasks with on {_counted(nodes)}"


class NamedExecutor:
    """A service may say which executor has to run it."""

    code = "schedule.executor_missing"
    about_usage = False

    def concerns(self, demand: Demand) -> bool:
        return bool(demand.executor)

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return demand.executor in info.status.description.executors

    def explain(self, nodes: int) -> str:
        return f"the executor it asks for is missing on {_counted(nodes)}"


class Plugins:
    """Drivers of volumes, networks and logs. A node that names none of a kind is taken to have them: it doesn't say."""

    code = "schedule.plugin"
    about_usage = False

    def concerns(self, demand: Demand) -> bool:
        return bool(demand.plugins)

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        features = info.status.description.features
        return all(self._has(word, features) for word in demand.plugins)

    @staticmethod
    def _has(word: str, features: Sequence[str]) -> bool:
        kind = word[: word.index(":") + 1]
        return word in features or f"{word}:latest" in features or not any(one.startswith(kind) for one in features)

    def explain(self, nodes: int) -> str:
        return f"missing plugin on {_counted(nodes)}"


class MapsPorts:
    """A node without a network namespace for each task can only publish a port under its own number."""

    code = "schedule.ports_map"
    about_usage = False

    def concerns(self, demand: Demand) -> bool:
        return demand.maps_ports

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return "ports-map" in info.status.description.features

    def explain(self, nodes: int) -> str:
        return f"published ports have to equal target ports on {_counted(nodes)}"


class Constraints:
    code = "schedule.constraints"
    about_usage = False

    def concerns(self, demand: Demand) -> bool:
        return bool(demand.constraints)

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return matches(demand.constraints, info.node, info.status)

    def explain(self, nodes: int) -> str:
        return f"scheduling constraints not satisfied on {_counted(nodes)}"


class Platform:
    """A node that doesn't say what it is suits no demand for a platform; two names of one architecture are the same."""

    code = "schedule.platform"
    about_usage = False

    def concerns(self, demand: Demand) -> bool:
        return demand.platform != ("", "")

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        description = info.status.description
        return all(
            not wanted or _architecture(wanted) == _architecture(present)
            for wanted, present in zip(demand.platform, (description.os, description.arch), strict=True)
        )

    def explain(self, nodes: int) -> str:
        return f"unsupported platform on {_counted(nodes)}"


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _architecture(name: str) -> str:
    return _ARCHITECTURES.get(name.lower(), name.lower())


class FreePorts:
    code = "schedule.port_in_use"
    about_usage = True

    def concerns(self, demand: Demand) -> bool:
        return bool(demand.ports)

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return info.used_ports.isdisjoint(demand.ports)

    def explain(self, nodes: int) -> str:
        return f"published port already in use on {_counted(nodes)}"


class MaxPerNode:
    code = "schedule.max_per_node"
    about_usage = True

    def concerns(self, demand: Demand) -> bool:
        return demand.max_per_node > 0

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return info.slots_of_service < demand.max_per_node

    def explain(self, nodes: int) -> str:
        return f"max replicas per node limit exceeded on {_counted(nodes)}"


class ClusterVolumes:
    """Volumes that follow a task need a node that can attach them."""

    code = "schedule.volumes"
    about_usage = False

    def concerns(self, demand: Demand) -> bool:
        return demand.cluster_volumes

    def check(self, demand: Demand, info: NodeInfo) -> bool:
        return "cluster-volumes" in info.status.description.features

    def explain(self, nodes: int) -> str:
        return f"cluster volumes can't be attached on {_counted(nodes)}"


FILTERS: tuple[Filter, ...] = (
    Ready(),
    EnoughResources(),
    HasExecutor(),
    NamedExecutor(),
    Plugins(),
    MapsPorts(),
    Constraints(),
    Platform(),
    FreePorts(),
    MaxPerNode(),
    ClusterVolumes(),
)


def is_open(node: Node | None, status: NodeStatus | None) -> bool:
    """Whether the node passes the filters that concern every demand: it is ready, and has something to run tasks with."""
    if node is None or status is None:
        return False
    ready = status.state is NodeState.READY and node.availability is Availability.ACTIVE
    return ready and bool(status.description.executors)


def concerned(demand: Demand) -> tuple[Filter, ...]:
    """The filters that can refuse this demand, in order."""
    return tuple(each for each in FILTERS if each.concerns(demand))


def refusal(filters: Sequence[Filter], demand: Demand, info: NodeInfo) -> Filter | None:
    """The first filter that refuses the node; None if it may take the task."""
    for each in filters:
        if not each.check(demand, info):
            return each
    return None


def _counted(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"
