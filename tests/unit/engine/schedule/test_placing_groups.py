from __future__ import annotations

import time
from collections import Counter

from stackd.base.ids import NodeId
from stackd.engine.parts import Availability, NodeState
from stackd.engine.schedule.placement import Discount, NodeInfo, Verdict
from stackd.spec.stack import Port, Resources

from schedule_builders import a_group, a_node, a_spec, a_task, listeners, place

MIB = 1 << 20


def sentence_of(nodes: list[NodeInfo], **spec: object) -> str:
    return verdict_of(nodes, **spec).sentence


def verdict_of(nodes: list[NodeInfo], **spec: object) -> Verdict:
    group = a_group(1, a_spec(**spec))  # type: ignore[arg-type]
    result = place(group, nodes, {})
    assert not result.assigned
    return result.unplaced[group.tasks[0].id]


def test_tasks_spread_evenly_over_equal_nodes() -> None:
    result = place(a_group(7), [a_node(f"n{i}") for i in range(3)], {})
    assert sorted(Counter(result.assigned.values()).values()) == [2, 2, 3]


def test_new_tasks_fill_the_least_loaded_nodes_first() -> None:
    nodes = [a_node("n1", tasks_of_service=3, tasks_total=3), a_node("n2"), a_node("n3", tasks_of_service=1, tasks_total=1)]
    result = place(a_group(5), nodes, {})
    assert Counter(result.assigned.values()) == {"n2": 3, "n3": 2}


def test_tasks_of_the_service_count_before_tasks_of_others() -> None:
    nodes = [a_node("n1", tasks_of_service=1, tasks_total=1), a_node("n2", tasks_of_service=0, tasks_total=40)]
    result = place(a_group(1), nodes, {})
    assert set(result.assigned.values()) == {"n2"}


def test_a_node_where_the_spec_fails_again_and_again_comes_last() -> None:
    nodes = [a_node("n1", recent_failures=5), a_node("n2", tasks_of_service=9, tasks_total=9, recent_failures=4)]
    assert set(place(a_group(3), nodes, {}).assigned.values()) == {"n2"}


def test_a_failing_node_is_still_used_where_there_is_no_other() -> None:
    assert set(place(a_group(1), [a_node("n1", recent_failures=9)], {}).assigned.values()) == {"n1"}


def test_a_node_takes_no_more_than_it_has_memory_for() -> None:
    nodes = [a_node("n1", memory=250 * MIB), a_node("n2", memory=100 * MIB)]
    group = a_group(5, a_spec(memory=100 * MIB))
    result = place(group, nodes, {})
    assert Counter(result.assigned.values()) == {"n1": 2, "n2": 1}
    assert {verdict.sentence for verdict in result.unplaced.values()} == {
        "no suitable node (insufficient resources on 2 nodes)"
    }


def test_a_published_port_is_given_out_once_per_node() -> None:
    group = a_group(3, a_spec(ports=listeners(80)))
    result = place(group, [a_node("n1"), a_node("n2")], {})
    assert sorted(result.assigned.values()) == ["n1", "n2"]
    assert [verdict.code for verdict in result.unplaced.values()] == ["schedule.port_in_use"]


def test_udp_and_tcp_of_one_number_are_two_listeners() -> None:
    node = a_node("n1", used_ports={("udp", 53)})
    assert place(a_group(1, a_spec(ports=[Port(target=53, published=53)])), [node], {}).assigned


def test_a_port_still_to_be_chosen_collides_with_nothing() -> None:
    group = a_group(3, a_spec(ports=[Port(target=80)]))
    assert len(place(group, [a_node("n1")], {}).assigned) == 3


def test_later_groups_see_what_earlier_ones_took() -> None:
    nodes = [a_node("n1", cpus=1), a_node("n2", cpus=1)]
    first = place(a_group(1, a_spec(cpus=1), service="a"), nodes, {})
    second = place(a_group(1, a_spec(cpus=1), service="b"), nodes, {})
    assert sorted([*first.assigned.values(), *second.assigned.values()]) == ["n1", "n2"]


def test_the_sentence_counts_nodes_by_the_filter_that_refused_them() -> None:
    nodes = [
        a_node("n1", state=NodeState.DOWN),
        a_node("n2", availability=Availability.DRAIN),
        a_node("n3", memory=1),
    ]
    verdict = verdict_of(nodes, memory=MIB)
    assert verdict.sentence == "no suitable node (2 nodes not available for new tasks; insufficient resources on 1 node)"
    assert verdict.code == "schedule.no_node"


def test_every_filter_explains_itself() -> None:
    other_port = [Port(target=80, published=8080)]
    assert "1 node not available for new tasks" in sentence_of([a_node(state=NodeState.UNKNOWN)])
    assert "1 node not available for new tasks" in sentence_of([a_node(availability=Availability.PAUSE)])
    assert "insufficient resources on 1 node" in sentence_of([a_node(cpus=1)], cpus=2)
    assert "nothing to run tasks with on 1 node" in sentence_of([a_node(executors=())])
    assert "published ports have to equal target ports on 1 node" in sentence_of([a_node(features=())], ports=other_port)
    assert "scheduling constraints not satisfied on 1 node" in sentence_of([a_node()], constraints=["node.role == manager"])
    assert "published port already in use on 1 node" in sentence_of([a_node(used_ports={("tcp", 80)})], ports=listeners(80))


