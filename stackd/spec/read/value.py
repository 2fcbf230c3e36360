"""Typed access to the tree: a `Value` knows its node and its path, and reports what is wrong with itself.

Every reading method returns a usable value also where it reported an error, so that readers go straight on and one pass
finds everything. Nothing is dropped in silence: a key that no reader knows is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass, field
from typing import TypeVar

from stackd.base.errors import Position, StackdError
from stackd.base.records import Pairs, pairs
from stackd.spec import scalars
from stackd.spec.nodes import Mapping, Node, Scalar, Sequence, describe, shortened
from stackd.spec.problems import Problems

T = TypeVar("T")
S = TypeVar("S", bound=str)

_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,20}")
_DECIMAL_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")

# The official client's casts where a truth value is expected and a variable or quotes made it text.
_TRUTH = {**dict.fromkeys(("y", "yes", "true", "on"), True), **dict.fromkeys(("n", "no", "false", "off"), False)}

_UNSUPPORTED_EXTENSION = "x-stackd"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one kind of mapping: those that are read, and those of the wider language with what to do instead."""

    known: frozenset[str]
    later: ReadOnly[str, str] = field(default_factory=dict)


class Fields:
    """The known keys that a mapping has."""

    def __init__(self, values: dict[str, Value]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def get(self, name: str) -> Value | None:
        return self._values.get(name)

    def read(self, name: str, reader: Callable[[Value], T], default: T) -> T:
        """What `reader` makes of the key, or `default` where it isn't written."""
        value = self._values.get(name)
        return default if value is None else reader(value)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the file. `path` is how messages name it; `key` is the key it stands under, None for items of lists."""

    node: Node
    path: str
    problems: Problems
    key: Scalar | None = None

    # What is wrong with it

    def position(self) -> Position:
        """The value's own place; an empty value has none and shows its key."""
        if self.key is not None and isinstance(self.node, Scalar) and not self.node.written:
            return self.key.position()
        return self.node.position()

    def error(self, code: str, message: str, hint: str | None = None) -> None:
        """An error that is shown at the value. What couldn't be interpolated was reported then, and has no meaning."""
        if not (isinstance(self.node, Scalar) and self.node.broken):
            self.problems.error(code, message, self.position(), hint)

    def key_error(self, code: str, message: str, hint: str | None = None) -> None:
        """An error that is shown at the key: something is missing below it, or it shouldn't be there at all."""
        self.problems.error(code, message, (self.key or self.node).position(), hint)

    def warning(self, code: str, message: str, hint: str | None = None) -> None:
        self.problems.warning(code, message, self.position(), hint)

    def expected(self, what: str, hint: str | None = None) -> None:
        """Reports that the value has the wrong type."""
        if hint is None and self.is_empty():
            hint = "give it a value, or remove the key"
        self.error("spec.type", f"{self.name()} must be {what}; it is {describe(self.node)}", hint)

    def name(self) -> str:
        return self.path or "the file"

    # Scalars

    def is_empty(self) -> bool:
        """Whether nothing is written (or `null`)."""
        return isinstance(self.node, Scalar) and self.node.value is None

    def text(self) -> str:
        if isinstance(self.node, Scalar) and isinstance(self.node.value, str):
            return self.node.value
        hint = None
        if isinstance(self.node, Scalar) and not self.is_empty():
            hint = f'put it in quotes: "{shortened(self.node.written)}"'
        self.expected("text", hint)
        return ""

    def filled_text(self) -> str:
        """Text that may not be empty; "" after an error."""
        text = self.text()
        if not text and isinstance(self.node, Scalar) and self.node.value == "":
            self.error("spec.value.form", f"{self.name()} must not be empty")
        return text

    def scalar_text(self) -> str | None:
        """Text, a number or a truth value as text; None where it is empty."""
        if isinstance(self.node, Scalar):
            return None if self.node.value is None else scalars.as_text(self.node.value)
        self.expected("text or a number")
        return None

    def integer(self, minimum: int = 0, maximum: int = 2**31 - 1) -> int:
        """A whole number; text is taken where a variable or quotes made it text, as the official client does."""
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.expected("a whole number")
            return minimum
        return value if self._within(value, minimum, maximum) else minimum

    def number(self, minimum: float, maximum: float) -> float:
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, str) and _DECIMAL_NUMBER.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            self.expected("a number")
            return minimum
        return float(value) if self._within(value, minimum, maximum) else minimum

    def _within(self, value: float, minimum: float, maximum: float) -> bool:
        if minimum <= value <= maximum:
            return True
        self.error("spec.value.range", f"{self.name()} must be between {minimum} and {maximum}; it is {shortened(str(value))}")
        return False

    def boolean(self) -> bool:
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, str):
            value = _TRUTH.get(value.lower())
        if isinstance(value, bool):
            return value
        self.expected("true or false")
        return False

    def choice(self, choices: Iterable[S], later: ReadOnly[str, str] | None = None) -> S:
        """One of `choices`; one of `later` is named as not supported yet. Returns the first choice after an error."""
        allowed = list(choices)
        if not isinstance(self.node, Scalar) or not isinstance(self.node.value, str):
            self.text()
            return allowed[0]
        text = self.node.value
        if text in allowed:
            return allowed[allowed.index(text)]  # a StrEnum equals its text
        if later is not None and text in later:
            self.error("spec.value.unsupported", f"{self.name()}: {text} is not supported yet", later[text] or None)
        else:
            message = f'{self.name()} must be one of {", ".join(allowed)}; it is "{shortened(text)}"'
            self.error("spec.value.choice", message, did_you_mean(text, allowed))
        return allowed[0]

    def parsed(self, parse: Callable[[str], T], default: T) -> T:
        """What `parse` makes of the text; the error it raises is reported at this place."""
        if not isinstance(self.node, Scalar) or not isinstance(self.node.value, str):
            self.text()
            return default
        return self.checked(parse, self.node.value, default)

    def checked(self, parse: Callable[[str], T], text: str, default: T) -> T:
        """What `parse` makes of `text`, which is a part of this value."""
        try:
            return parse(text)
        except StackdError as error:
            self.error(error.code, f"{self.name()}: {error.message}", error.hint)
            return default

    # Lists and mappings

    def items(self) -> list[Value]:
        if isinstance(self.node, Sequence):
            return [Value(item, f"{self.path}.{index}", self.problems) for index, item in enumerate(self.node.items)]
        self.expected("a list")
        return []

    def texts(self) -> tuple[str, ...]:
        return tuple([item.text() for item in self.items()])

    def entries(self) -> dict[str, Value]:
        """The values of a mapping whose keys the user chooses."""
        if not isinstance(self.node, Mapping):
            self.expected("a mapping")
            return {}
        prefix = f"{self.path}." if self.path else ""
        return {name: Value(entry.value, prefix + name, self.problems, entry.key) for name, entry in self.node.entries.items()}

    def fields(self, keys: Keys) -> Fields:
        """The known keys of a mapping; every other one is reported, except extensions (`x-`)."""
        known: dict[str, Value] = {}
        for name, value in self.entries().items():
            if name in keys.known:
                known[name] = value
            elif not name.startswith("x-") or name == _UNSUPPORTED_EXTENSION:
                self._refuse_key(name, value, keys)
        return Fields(known)

    def _refuse_key(self, name: str, value: Value, keys: Keys) -> None:
        place = f"under {self.path}" if self.path else "at the top level"
        if name in keys.later or name == _UNSUPPORTED_EXTENSION:
            hint = keys.later.get(name) or "remove it, or keep it under a key that begins with x-"
            value.key_error("spec.key.unsupported", f'the key "{name}" {place} is not supported yet', hint)
        else:
            hint = (
                did_you_mean(name, [*sorted(keys.known), *sorted(keys.later)])
                or f"the keys here are: {', '.join(sorted(keys.known))}"
            )
            value.key_error("spec.key.unknown", f'unknown key "{shortened(name)}" {place}', hint)

    def is_list(self) -> bool:
        return isinstance(self.node, Sequence)

    def is_mapping(self) -> bool:
        return isinstance(self.node, Mapping)

    def text_pairs(self) -> dict[str, str | None]:
        """A mapping of scalars, or a list of KEY=VALUE; None for an empty value or a KEY alone. Later ones win in a list."""
        if not self.is_list():
            if not self.is_mapping():
                self.expected("a mapping or a list of KEY=VALUE")
                return {}
            return {name: value.scalar_text() for name, value in self.entries().items() if value._is_named(name)}
        found: dict[str, str | None] = {}
        for item in self.items():
            name, equals, value = item.text().partition("=")
            if not isinstance(item.node, Scalar) or not isinstance(item.node.value, str) or item._is_named(name):
                found[name] = value if equals else None
        return found

    def _is_named(self, name: str) -> bool:
        if name and "=" not in name and "\0" not in name:
            return True
        self.key_error("spec.pair.bad", f'{self.path}: "{shortened(name)}" is not a name', "write NAME=VALUE")
        return False

    def labels(self) -> Pairs:
        """Labels, where an empty value means the empty text."""
        return pairs({name: value or "" for name, value in self.text_pairs().items()})


def did_you_mean(text: str, choices: Iterable[str]) -> str | None:
    """A hint with the nearest of `choices`, if one is near."""
    close = difflib.get_close_matches(text[:80], list(choices), n=1)
    return f'did you mean "{close[0]}"?' if close else None
