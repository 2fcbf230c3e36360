"""The scheduler on generated clusters, with everything a spec may ask for: limits hold, totals are even, order is no matter."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from stackd.engine.schedule.placement import Group, NodeInfo
from stackd.engine.schedule.resources import claim, minus, overlap, plus, returned, unreserved
from stackd.spec.stack import GenericResource, Placement, Resources

from schedule_builders import a_group, a_node, a_spec, place

KINDS = ("fpga", "gpu")

amounts = st.integers(0, 4)
named = st.lists(st.sampled_from("abcd"), unique=True, max_size=4).map(lambda names: tuple(sorted(names)))


@st.composite
def offers(draw: st.DrawFn) -> tuple[GenericResource, ...]:
    """What a node has: each kind counted, named, or not at all."""
    found = []
    for kind in KINDS:
        match draw(st.sampled_from(["counted", "named", "none"])):
            case "counted":
                found.append(GenericResource(kind=kind, amount=draw(st.integers(1, 4))))
            case "named" if names := draw(named):
                found.append(GenericResource(kind=kind, names=names))
    return tuple(found)


@st.composite
def asks(draw: st.DrawFn) -> tuple[GenericResource, ...]:
    return tuple(GenericResource(kind=kind, amount=amount) for kind in KINDS if (amount := draw(st.integers(0, 2))))


def a_rack_node(number: int, generic: tuple[GenericResource, ...], **fields: Any) -> NodeInfo:
    node = a_node(f"n{number}", labels={"rack": "abc"[number % 3]} if number % 4 else {}, **fields)
    node.available = msgspec.structs.replace(node.available, generic=generic)
    return node


@st.composite
def clusters(draw: st.DrawFn) -> list[NodeInfo]:
    nodes = []
    for number in range(draw(st.integers(1, 7))):
        present = draw(st.integers(0, 3))
        counts = {"tasks_of_service": present, "slots_of_service": present, "tasks_total": present + draw(st.integers(0, 2))}
        nodes.append(a_rack_node(number, draw(offers()), **counts))
    return nodes


@st.composite
def groups(draw: st.DrawFn) -> Group:
    placement = Placement(max_per_node=draw(st.integers(0, 4)), spread=draw(st.sampled_from([(), ("node.labels.rack",)])))
    spec = msgspec.structs.replace(a_spec(), placement=placement, reservations=Resources(generic=draw(asks())))
    return a_group(draw(st.integers(0, 9)), spec)


def copies(nodes: list[NodeInfo]) -> list[NodeInfo]:
    return [
        NodeInfo(
            node=info.node,
            status=info.status,
            available=info.available,
            tasks_total=info.tasks_total,
            tasks_of_service=info.tasks_of_service,
            slots_of_service=info.slots_of_service,
        )
        for info in nodes
    ]


@given(clusters(), groups())
@settings(max_examples=120, deadline=None)
def test_a_generic_resource_is_given_once_and_never_beyond_what_there_is(nodes: list[NodeInfo], group: Group) -> None:
    offered = {info.id: {one.kind: one for one in info.available.generic} for info in nodes}
    result = place(group, nodes, {})
    given: dict[tuple[str, str], list[GenericResource]] = {}
    for task_id, generic in result.given.items():
        for one in generic:
            given.setdefault((result.assigned[task_id], one.kind), []).append(one)
    for (node_id, kind), parts in given.items():
        offer = offered[node_id][kind]  # type: ignore[index]
        names = [name for part in parts for name in part.names]
        assert len(names) == len(set(names))
        assert set(names) <= set(offer.names)
        assert sum(part.amount for part in parts) <= offer.amount


@given(clusters(), groups())
@settings(max_examples=120, deadline=None)
def test_the_limit_per_node_holds_for_every_node_that_gets_a_task(nodes: list[NodeInfo], group: Group) -> None:
    present = {info.id: info.tasks_of_service for info in nodes}
    most = group.spec.placement.max_per_node
    for node_id, count in Counter(place(group, nodes, {}).assigned.values()).items():
        assert not most or present[node_id] + count <= most


@given(clusters(), groups(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_the_outcome_does_not_depend_on_the_order_of_nodes_and_tasks(
    nodes: list[NodeInfo], group: Group, chance: random.Random
) -> None:
    shuffled, tasks = copies(nodes), list(group.tasks)
    chance.shuffle(shuffled)
    chance.shuffle(tasks)
    other = place(Group(service=group.service, spec=group.spec, tasks=tasks), shuffled, {})
    result = place(group, nodes, {})
    assert (result.assigned, result.given, set(result.unplaced)) == (other.assigned, other.given, set(other.unplaced))


@given(st.integers(0, 20), st.lists(st.integers(0, 5), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_branches_are_as_even_as_what_was_there_allows(number: int, present: list[int]) -> None:
    nodes = [a_node(f"n{at}", labels={"rack": str(at)}, tasks_of_service=count) for at, count in enumerate(present)]
    spec = msgspec.structs.replace(a_spec(), placement=Placement(spread=("node.labels.rack",)))
    place(a_group(number, spec), nodes, {})
    totals = [info.tasks_of_service for info in nodes]
    grown = [total for total, before in zip(totals, present, strict=True) if total > before]
    assert not grown or max(grown) - min(totals) <= 1
    assert sum(totals) == sum(present) + number


@st.composite
def resources(draw: st.DrawFn) -> Resources:
    return Resources(nano_cpus=draw(amounts), memory_bytes=draw(amounts), generic=draw(offers()))


@given(resources(), resources())
@settings(max_examples=150, deadline=None)
def test_what_is_added_can_be_taken_away_again(left: Resources, right: Resources) -> None:
    assert minus(plus(left, right), right) == plus(left, Resources())
    assert minus(left, overlap(left, left)) == Resources()


@given(offers(), asks())
@settings(max_examples=150, deadline=None)
def test_what_a_task_gives_back_is_there_again(
    described: tuple[GenericResource, ...], wanted: tuple[GenericResource, ...]
) -> None:
    whole = Resources(generic=described)
    counts = {one.kind: one.amount + len(one.names) for one in described}
    if any(one.amount > counts.get(one.kind, 0) for one in wanted):
        return
    given = Resources(generic=claim(whole.generic, wanted))
    rest = unreserved(whole, given)
    assert {one.kind: one.amount + len(one.names) for one in returned(rest, given).generic} == counts
