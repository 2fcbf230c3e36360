"""The checker accepts what one register could have done, and rejects what it could not: it must be able to fail."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from linearizability import NEVER, Operation, Read, Write, why_not_linearizable


def wrote(value: str, called: int, returned: int = NEVER, key: str = "k") -> Operation:
    return Operation(key, Write(value), called, returned)


def read(value: str | None, called: int, returned: int, key: str = "k") -> Operation:
    return Operation(key, Read(value), called, returned)


GOOD = {
    "nothing happened": [],
    "a read before any write": [read(None, 1, 2)],
    "a read after a write": [wrote("a", 1, 2), read("a", 3, 4)],
    "a read beside a write may see the old value": [wrote("a", 1, 2), wrote("b", 3, 6), read("a", 4, 5)],
    "a read beside a write may see the new value": [wrote("a", 1, 2), wrote("b", 3, 6), read("b", 4, 5)],
    "writes beside each other take any order": [wrote("a", 1, 4), wrote("b", 2, 3), read("a", 5, 6)],
    "a write of unknown outcome shows up late": [wrote("a", 1, 2), wrote("b", 3), read("a", 4, 5), read("b", 6, 7)],
    "a write of unknown outcome never shows up": [wrote("a", 1, 2), wrote("b", 3), read("a", 4, 5), read("a", 6, 7)],
    "keys know nothing of each other": [wrote("a", 1, 2, "x"), read(None, 3, 4, "y"), read("a", 5, 6, "x")],
}

BAD = {
    "a stale read": [wrote("a", 1, 2), wrote("b", 3, 4), read("a", 5, 6)],
    "a lost write": [wrote("a", 1, 2), read(None, 3, 4)],
    "a value that nobody wrote": [wrote("a", 1, 2), read("z", 3, 4)],
    "a read from the future": [read("a", 1, 2), wrote("a", 3, 4)],
    "two reads that see two writes in different orders": [
        wrote("a", 1, 8),
        wrote("b", 2, 9),
        read("a", 3, 4),
        read("b", 5, 6),
        read("a", 7, 10),
    ],
    "a value that goes away and comes back": [wrote("a", 1, 2), wrote("b", 3), read("b", 4, 5), read("a", 6, 7)],
    "a write applied twice": [wrote("a", 1, 2), wrote("b", 3, 4), read("b", 5, 6), read("a", 7, 8)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD.keys())
def test_a_history_that_a_register_could_have_is_accepted(history: list[Operation]) -> None:
    assert why_not_linearizable(history) is None


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_a_history_that_no_register_could_have_is_rejected(history: list[Operation]) -> None:
    assert why_not_linearizable(history)


def by_trying_all_orders(history: list[Operation]) -> bool:
    """The definition, word for word."""
    return any(
        explains(order)
        for count in range(len(history) + 1)
        for order in itertools.permutations(history, count)
        if all(operation in order or operation.returned == NEVER for operation in history)
    )


def explains(order: tuple[Operation, ...]) -> bool:
    value: str | None = None
    for place, operation in enumerate(order):
        if any(later.returned < operation.called for later in order[place + 1 :]):
            return False
        if isinstance(operation.action, Read) and operation.action.value != value:
            return False
        value = operation.action.value
    return True


def test_the_search_agrees_with_the_definition_on_small_histories() -> None:
    random = Random(1)
    verdicts = set()
    for _ in range(400):
        places = list(range(10))
        random.shuffle(places)
        history = []
        for number in range(5):
            called, returned = sorted(places[2 * number : 2 * number + 2])
            if random.random() < 0.5:
                history.append(wrote(f"{number}", called, returned if random.random() < 0.7 else NEVER))
            else:
                history.append(read(random.choice([None, "0", "1", "2", "3"]), called, returned))
        verdict = why_not_linearizable(history) is None
        assert verdict == by_trying_all_orders(history), history
        verdicts.add(verdict)
    assert verdicts == {True, False}


def test_the_reason_names_the_operations() -> None:
    reason = why_not_linearizable([wrote("a", 1, 2), wrote("b", 3, 4), read("a", 5, 6), wrote("c", 7, 8)])
    assert reason == "no order of these operations on 'k' explains them: write a [1-2], write b [3-4], read a [5-6]"
