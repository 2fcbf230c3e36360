"""Each filter by itself: what it asks for, and how it says no (semantics 12.3, 13)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from stackd.engine.parts import Availability, NodeState
from stackd.engine.schedule.filters import is_open
from stackd.engine.schedule.placement import Discount, NodeInfo
from stackd.spec.stack import (
    ContainerSpec,
    GenericResource,
    LogDriver,
    Mount,
    MountType,
    Placement,
    Resources,
    TaskSpec,
)

from schedule_builders import a_group, a_node, a_spec, a_task, listeners, place


def spec(**fields: Any) -> TaskSpec:
    return msgspec.structs.replace(a_spec(), **fields)


def running(**container: Any) -> TaskSpec:
    return spec(container=ContainerSpec(image="app", **container))


def wanting(kind: str, amount: int) -> TaskSpec:
    return spec(reservations=Resources(generic=(GenericResource(kind=kind, amount=amount),)))


def offering(name: str, *generic: GenericResource, **fields: Any) -> NodeInfo:
    node = a_node(name, **fields)
    node.available = msgspec.structs.replace(node.available, generic=generic)
    return node


def takers(wanted: TaskSpec, *nodes: NodeInfo, tasks: int = 1) -> Counter[str]:
    return Counter(place(a_group(tasks, wanted), nodes, {}).assigned.values())


def refusal(wanted: TaskSpec, *nodes: NodeInfo) -> tuple[str, str]:
    group = a_group(1, wanted)
    verdict = place(group, nodes, {}).unplaced[group.tasks[0].id]
    return verdict.code, verdict.sentence


# Nodes that come up at all.


@pytest.mark.parametrize(
    "fields",
    [
        {"state": NodeState.DOWN},
        {"state": NodeState.UNKNOWN},
        {"state": NodeState.DISCONNECTED},
        {"availability": Availability.PAUSE},
        {"availability": Availability.DRAIN},
        {"executors": ()},
    ],
)
def test_a_node_that_takes_nothing_is_not_open(fields: dict[str, Any]) -> None:
    closed = a_node("n1", **fields)
    assert not is_open(closed.node, closed.status)
    assert place(a_group(1), [closed], {}).assigned == {}


def test_a_node_that_is_ready_and_active_and_has_an_executor_is_open() -> None:
    node = a_node()
    assert is_open(node.node, node.status)
    assert not is_open(None, node.status)
    assert not is_open(node.node, None)


# Generic resources.


def test_a_counted_resource_is_given_out_until_none_is_left() -> None:
    node = offering("n1", GenericResource(kind="gpu", amount=5))
    group = a_group(3, wanting("gpu", 2))
    result = place(group, [node], {})
    assert len(result.assigned) == 2
    assert set(result.given.values()) == {(GenericResource(kind="gpu", amount=2),)}


def test_named_values_are_given_in_order_and_each_to_one_task() -> None:
    node = offering("n1", GenericResource(kind="gpu", names=("a", "b", "c")))
    group = a_group(3, wanting("gpu", 1))
    given = place(group, [node], {}).given
    assert sorted(one.names for generic in given.values() for one in generic) == [("a",), ("b",), ("c",)]


def test_a_task_that_asks_for_more_than_a_node_has_says_so() -> None:
    assert refusal(wanting("gpu", 2), offering("n1", GenericResource(kind="gpu", names=("a",)))) == (
        "schedule.resources",
        "no suitable node (insufficient resources on 1 node)",
    )
    assert refusal(wanting("gpu", 1), a_node("n1"))[0] == "schedule.resources"


def with_all_in_use(name: str, *generic: GenericResource) -> NodeInfo:
    """A node that has these, of which none is left."""
    node = a_node(name)
    resources = Resources(generic=generic)
    node.status = msgspec.structs.replace(
        node.status, description=msgspec.structs.replace(node.status.description, resources=resources)
    )
    return node


def test_a_stop_first_successor_may_have_the_named_value_of_its_predecessor() -> None:
    gpu = GenericResource(kind="gpu", names=("a",))
    node = with_all_in_use("n1", gpu)
    held = Resources(generic=(gpu,))
    task = a_task(1)
    group = a_group([task, a_task(2)], wanting("gpu", 1))
    result = place(group, [node], {task.id: Discount(node_id=node.id, resources=held)})
    assert result.given == {task.id: (GenericResource(kind="gpu", names=("a",)),)}
    assert len(result.unplaced) == 1


def test_what_a_node_has_no_more_is_not_passed_on_to_a_successor() -> None:
    gone, left = GenericResource(kind="gpu", names=("a",)), GenericResource(kind="gpu", names=("b",))
    for offered in ((), (left,)):
        node = with_all_in_use("n1", *offered)
        task = a_task(1)
        result = place(a_group([task], wanting("gpu", 1)), [node], {task.id: Discount(node.id, Resources(generic=(gone,)))})
        assert list(result.unplaced) == [task.id]


# Executor, plugins, platform, volumes.


def test_a_service_gets_the_executor_it_asks_for() -> None:
    nodes = a_node("n1", executors=("docker",)), a_node("n2", executors=("docker", "process"))
    assert takers(spec(executor="process"), *nodes) == {"n2": 1}
    assert refusal(spec(executor="process"), nodes[0])[0] == "schedule.executor_missing"


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        (running(mounts=(Mount(type=MountType.VOLUME, source="data", target="/data", driver="nfs"),)), "volume:nfs"),
        (spec(log=LogDriver(name="gelf")), "log:gelf"),
    ],
)
def test_a_driver_has_to_be_on_a_node_that_names_its_plugins(wanted: TaskSpec, word: str) -> None:
    kind = word.partition(":")[0]
    has, lacks = a_node("n1", features=(word, f"{kind}:local")), a_node("n2", features=(f"{kind}:local",))
    latest, silent = a_node("n3", features=(f"{word}:latest",)), a_node("n4", features=())
    assert set(takers(wanted, has, lacks, latest, silent, tasks=6)) == {"n1", "n3", "n4"}
    assert refusal(wanted, lacks) == ("schedule.plugin", "no suitable node (missing plugin on 1 node)")


def test_a_feature_that_only_begins_like_a_kind_of_plugin_is_none() -> None:
    assert takers(spec(log=LogDriver(name="gelf")), a_node("n1", features=("login", "logs"))) == {"n1": 1}


def test_drivers_that_every_node_has_ask_for_nothing() -> None:
    mount = Mount(type=MountType.VOLUME, source="data", target="/data", driver="local")
    assert takers(running(mounts=(mount,)), a_node("n1", features=("volume:other",))) == {"n1": 1}
    assert takers(spec(log=LogDriver(name="none")), a_node("n1", features=("log:other",))) == {"n1": 1}


def test_the_driver_of_a_network_has_to_be_there() -> None:
    group = a_group(1)
    wanting_weave = type(group)(service=group.service, spec=group.spec, tasks=group.tasks, network_drivers=("weave",))
    nodes = [a_node("n1", features=("network:weave",)), a_node("n2", features=("network:bridge",))]
    assert set(place(wanting_weave, nodes, {}).assigned.values()) == {"n1"}


@pytest.mark.parametrize(
    ("platform", "arch", "fits"),
    [
        ("linux/amd64", "x86_64", True),
        ("linux/arm64/v8", "aarch64", True),
        ("linux/aarch64", "arm64", True),
        ("linux", "riscv64", True),
        ("linux/arm64", "amd64", False),
        ("windows/amd64", "amd64", False),
        ("linux/amd64", "", False),
        ("", "", True),
    ],
)
def test_a_platform_matches_by_any_of_its_names(platform: str, arch: str, fits: bool) -> None:
    node = a_node("n1")
    node.status = msgspec.structs.replace(node.status, description=msgspec.structs.replace(node.status.description, arch=arch))
    assert bool(takers(running(platform=platform), node)) is fits
    if not fits:
        assert refusal(running(platform=platform), node)[1] == "no suitable node (unsupported platform on 1 node)"


def test_cluster_volumes_need_a_node_that_can_attach_them() -> None:
    wanted = running(mounts=(Mount(type=MountType.CLUSTER, source="data", target="/data"),))
    assert takers(wanted, a_node("n1", features=("cluster-volumes",)), a_node("n2")) == {"n1": 1}
    assert refusal(wanted, a_node("n2"))[0] == "schedule.volumes"


# Replicas per node.


def at_most(number: int) -> TaskSpec:
    return spec(placement=Placement(max_per_node=number))


def test_a_node_takes_no_more_replicas_than_allowed() -> None:
    nodes = [a_node(f"n{i}") for i in range(3)]
    result = place(a_group(8, at_most(2)), nodes, {})
    assert Counter(result.assigned.values()) == {"n0": 2, "n1": 2, "n2": 2}
    assert {verdict.code for verdict in result.unplaced.values()} == {"schedule.max_per_node"}


def test_a_stop_first_successor_is_not_one_more_replica() -> None:
    node = a_node("n1", tasks_of_service=1, tasks_total=1, slots_of_service=1)
    task = a_task(1)
    result = place(a_group([task, a_task(2)], at_most(1)), [node], {task.id: Discount(node_id=node.id)})
    assert result.assigned == {task.id: "n1"}


def test_replaced_tasks_leave_no_room_for_others_under_the_limit() -> None:
    nodes = [a_node("n1", tasks_of_service=1, slots_of_service=1), a_node("n2", tasks_of_service=1, slots_of_service=1)]
    first, second = a_task(1), a_task(2)
    discounts = {first.id: Discount(node_id=nodes[0].id), second.id: Discount(node_id=nodes[1].id)}
    result = place(a_group([first, second, a_task(3)], at_most(1)), nodes, discounts)
    assert set(result.assigned) == {first.id, second.id}


def test_a_start_first_successor_needs_a_place_of_its_own() -> None:
    node = a_node("n1", tasks_of_service=1, slots_of_service=1)
    assert not place(a_group(1, at_most(1)), [node], {}).assigned


# How it is said.


def test_the_verdict_counts_the_nodes_of_each_filter_most_first() -> None:
    nodes = [
        a_node("n1", state=NodeState.DOWN),
        a_node("n2", availability=Availability.PAUSE),
        a_node("n3", used_ports={("tcp", 80)}),
    ]
    assert refusal(a_spec(ports=listeners(80)), *nodes) == (
        "schedule.no_node",
        "no suitable node (2 nodes not available for new tasks; published port already in use on 1 node)",
    )
