"""Builders for scheduler tests: a node, a service, tasks of it. Everything has a default that just works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stackd.base.ids import NodeId, ServiceId, TaskId
from stackd.base.time import Instant
from stackd.engine.model import Node, Service, Task
from stackd.engine.parts import Availability, NodeDescription, NodeState, Role
from stackd.engine.schedule import placement
from stackd.engine.schedule.placement import Discount, Group, NodeInfo, Placements
from stackd.engine.schedule.spread import Candidate, candidate
from stackd.engine.status import NodeStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.digest import spec_digest
from stackd.spec.stack import ContainerSpec, Placement, Port, Resources, ServiceSettings, TaskSpec

NOW = Instant(0)


class Listed:
    """A list of nodes, all with accounts and all ranked at once: the plain form of what the engine does step by step."""

    def __init__(self, nodes: Sequence[NodeInfo]) -> None:
        self._by_id = {info.id: info for info in nodes}

    def get(self, node_id: NodeId) -> NodeInfo | None:
        return self._by_id.get(node_id)

    def all(self) -> Sequence[NodeInfo]:
        return list(self._by_id.values())

    def ranked(self) -> Iterator[Candidate]:
        return iter(sorted(map(candidate, self._by_id.values())))


def place(group: Group, nodes: Sequence[NodeInfo], discounts: Mapping[TaskId, Discount]) -> Placements:
    """Place a group on the nodes of a list."""
    return placement.place(group, Listed(nodes), discounts)


def a_node(
    name: str = "n1",
    *,
    state: NodeState = NodeState.READY,
    availability: Availability = Availability.ACTIVE,
    role: Role = Role.WORKER,
    labels: dict[str, str] | None = None,
    engine_labels: dict[str, str] | None = None,
    address: str = "10.0.0.1",
    cpus: float = 0,
    memory: int = 0,
    executors: tuple[str, ...] = ("docker",),
    features: tuple[str, ...] = ("ports-map",),
    **account: Any,
) -> NodeInfo:
    """A ready node called `name`, with `cpus` cores and `memory` bytes unreserved; `account` sets further NodeInfo fields."""
    resources = Resources(nano_cpus=round(cpus * 1_000_000_000), memory_bytes=memory)
    description = NodeDescription(
        hostname=f"{name}.example",
        os="linux",
        arch="amd64",
        resources=resources,
        executors=executors,
        engine_labels=tuple(sorted((engine_labels or {}).items())),
        features=features,
    )
    return NodeInfo(
        node=Node(
            id=NodeId(name),
            created_at=NOW,
            role=role,
            availability=availability,
            labels=tuple(sorted((labels or {}).items())),
        ),
        status=NodeStatus(id=NodeId(name), state=state, at=NOW, address=address, description=description),
        available=resources,
        **account,
    )


def a_spec(
    *,
    ports: Sequence[Port] = (),
    cpus: float = 0,
    memory: int = 0,
    constraints: Sequence[str] = (),
) -> TaskSpec:
    return TaskSpec(
        container=ContainerSpec(image="app"),
        reservations=Resources(nano_cpus=round(cpus * 1_000_000_000), memory_bytes=memory),
        placement=Placement(constraints=tuple(constraints)),
        ports=tuple(ports),
    )


def a_group(tasks: int | Sequence[Task] = 1, spec: TaskSpec | None = None, service: str = "web") -> Group:
    """`tasks` identical tasks of one service, in slots from 1."""
    spec = spec or a_spec()
    members = [a_task(slot, service=service) for slot in range(1, tasks + 1)] if isinstance(tasks, int) else tasks
    record = Service(
        id=ServiceId(service),
        stack="shop",
        name=f"shop_{service}",
        spec=spec_digest(spec),
        settings=ServiceSettings(replicas=len(members)),
        created_at=NOW,
        updated_at=NOW,
    )
    return Group(service=record, spec=spec, tasks=members)


def a_task(slot: int = 1, *, service: str = "web", node: str = "") -> Task:
    return Task(
        id=TaskId(f"{service}-{slot:05d}{node}"),
        service_id=ServiceId(service),
        slot=slot,
        spec=spec_digest(a_spec()),
        desired=TaskState.RUNNING,
        created_at=NOW,
        node_id=NodeId(node),
    )


def listeners(*ports: int) -> list[Port]:
    return [Port(target=port, published=port) for port in ports]
