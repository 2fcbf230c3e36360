"""Arithmetic of reservations: what is enough, what is given, what is left, and what comes back (semantics 13)."""

from __future__ import annotations

import pytest
from stackd.engine.schedule.resources import (
    NOTHING,
    beyond,
    claim,
    covers,
    minus,
    overlap,
    plus,
    returned,
    still_offered,
    unreserved,
)
from stackd.spec.stack import GenericResource, Resources


def counted(amount: int, kind: str = "gpu") -> GenericResource:
    return GenericResource(kind=kind, amount=amount)


def named(*names: str, kind: str = "gpu") -> GenericResource:
    return GenericResource(kind=kind, names=names)


def generic(*resources: GenericResource) -> Resources:
    return Resources(generic=resources)


def test_what_is_not_asked_for_is_enough_also_below_zero() -> None:
    overcommitted = Resources(nano_cpus=-1, memory_bytes=5)
    assert covers(overcommitted, Resources(memory_bytes=5))
    assert not covers(overcommitted, Resources(memory_bytes=6))
    assert not covers(overcommitted, Resources(nano_cpus=1))


def test_names_and_amounts_of_a_kind_are_enough_up_to_their_number() -> None:
    for offered in (counted(2), named("a", "b")):
        assert covers(generic(offered), generic(counted(2)))
        assert not covers(generic(offered), generic(counted(3)))
        assert not covers(generic(offered), generic(counted(1, kind="fpga")))


def test_a_task_is_given_the_first_names_or_an_amount() -> None:
    available = (counted(3, kind="fpga"), named("a", "b", "c"))
    wanted = (counted(2, kind="fpga"), counted(2))
    assert claim(available, wanted) == (counted(2, kind="fpga"), named("a", "b"))


def test_a_sum_and_a_difference_go_name_by_name() -> None:
    both = plus(generic(named("b")), generic(named("a"), counted(1, kind="fpga")))
    assert both == generic(counted(1, kind="fpga"), named("a", "b"))
    assert minus(both, generic(named("b"))) == generic(counted(1, kind="fpga"), named("a"))


def test_a_kind_whose_names_became_an_amount_is_short_of_as_many_as_are_in_use() -> None:
    assert unreserved(generic(counted(3)), generic(named("a", "b"))).generic == (counted(1),)
    assert unreserved(generic(named("a", "b", "c")), generic(counted(2))).generic == (named("a"),)


def test_a_name_that_comes_back_twice_is_there_once() -> None:
    assert returned(generic(named("a")), generic(named("a", "b"))) == generic(named("a", "b"))


@pytest.mark.parametrize(
    ("described", "held", "passed_on"),
    [
        ((named("a", "b"),), (named("a"),), (named("a"),)),
        ((named("b"),), (named("a", "b"),), (named("b"),)),  # one of them has gone
        ((), (named("a"),), ()),
        ((counted(2),), (counted(2),), (counted(2),)),
        ((named("a", "b"),), (counted(2),), ()),  # it was counted, now it has names: nobody knows which were meant
        ((counted(2),), (named("a"),), ()),
        ((counted(1, kind="fpga"),), (counted(1, kind="fpga"), named("a")), (counted(1, kind="fpga"),)),
    ],
)
def test_what_its_node_no_longer_has_a_task_can_not_pass_on(
    described: tuple[GenericResource, ...], held: tuple[GenericResource, ...], passed_on: tuple[GenericResource, ...]
) -> None:
    of_task = Resources(nano_cpus=1, memory_bytes=2, generic=held)
    left = still_offered(Resources(generic=described), of_task)
    assert left == Resources(nano_cpus=1, memory_bytes=2, generic=passed_on)


def test_processors_and_memory_are_passed_on_whatever_the_node_says_now() -> None:
    held = Resources(nano_cpus=4, memory_bytes=8)
    assert still_offered(NOTHING, held) == held


def test_what_goes_beyond_what_is_held_is_never_negative() -> None:
    held = Resources(nano_cpus=4, memory_bytes=8, generic=(named("a"),))
    wanted = Resources(nano_cpus=6, memory_bytes=2, generic=(named("a", "b"),))
    assert beyond(wanted, held) == Resources(nano_cpus=2, generic=(named("b"),))
    assert overlap(wanted, held) == Resources(nano_cpus=4, memory_bytes=2, generic=(named("a"),))
