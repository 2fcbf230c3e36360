"""What a plain scalar is: text, number, truth value or nothing; resolved as yaml.v3 does, which the official client uses.

That is the core schema of YAML 1.2 (so `no`, `on`, `22:22` and dates stay text), with three additions kept by that
library: octal numbers written `0555`, binary ones, and underscores between digits.
"""

from __future__ import annotations

import re
from decimal import Decimal

from stackd.spec.nodes import ScalarValue

_WORDS: dict[str, ScalarValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_BASES = (16, 2, 8, 10)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NUMBER_STARTS = frozenset("0123456789+-.")
_LARGEST_INTEGER = 2**64 - 1
_SMALLEST_INTEGER = -(2**63)
_INTEGER_DIGITS = 80
"""A longer run of digits is no integer of 64 bits in any base; converting it would cost time for nothing."""

_GO_EXPONENT_FROM = 6
"""Go prints a float with an exponent from 1e6 on, and below 1e-4."""


def resolve(text: str) -> ScalarValue:
    """The value of a plain scalar; what is nothing else is text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    digits = text.replace("_", "")
    number = _integer(digits)
    if number is not None:
        return number
    return float(digits) if _FLOAT.fullmatch(digits) else text


def _integer(text: str) -> int | None:
    found = _INTEGER.fullmatch(text) if len(text) <= _INTEGER_DIGITS else None
    if found is None:
        return None
    sign, *groups = found.groups()
    number = next(int(group, base) for group, base in zip(groups, _BASES, strict=True) if group)
    number = -number if sign == "-" else number
    return number if _SMALLEST_INTEGER <= number <= _LARGEST_INTEGER else None


def as_text(value: str | int | float | bool) -> str:
    """A value where text is meant, as the official client prints it: `1.10` is the number 1.1, so it reads "1.1"."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _float_text(value)


def _float_text(value: float) -> str:
    """Go's %v: the shortest digits that mean this number, with an exponent only where it is very large or very small."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    power = len(digits) + int(exponent) - 1
    if value == 0 or -5 < power < _GO_EXPONENT_FROM:
        return format(Decimal(repr(value)).normalize(), "f")
    head, tail = str(digits[0]), "".join(map(str, digits[1:]))
    mantissa = f"{head}.{tail}" if tail else head
    return f"{'-' if sign else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"
