"""Spread preferences: totals are evened out branch by branch, from the outermost label in (semantics 12.5)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from stackd.engine.schedule.placement import Discount, NodeInfo, Placements
from stackd.spec.stack import Placement, Resources, TaskSpec

from schedule_builders import a_group, a_node, a_spec, a_task, place

GIB = 1 << 30


def spread_over(*labels: str, **fields: Any) -> TaskSpec:
    return msgspec.structs.replace(a_spec(), placement=Placement(spread=labels), **fields)


def in_rack(name: str, rack: str, **fields: Any) -> NodeInfo:
    return a_node(name, labels={"rack": rack}, **fields)


def per_label(nodes: list[NodeInfo], result: Placements, label: str) -> Counter[str]:
    racks = {info.id: dict(info.node.labels).get(label, "") for info in nodes}
    return Counter(racks[node] for node in result.assigned.values())


RACKS = ["node.labels.rack"]


def test_six_tasks_over_two_racks_are_three_and_three_however_many_nodes_a_rack_has() -> None:
    nodes = [in_rack("n1", "a"), in_rack("n2", "b"), in_rack("n3", "b"), in_rack("n4", "b")]
    result = place(a_group(6, spread_over(*RACKS)), nodes, {})
    assert per_label(nodes, result, "rack") == {"a": 3, "b": 3}
    assert Counter(result.assigned.values()) == {"n1": 3, "n2": 1, "n3": 1, "n4": 1}


def test_all_nodes_without_the_label_are_one_branch() -> None:
    nodes = [in_rack("n1", "a"), a_node("n2"), a_node("n3"), a_node("n4", labels={"other": "b"})]
    result = place(a_group(6, spread_over(*RACKS)), nodes, {})
    assert per_label(nodes, result, "rack") == {"a": 3, "": 3}


def test_two_levels_are_balanced_at_the_first_label_first() -> None:
    nodes = [
        a_node(f"{dc}{rack}", labels={"dc": dc, "rack": rack})
        for dc, racks in (("east", "abc"), ("west", "a"))
        for rack in racks
    ]
    result = place(a_group(8, spread_over("node.labels.dc", "node.labels.rack")), nodes, {})
    assert per_label(nodes, result, "dc") == {"east": 4, "west": 4}
    assert sorted(count for node, count in Counter(result.assigned.values()).items() if node.startswith("east")) == [1, 1, 2]


def test_totals_are_evened_out_not_only_new_tasks() -> None:
    nodes = [in_rack("n1", "a", tasks_of_service=4), in_rack("n2", "b"), in_rack("n3", "b")]
    result = place(a_group(5, spread_over(*RACKS)), nodes, {})
    assert per_label(nodes, result, "rack") == {"b": 5} or per_label(nodes, result, "rack") == {"a": 1, "b": 4}


def test_tasks_on_nodes_that_take_no_more_count_for_their_branch() -> None:
    nodes = [in_rack("n1", "a", tasks_of_service=3, used_ports={("tcp", 1)}), in_rack("n2", "a"), in_rack("n3", "b")]
    result = place(a_group(3, spread_over(*RACKS)), nodes, {})
    assert per_label(nodes, result, "rack") == {"b": 3}


def test_nodes_without_the_label_are_a_branch_of_their_own() -> None:
    nodes = [in_rack("n1", "a"), in_rack("n2", "b"), a_node("n3"), a_node("n4")]
    result = place(a_group(6, spread_over(*RACKS)), nodes, {})
    assert per_label(nodes, result, "rack") == {"a": 2, "b": 2, "": 2}


def test_a_full_branch_leaves_the_rest_to_the_others() -> None:
    spec = spread_over(*RACKS, reservations=Resources(memory_bytes=GIB))
    nodes = [in_rack("n1", "a", memory=GIB), in_rack("n2", "b", memory=8 * GIB)]
    result = place(a_group(6, spec), nodes, {})
    assert per_label(nodes, result, "rack") == {"a": 1, "b": 5}


def test_labels_of_the_engine_can_be_spread_over_and_others_are_no_preference() -> None:
    nodes = [a_node("n1", engine_labels={"disk": "ssd"}), a_node("n2", engine_labels={"disk": "hdd"}), a_node("n3")]
    result = place(a_group(6, spread_over("node.hostname", "engine.labels.disk")), nodes, {})
    assert Counter(result.assigned.values()) == {"n1": 2, "n2": 2, "n3": 2}


def test_a_successor_leaves_its_node_only_for_a_better_branch() -> None:
    nodes = [in_rack("n1", "a", tasks_of_service=2, tasks_total=2), in_rack("n2", "b", tasks_of_service=1, tasks_total=1)]
    task = a_task(1)
    stays = place(a_group([task], spread_over(*RACKS)), nodes, {task.id: Discount(node_id=nodes[0].id)})
    assert stays.assigned == {task.id: "n1"}


def test_a_successor_moves_to_a_branch_that_has_fewer() -> None:
    nodes = [in_rack("n1", "a", tasks_of_service=3, tasks_total=3), in_rack("n2", "b")]
    task = a_task(1)
    moves = place(a_group([task], spread_over(*RACKS)), nodes, {task.id: Discount(node_id=nodes[0].id)})
    assert moves.assigned == {task.id: "n2"}
