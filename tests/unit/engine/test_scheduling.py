"""Placement through the whole engine: what a decision sees of the nodes, and what becomes of tasks that wait."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from stackd.base.time import MINUTE
from stackd.engine.inputs import Wake
from stackd.engine.model import Task
from stackd.engine.schedule.spread import FAILING
from stackd.engine.step import step
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import (
    GenericResource,
    NetworkAttachment,
    NetworkSpec,
    Placement,
    Port,
    PublishMode,
    Resources,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)

from engine_builders import BAD, FLAPPING, ToyCluster, a_description, a_spec, settings

CORE = 10**9


def wanting_gpus(number: int, image: str = "v1") -> TaskSpec:
    return a_spec(image, reservations=Resources(generic=(GenericResource(kind="gpu", amount=number),)))


def with_gpus(cluster: ToyCluster, number: int, *names: str) -> None:
    """The node says that it has these gpus."""
    resources = a_description(number).resources
    generic = (GenericResource(kind="gpu", names=names),) if names else ()
    cluster.describe_node(number, resources=msgspec.structs.replace(resources, generic=generic))


def gpus(cluster: ToyCluster) -> list[str]:
    """The gpus of the tasks that run, each as often as it is used."""
    return sorted(name for task in cluster.running() for one in task.generic for name in one.names)


def fail(cluster: ToyCluster) -> None:
    """The task that runs, or will, fails."""
    cluster.until(lambda: bool(cluster.running()))
    cluster.report(cluster.running()[0], TaskState.FAILED, error="gone")


def nodes_of(tasks: list[Task]) -> Counter[str]:
    return Counter(task.node_id for task in tasks)


def spread(cluster: ToyCluster, number: int, rack: str) -> None:
    node = cluster.view.nodes.get(f"node{number}")
    assert node is not None
    cluster.put(msgspec.structs.replace(node, labels=(("rack", rack),)))


# Generic resources.


def test_named_values_are_never_given_to_two_live_tasks() -> None:
    cluster = ToyCluster()
    with_gpus(cluster, 1, "a", "b", "c")
    cluster.run(wanting_gpus(1), settings(4))
    cluster.rounds(5)
    assert gpus(cluster) == ["a", "b", "c"]
    waiting = next(task for task in cluster.live() if not task.node_id)
    assert cluster.view.status_of(waiting.id).reason == "schedule.resources"


def test_a_named_value_is_free_again_when_its_task_has_stopped() -> None:
    cluster = ToyCluster()
    with_gpus(cluster, 1, "a")
    cluster.run(wanting_gpus(1), settings(2))
    cluster.rounds(5)
    first = cluster.running()[0]
    cluster.run(wanting_gpus(1), settings(1))
    cluster.settle()
    cluster.report(first, TaskState.FAILED, error="gone")
    cluster.settle()
    assert gpus(cluster) == ["a"]


def test_named_values_survive_a_change_of_leader() -> None:
    cluster = ToyCluster()
    with_gpus(cluster, 1, "a", "b")
    cluster.run(wanting_gpus(1), settings(1))
    cluster.settle()
    cluster.restore()
    with_gpus(cluster, 1, "a", "b")
    cluster.run(wanting_gpus(1), settings(2))
    cluster.settle()
    assert gpus(cluster) == ["a", "b"]


def test_an_update_on_a_node_without_spare_gpus_hands_them_over() -> None:
    cluster = ToyCluster()
    with_gpus(cluster, 1, "a", "b")
    cluster.run(wanting_gpus(1), settings(2))
    cluster.settle()
    cluster.run(wanting_gpus(1, "v2"), settings(2))
    cluster.settle()
    assert cluster.images() == ["v2", "v2"]
    assert gpus(cluster) == ["a", "b"]


def test_a_gpu_that_has_gone_is_not_handed_over_to_the_next_task() -> None:
    cluster = ToyCluster()
    with_gpus(cluster, 1, "a", "b")
    cluster.run(wanting_gpus(1), settings(1))
    cluster.settle()
    assert gpus(cluster) == ["a"]
    with_gpus(cluster, 1, "b")
    cluster.run(wanting_gpus(1, "v2"), settings(1))
    cluster.settle()
    assert (cluster.images(), gpus(cluster)) == (["v2"], ["b"])


# Filters that look at other tasks.


def test_replicas_per_node_are_never_exceeded_not_even_while_updating_start_first() -> None:
    cluster = ToyCluster(nodes=3)
    update = UpdateConfig(monitor_ns=1, order=UpdateOrder.START_FIRST)
    for image in ("v1", "v2"):
        cluster.run(a_spec(image, placement=Placement(max_per_node=1)), settings(2, update=update))
        cluster.settle()
        assert max(nodes_of(cluster.running()).values()) == 1
    assert cluster.images() == ["v2", "v2"]


def test_more_replicas_than_nodes_allow_wait_with_the_reason() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(placement=Placement(max_per_node=1)), settings(3))
    cluster.rounds(5)
    (waiting,) = [task for task in cluster.live() if not task.node_id]
    assert cluster.view.status_of(waiting.id).error == "no suitable node (max replicas per node limit exceeded on 2 nodes)"
    cluster.join(3)
    cluster.settle()


def test_a_host_port_is_used_once_per_node() -> None:
    cluster = ToyCluster(nodes=2)
    port = Port(target=80, published=8080, mode=PublishMode.HOST)
    cluster.run(a_spec(ports=(port,)), settings(3))
    cluster.rounds(5)
    assert nodes_of(cluster.running()) == {"node1": 1, "node2": 1}
    cluster.join(3)
    cluster.settle()


def test_a_network_of_a_plugin_runs_where_the_plugin_is() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.describe_node(1, features=("ports-map", "network:bridge"))
    cluster.describe_node(2, features=("ports-map", "network:bridge", "network:weave"))
    spec = a_spec(networks=(NetworkAttachment(network="shop_mesh"),))
    network = NetworkSpec(name="shop_mesh", driver="weave")
    cluster.deploy(("web", spec, settings(2)), objects={"networks": (network,)})
    assert nodes_of(cluster.live()) == {"node2": 2}


def test_tasks_are_spread_over_racks_and_stay_so_through_updates() -> None:
    cluster = ToyCluster(nodes=4)
    for number, rack in ((1, "a"), (2, "b"), (3, "b"), (4, "b")):
        spread(cluster, number, rack)
    placement = Placement(spread=("node.labels.rack",))
    for image in ("v1", "v2"):
        cluster.run(a_spec(image, placement=placement), settings(6))
        cluster.settle()
        assert nodes_of(cluster.running()) == {"node1": 3, "node2": 1, "node3": 1, "node4": 1}


# Failing, waiting.


def test_five_failures_on_a_node_send_the_next_task_elsewhere() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec(FLAPPING), settings(1))
    cluster.until(lambda: cluster.kinds().count("task.failed") >= 6)
    cluster.join(2)
    cluster.until(lambda: bool(cluster.live()) and cluster.live()[-1].node_id == "node2")


def test_a_node_that_fails_again_and_again_is_still_used_where_there_is_no_other() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec(BAD), settings(1))
    cluster.until(lambda: cluster.kinds().count("task.rejected") >= 7)
    assert nodes_of([task for task in cluster.tasks() if task.node_id]).keys() == {"node1"}


@pytest.mark.parametrize(("minutes", "node"), [(4, "node2"), (6, "node1")])
def test_a_failure_counts_against_its_node_for_five_minutes(minutes: int, node: str) -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec(), settings(1))
    for _ in range(FAILING - 1):
        fail(cluster)
    cluster.round(after_ns=minutes * MINUTE)
    cluster.join(2)
    fail(cluster)
    assert cluster.live()[0].node_id == node


def test_failures_count_for_a_new_leader_too() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec(FLAPPING), settings(1))
    cluster.until(lambda: cluster.kinds().count("task.failed") >= 6)
    cluster.restore()
    cluster.join(1)
    cluster.join(2)
    cluster.until(lambda: bool(cluster.live()) and cluster.live()[-1].node_id == "node2")


def test_a_waiting_task_is_placed_in_the_decision_in_which_a_suitable_node_comes() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec(placement=Placement(constraints=("node.labels.disk == ssd",))), settings(1))
    assert not cluster.live()[0].node_id
    cluster.join(2, labels={"disk": "ssd"})
    assert cluster.live()[0].node_id == "node2"


def test_the_words_of_a_waiting_task_are_written_only_when_they_change() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec(reservations=Resources(nano_cpus=100 * CORE)), settings(2))
    services = tuple(row.id for row in cluster.view.services.values())
    assert step(cluster.view, [Wake(services=services)], cluster.now, cluster.entropy).transaction is None
    before = cluster.view.status_of(cluster.live()[0].id)
    cluster.join(2)
    after = cluster.view.status_of(cluster.live()[0].id)
    assert (before.error, after.error) == (
        "no suitable node (insufficient resources on 1 node)",
        "no suitable node (insufficient resources on 2 nodes)",
    )
    assert after.at == before.at


def test_a_task_larger_than_any_node_waits_for_ever_with_the_reason() -> None:
    cluster = ToyCluster(nodes=3)
    cluster.run(a_spec(reservations=Resources(memory_bytes=1 << 50)), settings(1))
    cluster.rounds(20)
    assert cluster.health().message == "shop_web.1: no suitable node (insufficient resources on 3 nodes)"


def test_room_of_a_task_that_stops_is_not_given_away_before_it_has_stopped() -> None:
    cluster = ToyCluster(nodes=1, cpus=2)
    cluster.run(a_spec(reservations=Resources(nano_cpus=2 * CORE)), settings(1))
    cluster.settle()
    cluster.deploy(
        ("web", a_spec(reservations=Resources(nano_cpus=2 * CORE)), settings(0)),
        ("late", a_spec(reservations=Resources(nano_cpus=CORE)), settings(1)),
    )
    assert not cluster.live("shop_late")[0].node_id
    cluster.settle()
    assert cluster.running("shop_late")


def test_a_drained_node_that_is_the_only_room_leaves_the_replacement_waiting() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(placement=Placement(max_per_node=1)), settings(2))
    cluster.settle()
    cluster.drain(1)
    cluster.rounds(8)
    assert nodes_of(cluster.running()) == {"node2": 1}
    assert any("max replicas per node" in cluster.view.status_of(task.id).error for task in cluster.live())


def test_tcp_and_udp_of_one_number_are_two_ports_of_a_node() -> None:
    cluster = ToyCluster()
    tcp, udp = (Port(target=53, published=53, protocol=protocol, mode=PublishMode.HOST) for protocol in ("tcp", "udp"))
    cluster.deploy(("tcp", a_spec(ports=(tcp,)), settings()), ("udp", a_spec(ports=(udp,)), settings()))
    cluster.settle()
    cluster.deploy(("both", a_spec(ports=(tcp, udp)), settings()), stack="late")
    assert [task.node_id for task in cluster.live("late_both")] == [""]


def test_two_services_that_compete_for_the_last_room_leave_one_with_a_reason() -> None:
    cluster = ToyCluster(nodes=1, cpus=1)
    spec = a_spec(reservations=Resources(nano_cpus=CORE))
    cluster.deploy(("one", spec, settings(1)), ("two", spec, settings(1)))
    placed = [bool(cluster.live(name)[0].node_id) for name in ("shop_one", "shop_two")]
    assert sorted(placed) == [False, True]