def test_a_cluster_without_nodes_says_so() -> None:
    assert sentence_of([]) == "no suitable node (there is none to choose from)"


def test_a_verdict_tells_whether_a_task_that_ends_could_help() -> None:
    assert verdict_of([a_node(cpus=1)], cpus=2).lacks_room
    assert verdict_of([a_node(state=NodeState.DOWN), a_node("n2", used_ports={("tcp", 80)})], ports=listeners(80)).lacks_room
    assert not verdict_of([a_node(state=NodeState.DOWN)]).lacks_room
    assert not verdict_of([a_node(cpus=1)], cpus=2, constraints=["node.role == manager"]).lacks_room


def test_a_node_without_port_mapping_takes_ports_that_are_equal() -> None:
    assert place(a_group(1, a_spec(ports=listeners(8080))), [a_node(features=())], {}).assigned


def test_a_preassigned_task_is_confirmed_on_its_node() -> None:
    tasks = [a_task(0, node="n1"), a_task(0, node="n2")]
    result = place(a_group(tasks), [a_node("n1"), a_node("n2")], {})
    assert result.assigned == {tasks[0].id: "n1", tasks[1].id: "n2"}


def test_a_preassigned_task_goes_nowhere_else() -> None:
    task = a_task(0, node="n1")
    result = place(a_group([task]), [a_node("n1", availability=Availability.DRAIN), a_node("n2")], {})
    assert result.unplaced[task.id].code == "schedule.not_ready"


def test_a_preassigned_task_of_a_node_that_is_gone_is_refused() -> None:
    task = a_task(0, node="gone")
    assert place(a_group([task]), [a_node("n1")], {}).unplaced[task.id].code == "schedule.no_node"


def test_a_successor_takes_the_room_and_the_port_of_its_predecessor() -> None:
    full = a_node("n1", cpus=0, used_ports={("tcp", 80)}, tasks_total=1, tasks_of_service=1)
    task = a_task(1)
    spec = a_spec(cpus=1, ports=listeners(80))
    held = Discount(NodeId("n1"), Resources(nano_cpus=1_000_000_000), frozenset({("tcp", 80)}))
    assert place(a_group([task], spec), [full], {task.id: held}).assigned == {task.id: "n1"}
    assert full.available == Resources()


def test_nobody_else_takes_what_a_predecessor_still_holds() -> None:
    full = a_node("n1", used_ports={("tcp", 80)}, tasks_total=1, tasks_of_service=1)
    heir, stranger = a_task(2), a_task(1)
    held = Discount(NodeId("n1"), Resources(nano_cpus=2_000_000_000), frozenset({("tcp", 80)}))
    result = place(a_group([stranger, heir], a_spec(cpus=1)), [full], {heir.id: held})
    assert result.assigned == {heir.id: "n1"}
    assert stranger.id in result.unplaced


def test_a_rolling_update_stays_where_its_tasks_are() -> None:
    names = ["n1", "n2", "n3"]
    tasks = [a_task(slot) for slot in (1, 2, 3)]
    discounts = {task.id: Discount(NodeId(name)) for task, name in zip(tasks, reversed(names), strict=True)}
    nodes = [a_node(name, tasks_total=1, tasks_of_service=1) for name in names]
    result = place(a_group(tasks), nodes, discounts)
    assert result.assigned == {task.id: discounts[task.id].node_id for task in tasks}


def test_a_successor_leaves_a_node_that_is_more_loaded_than_another() -> None:
    crowded = a_node("n1", tasks_total=3, tasks_of_service=3)
    task = a_task(1)
    result = place(a_group([task]), [crowded, a_node("n2")], {task.id: Discount(NodeId("n1"))})
    assert result.assigned == {task.id: "n2"}


def test_a_successor_leaves_a_drained_node() -> None:
    task = a_task(1)
    nodes = [a_node("n1", availability=Availability.DRAIN), a_node("n2", tasks_total=5, tasks_of_service=5)]
    assert place(a_group([task]), nodes, {task.id: Discount(NodeId("n1"))}).assigned == {task.id: "n2"}


def test_ten_thousand_tasks_of_a_hundred_services_on_a_thousand_nodes_take_a_moment() -> None:
    nodes = [a_node(f"n{i:04d}", cpus=4, labels={"disk": "ssd" if i % 2 else "hdd"}) for i in range(1000)]
    spec = a_spec(cpus=0.1, constraints=["node.labels.disk == ssd"])
    groups = [a_group(100, spec, service=f"s{i}") for i in range(100)]
    began = time.process_time()
    for group in groups:
        for info in nodes:
            info.tasks_of_service = 0
        assert len(place(group, nodes, {}).assigned) == 100
    assert time.process_time() - began < 3.0
    assert {info.tasks_total for info in nodes} == {0, 20}
