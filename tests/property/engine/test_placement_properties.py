from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from stackd.base.ids import NodeId
from stackd.engine.parts import Availability, NodeState
from stackd.engine.schedule.placement import Discount, Group, NodeInfo
from stackd.spec.stack import Resources

from schedule_builders import a_group, a_node, a_spec, a_task, listeners, place

CORE = 1_000_000_000


@st.composite
def clusters(draw: st.DrawFn) -> list[NodeInfo]:
    return [
        a_node(
            f"n{number}",
            cpus=draw(st.integers(0, 4)),
            state=draw(st.sampled_from([NodeState.READY, NodeState.READY, NodeState.READY, NodeState.DOWN])),
            availability=draw(st.sampled_from([Availability.ACTIVE, Availability.ACTIVE, Availability.DRAIN])),
            used_ports=set(draw(st.sets(st.sampled_from([("tcp", 80), ("tcp", 443)])))),
            tasks_total=draw(st.integers(0, 5)),
            recent_failures=draw(st.integers(0, 6)),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


@st.composite
def groups(draw: st.DrawFn) -> list[Group]:
    return [
        a_group(
            draw(st.integers(0, 8)),
            a_spec(cpus=draw(st.integers(0, 2)), ports=listeners(*draw(st.sets(st.sampled_from([80, 443]), max_size=2)))),
            service=f"s{number}",
        )
        for number in range(draw(st.integers(1, 3)))
    ]


def a_copy(nodes: list[NodeInfo]) -> list[NodeInfo]:
    return [info.freed(Discount(info.id)) for info in nodes]


@given(clusters(), groups())
@settings(max_examples=150, deadline=None)
def test_placement_never_goes_above_capacity_and_never_doubles_a_listener(nodes: list[NodeInfo], work: list[Group]) -> None:
    before = {info.id: info for info in a_copy(nodes)}
    placed: Counter[tuple[str, str, int]] = Counter()
    used: Counter[str] = Counter()
    for group in work:
        for node_id in place(group, nodes, {}).assigned.values():
            used[node_id] += group.spec.reservations.nano_cpus
            placed.update((node_id, port.protocol, port.published) for port in group.spec.ports)
            assert before[node_id].status.state is NodeState.READY
            assert before[node_id].node.availability is Availability.ACTIVE
    assert all(count == 1 for count in placed.values())
    assert all((protocol, port) not in before[NodeId(name)].used_ports for name, protocol, port in placed)
    assert all(total <= before[NodeId(name)].available.nano_cpus for name, total in used.items())


@given(clusters(), groups())
@settings(max_examples=100, deadline=None)
def test_every_task_is_placed_or_explained_and_none_is_left_while_a_node_has_room(
    nodes: list[NodeInfo], work: list[Group]
) -> None:
    for group in work:
        result = place(group, nodes, {})
        assert result.assigned.keys() | result.unplaced.keys() == {task.id for task in group.tasks}
        assert not result.assigned.keys() & result.unplaced.keys()
        if result.unplaced:
            assert not place(a_group([a_task(99)], group.spec), a_copy(nodes), {}).assigned


@given(st.integers(1, 12), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_equal_nodes_differ_by_one_task_at_most(nodes: int, tasks: int) -> None:
    result = place(a_group(tasks), [a_node(f"n{number}") for number in range(nodes)], {})
    counts = Counter(result.assigned.values())
    loads = [counts[NodeId(f"n{number}")] for number in range(nodes)]
    assert max(loads) - min(loads) <= 1
    assert sum(loads) == tasks


@given(clusters(), groups(), st.integers(0, 1 << 30))
@settings(max_examples=100, deadline=None)
def test_the_order_in_which_things_are_given_does_not_matter(nodes: list[NodeInfo], work: list[Group], seed: int) -> None:
    shuffler = random.Random(seed)
    shuffled = a_copy(nodes)
    shuffler.shuffle(shuffled)
    for group in work:
        mixed = a_group(shuffler.sample(list(group.tasks), len(group.tasks)), group.spec, service=group.service.id)
        expected, actual = place(group, nodes, {}), place(mixed, shuffled, {})
        assert actual.assigned == expected.assigned
        assert actual.unplaced == expected.unplaced


@given(st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_successors_fit_on_a_full_cluster_and_hold_no_more_than_their_predecessors(nodes: int, each: int) -> None:
    cluster = [a_node(f"n{number}", tasks_total=each, tasks_of_service=each) for number in range(nodes)]
    tasks = [a_task(slot) for slot in range(1, nodes * each + 1)]
    homes = {task.id: NodeId(f"n{slot % nodes}") for slot, task in enumerate(tasks)}
    held = {task_id: Discount(home, Resources(nano_cpus=CORE)) for task_id, home in homes.items()}
    result = place(a_group(tasks, a_spec(cpus=1)), cluster, held)
    assert result.assigned == homes
    assert all(info.available.nano_cpus == 0 for info in cluster)
