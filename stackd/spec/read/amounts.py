"""Reads durations, sizes and other amounts: text with a unit, or a number as it is written."""

from __future__ import annotations

from collections.abc import Callable

from stackd.base.time import Duration
from stackd.spec import shorthand
from stackd.spec.nodes import Scalar
from stackd.spec.read.value import Value


def duration(value: Value) -> Duration:
    """A duration; a bare number is refused, because its unit would be a guess."""
    if (written := _number(value)) is not None:
        value.expected("a duration", f'add a unit: "{written}s"')
        return Duration(0)
    return value.parsed(shorthand.duration, Duration(0))


def number_or_text(value: Value, parse: Callable[[str], int], default: int) -> int:
    """What `parse` makes of text or of a number as it is written."""
    if (written := _number(value)) is not None:
        return value.checked(parse, written, default)
    return value.parsed(parse, default)


def written(value: Value, parse: Callable[[str], int]) -> str:
    """Text or a number as it is written; what `parse` raises about it is an error of meaning."""
    text = _number(value) or value.text()
    if text:
        value.check_meaning(parse, text)
    return text


def _number(value: Value) -> str | None:
    """How the value is written, if it is a number."""
    node = value.node
    if isinstance(node, Scalar) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.written
    return None
