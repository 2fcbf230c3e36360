"""The order and the counts that the ledger is made of, against a plain sorted list and a plain counter."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st
from stackd.engine.tables import Counts, Ordered

keys = st.sampled_from([f"n{number:03d}" for number in range(300)])
moves = st.lists(st.tuples(st.sampled_from(["add", "add", "add", "discard", "fork"]), st.integers(0, 3), keys), max_size=600)


@given(moves)
@options(max_examples=60, deadline=None)
def test_an_order_is_a_sorted_list_and_a_fork_stays_what_it_was(steps: list[tuple[str, int, str]]) -> None:
    ordered, model = Ordered(), set()
    forks = []
    for what, number, key in steps:
        match what:
            case "add":
                ordered.add(number, key)
                model.add((number, key))
            case "discard":
                assert ordered.discard(number, key) == ((number, key) in model)
                model.discard((number, key))
            case _:
                forks.append((ordered, sorted(model)))
                ordered = ordered.fork()
    for one, expected in (*forks, (ordered, sorted(model))):
        assert list(one) == expected
        for first in [(0, ""), (1, "n100"), (2, "n299"), (9, "")]:
            assert list(one.since(first)) == [each for each in expected if each >= first]


def test_an_order_that_has_been_long_and_is_short_is_kept_in_few_blocks() -> None:
    ordered = Ordered()
    for number in range(5_000):
        ordered.add(number, "n")
    assert len(ordered._blocks) <= 5_000 / Ordered.BLOCK + 1
    for number in range(5_000):
        if number % 50:
            ordered.discard(number, "n")
    assert len(ordered._blocks) <= 5


@given(st.lists(st.tuples(st.sampled_from(["s1", "s2"]), keys, st.integers(1, 3)), max_size=80), st.data())
@options(max_examples=40, deadline=None)
def test_counts_are_a_counter_and_a_fork_stays_what_it_was(steps: list[tuple[str, str, int]], data: st.DataObject) -> None:
    counts, model = Counts(), Counter[tuple[str, str]]()
    fork, at_fork = counts.fork(), Counter(model)
    for number, (bucket, key, by) in enumerate(steps):
        if model[bucket, key] and data.draw(st.booleans()):
            by = -model[bucket, key]
        counts.add(bucket, key, by)
        model[bucket, key] += by
        if number == len(steps) // 2:
            fork, at_fork = counts.fork(), Counter(model)
    for one, expected in ((counts, model), (fork, at_fork)):
        for bucket in ("s1", "s2"):
            assert one.of(bucket) == {key: count for (where, key), count in expected.items() if where == bucket and count}
