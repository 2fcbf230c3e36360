"""Is a history of reads and writes linearizable? The search of Wing and Gong (1993), with Lowe's memory of what it has seen.

A history is linearizable if its operations can be put in one order that a single register could have served, and in which
no operation comes before another that had returned before it was called. Registers are independent of each other, so each
key is searched on its own. A write whose outcome is unknown may have happened at any time after its call, or never.

The search takes exponential time in the worst case: histories should have few concurrent operations for each key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

NEVER = 1 << 62
"""The return of an operation that has not returned."""


@dataclass(frozen=True, slots=True)
class Write:
    """Someone wrote `value`."""

    value: str


@dataclass(frozen=True, slots=True)
class Read:
    """Someone read and was told `value`; None stands for a key that nobody has written."""

    value: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on `key`. `called` and `returned` are places in one order of all calls and returns; no two are equal."""

    key: str
    action: Write | Read
    called: int
    returned: int = NEVER


def why_not_linearizable(history: Iterable[Operation]) -> str | None:
    """None if the history is linearizable, else a sentence with the shortest part of it that is not."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key in sorted(by_key):
        operations = sorted(_that_matter(by_key[key]), key=lambda operation: operation.called)
        if not _has_an_order(operations):
            return f"no order of these operations on {key!r} explains them: {_shortest_bad_part(operations)}"
    return None


def _that_matter(operations: Sequence[Operation]) -> Iterator[Operation]:
    """All but the writes of unknown outcome that nobody has seen: leaving them out is always a way to explain them."""
    seen = {operation.action.value for operation in operations if isinstance(operation.action, Read)}
    for operation in operations:
        if operation.returned != NEVER or operation.action.value in seen:
            yield operation


def _has_an_order(operations: Sequence[Operation]) -> bool:
    """`operations` are sorted by their calls. Depth first; a place is what has been ordered, and the value it leaves."""
    must = sum(1 << place for place, operation in enumerate(operations) if operation.returned != NEVER)
    start: tuple[int, str | None] = (0, None)
    to_visit, seen = [start], {start}
    while to_visit:
        ordered, value = to_visit.pop()
        if ordered & must == must:
            return True
        for place in _may_come_next(operations, ordered):
            action = operations[place].action
            if isinstance(action, Read) and action.value != value:
                continue
            after = (ordered | 1 << place, action.value)
            if after not in seen:
                seen.add(after)
                to_visit.append(after)
    return False


def _may_come_next(operations: Sequence[Operation], ordered: int) -> list[int]:
    """The operations left that were called before any other one left had returned."""
    found = []
    first_return = NEVER
    for place, operation in enumerate(operations):
        if operation.called > first_return:
            break
        if not ordered >> place & 1:
            found.append(place)
            first_return = min(first_return, operation.returned)
    return found


def _shortest_bad_part(operations: Sequence[Operation]) -> str:
    """The operations up to the first return that no order explains, the last ones only: what came before is background."""
    returns = sorted(operation.returned for operation in operations if operation.returned != NEVER)
    for end in returns:
        part = [
            operation if operation.returned <= end else Operation(operation.key, operation.action, operation.called)
            for operation in operations
            if operation.called < end and (operation.returned <= end or isinstance(operation.action, Write))
        ]
        if not _has_an_order(part):
            return ", ".join(_told(operation) for operation in part[-8:])
    raise ValueError("the operations have an order")


def _told(operation: Operation) -> str:
    verb = "write" if isinstance(operation.action, Write) else "read"
    until = "?" if operation.returned == NEVER else str(operation.returned)
    return f"{verb} {operation.action.value} [{operation.called}-{until}]"
