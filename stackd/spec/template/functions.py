"""The functions a template can call: Go's own that stack files have a use for, and `join`, which Swarm adds.

Values are texts, numbers, truth values, nil (None), lists and mappings. A function raises TemplateError for arguments that
Go's would refuse. `and` and `or` are not here: they leave arguments unevaluated, which only the evaluator can do.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote_plus

from stackd.spec.template.lex import TemplateError

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]
Function = Callable[..., Value]


def shown(value: Value) -> str:
    """A value as Go prints it (`%v`)."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
        case float():
            return f"{value:g}"
        case Mapping():
            return "map[" + " ".join(f"{key}:{shown(value[key])}" for key in sorted(value)) + "]"
        case _:
            return "[" + " ".join(map(shown, value)) + "]"


def kind_of(value: Value) -> str:
    """What a value is, for messages: never the value itself, which may be a secret."""
    match value:
        case None:
            return "nil"
        case bool():
            return "a truth value"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case Mapping():
            return "a mapping"
        case _:
            return "a list"


def is_true(value: Value) -> bool:
    """What `if` takes for true: everything but zero, "", nil and what is empty."""
    return bool(value)


def _not(value: Value) -> bool:
    return not is_true(value)


def _eq(first: Value, *others: Value) -> bool:
    if not others:
        raise TemplateError("eq: missing argument for comparison")
    return any(_same_kind("eq", first, other) and first == other for other in others)


def _ne(first: Value, second: Value) -> bool:
    return not _eq(first, second)


def _ordered(name: str, compare: Callable[..., bool]) -> Function:
    def function(first: Value, second: Value) -> bool:
        _same_kind(name, first, second)
        if not isinstance(first, str | int | float) or isinstance(first, bool):
            raise TemplateError(f"{name}: only texts and numbers have an order")
        return compare(first, second)

    return function


def _same_kind(name: str, first: Value, second: Value) -> bool:
    if type(first) is not type(second):
        raise TemplateError(f"{name}: incompatible types for comparison")
    return True


def _index(value: Value, *keys: Value) -> Value:
    """An item of lists and mappings inside one another; a key that a mapping doesn't have gives the empty text."""
    for key in keys:
        match value:
            case Mapping() if isinstance(key, str):
                value = value.get(key, "")
            case list() | tuple() if isinstance(key, int):
                if not 0 <= key < len(value):
                    raise TemplateError(f"index: {key} is out of range")
                value = value[key]
            case _:
                raise TemplateError(f"index: {kind_of(value)} has no items by {kind_of(key)}")
    return value


def _len(value: Value) -> int:
    match value:
        case str():
            return len(value.encode())
        case list() | tuple() | Mapping():
            return len(value)
    raise TemplateError(f"len: {kind_of(value)} has no length")


def _slice(value: Value, *bounds: Value) -> Value:
    if not isinstance(value, str | list | tuple) or not all(isinstance(bound, int) for bound in bounds) or len(bounds) > 2:
        raise TemplateError(f"slice: can't cut {kind_of(value)} so")
    start, end = (*bounds, len(value))[:2] if bounds else (0, len(value))
    assert isinstance(start, int)
    assert isinstance(end, int)
    if not 0 <= start <= end <= len(value):
        raise TemplateError(f"slice: {start}:{end} is out of range")
    return value[start:end]


def _print(*values: Value) -> str:
    """Spaces stand between operands when neither is a text."""
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(shown(value))
    return "".join(parts)


def _println(*values: Value) -> str:
    return " ".join(map(shown, values)) + "\n"


_VERB = re.compile(r"%(?P<flags>[-+0 #]*)(?P<width>\d*)(?P<precision>\.\d+)?(?P<verb>.)", re.DOTALL)

WIDTH_MAX = 1000
"""The widest field that `printf` fills up."""


def _printf(form: Value, *values: Value) -> str:
    if not isinstance(form, str):
        raise TemplateError("printf: the first argument is the format")
    left = list(values)

    def filled(found: re.Match[str]) -> str:
        if found["verb"] == "%":
            return "%"
        if not left:
            raise TemplateError(f"printf: no value for {found[0]}")
        return _one_verb(found, left.pop(0))

    text = _VERB.sub(filled, form)
    if left:
        raise TemplateError("printf: more values than verbs")
    return text


def _one_verb(found: re.Match[str], value: Value) -> str:
    """One value in the form of its verb, through Python's own formatting where that means the same."""
    if int(found["width"] or 0) > WIDTH_MAX or int((found["precision"] or ".0")[1:]) > WIDTH_MAX:
        raise TemplateError(f"printf: {found[0]} is too wide")
    form = f"%{found['flags']}{found['width']}{found['precision'] or ''}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match found["verb"]:
        case "v" | "s" | "t":
            return (form + "s") % shown(value)
        case "q" if isinstance(value, str):
            return (form + "s") % json.dumps(value, ensure_ascii=False)
        case "d" | "x" | "X" | "o" as verb if number and not isinstance(value, float):
            return (form + verb) % value
        case "f" | "e" | "g" as verb if number:
            return (form + verb) % value
        case "x" if isinstance(value, str):
            return (form + "s") % value.encode().hex()
    raise TemplateError(f"printf: {found[0]} can't show {kind_of(value)}")


def _join(separator: Value, *values: Value) -> str:
    """Swarm's: the separator comes first."""
    return shown(separator).join(map(shown, values))


FUNCTIONS: Mapping[str, Function] = {
    "and": is_true,
    "or": is_true,
    "not": _not,
    "eq": _eq,
    "ne": _ne,
    "lt": _ordered("lt", lambda first, second: first < second),
    "le": _ordered("le", lambda first, second: first <= second),
    "gt": _ordered("gt", lambda first, second: first > second),
    "ge": _ordered("ge", lambda first, second: first >= second),
    "index": _index,
    "len": _len,
    "slice": _slice,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "html": lambda *values: html.escape(_print(*values)),
    "urlquery": lambda *values: quote_plus(_print(*values)),
    "join": _join,
}
"""What every template can call. Of `and` and `or` only the names are used."""
