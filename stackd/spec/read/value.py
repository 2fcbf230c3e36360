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
from typing import Any, TypeVar

from stackd.base.errors import Position, StackdError
from stackd.spec import scalars
from stackd.spec.nodes import Mapping, Node, Scalar, Sequence, describe, plain, shortened
from stackd.spec.problems import Problems
from stackd.spec.tree import MAX_KEY_CHARACTERS

T = TypeVar("T")

_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,20}")
_DECIMAL_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")

# The official client's casts where a truth value is expected and a variable or quotes made it text.
_TRUTH = {**dict.fromkeys(("y", "yes", "true", "on"), True), **dict.fromkeys(("n", "no", "false", "off"), False)}

MAX_LISTED = 12
"""Keys that a hint lists; a service has five times as many."""

EXTENSION = "x-stackd"
"""The one `x-` key that says something to stackd; it stands at the top level, in services and in other objects."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one kind of mapping: those that are read, those of the wider language that aren't, with what to do
    instead, and those without effect in a stack, with what happens instead. The last may also be read, to be shown.
    `elsewhere` has the keys of mappings nearby, with where they stand."""

    known: frozenset[str]
    later: ReadOnly[str, str] = field(default_factory=dict)
    ignored: ReadOnly[str, str] = field(default_factory=dict)
    elsewhere: ReadOnly[str, str] = field(default_factory=dict)


class Fields:
    """The known keys that a mapping has, and its extensions (`x-` keys)."""

    def __init__(self, values: dict[str, Value], extensions: dict[str, Value] | None = None) -> None:
        self._values = values
        self._extensions = extensions or {}

    def extras(self) -> dict[str, Any]:
        """The extensions as plain data."""
        return {name: plain(value.node) for name, value in self._extensions.items()}

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

    def meaning_error(self, code: str, message: str, hint: str | None = None) -> None:
        """An error about what the value means, where its form is right."""
        if not (isinstance(self.node, Scalar) and self.node.broken):
            self.problems.meaning_error(code, message, self.position(), hint)

    def key_meaning_error(self, code: str, message: str, hint: str | None = None) -> None:
        self.problems.meaning_error(code, message, (self.key or self.node).position(), hint)

    def warning(self, code: str, message: str, hint: str | None = None) -> None:
        self.problems.warning(code, message, self.position(), hint)

    def key_warning(self, code: str, message: str, hint: str | None = None) -> None:
        self.problems.warning(code, message, (self.key or self.node).position(), hint)

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
        """A number; one outside of the limits is an error of meaning, because the official client copies it unseen."""
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, str) and _DECIMAL_NUMBER.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            self.expected("a number")
            return minimum
        if not minimum <= value <= maximum:
            self.meaning_error("spec.value.range", self._out_of_range(value, minimum, maximum))
        return float(value)

    def _within(self, value: int, minimum: int, maximum: int) -> bool:
        if minimum <= value <= maximum:
            return True
        self.error("spec.value.range", self._out_of_range(value, minimum, maximum))
        return False

    def _out_of_range(self, value: float, minimum: float, maximum: float) -> str:
        return f"{self.name()} must be between {minimum} and {maximum}; it is {shortened(str(value))}"

    def boolean(self) -> bool:
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, str):
            value = _TRUTH.get(value.lower())
        if isinstance(value, bool):
            return value
        self.expected("true or false")
        return False

    def choice(self, choices: Iterable[str], *, of_form: bool = False) -> str:
        """The text as it is written, which should be one of `choices`: of what the official client copies unseen, anything
        else is an error of meaning."""
        text = self.text()
        allowed = list(choices)
        if text and text not in allowed:
            message = f'{self.name()} must be one of {", ".join(allowed)}; it is "{shortened(text)}"'
            report = self.error if of_form else self.meaning_error
            report("spec.value.choice", message, did_you_mean(text, allowed))
        return text

    def parsed(self, parse: Callable[[str], T], default: T) -> T:
        """What `parse` makes of the text; the error it raises is reported at this place."""
        if not isinstance(self.node, Scalar) or not isinstance(self.node.value, str):
            self.text()
            return default
        return self.checked(parse, self.node.value, default)

    def sound_text(self, check: Callable[[str], object]) -> str:
        """The text as it is written; what `check` raises about it is an error of meaning. Empty text isn't checked."""
        text = self.text()
        if text:
            self.check_meaning(check, text)
        return text

    def check_meaning(self, check: Callable[[str], object], text: str) -> None:
        """Reports what `check` raises about `text`, which is a part of this value."""
        try:
            check(text)
        except StackdError as error:
            self.meaning_error(error.code, f"{self.name()}: {error.message}", error.hint)

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

    def distinct_items(self) -> list[Value]:
        """The items of a list in which nothing may stand twice."""
        items, seen = self.items(), set()
        for item in items:
            written = repr(plain(item.node))
            if written in seen:
                item.error("spec.list.duplicate", f"{item.path} stands twice in {self.name()}", "remove one of the two")
            seen.add(written)
        return items

    def distinct_texts(self) -> tuple[str, ...]:
        return tuple([item.text() for item in self.distinct_items()])

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
        extensions: dict[str, Value] = {}
        for name, value in self.entries().items():
            if name in keys.ignored:
                message = f"{value.path} has no effect in a stack"
                value.key_warning("spec.key.ignored", message, keys.ignored[name])
            if name in keys.known:
                known[name] = value
            if name.startswith("x-") and (name != EXTENSION or name in keys.known):
                extensions[name] = value
            elif name not in keys.known and name not in keys.ignored:
                self._refuse_key(name, value, keys)
        return Fields(known, extensions)

    def _refuse_key(self, name: str, value: Value, keys: Keys) -> None:
        place = f"under {self.path}" if self.path else "at the top level"
        hint: str | None
        if name == EXTENSION:
            hint = "it stands at the top level, in a service, network, volume, config or secret"
            value.key_error("spec.key.unknown", f'the key "{name}" {place} says nothing', hint)
        elif name in keys.later:
            hint = keys.later[name] or "remove it, or keep it under a key that begins with x-"
            value.key_error("spec.key.unsupported", f'the key "{name}" {place} is not supported yet', hint)
        else:
            near = keys.elsewhere.get(name) or did_you_mean(name, [*sorted(keys.known), *sorted(keys.later)])
            hint = near or _listed(keys.known)
            value.key_error("spec.key.unknown", f'unknown key "{shortened(name)}" {place}', hint)

    def is_list(self) -> bool:
        return isinstance(self.node, Sequence)

    def is_text(self) -> bool:
        return isinstance(self.node, Scalar) and isinstance(self.node.value, str)

    def is_mapping(self) -> bool:
        return isinstance(self.node, Mapping)

    def text_pairs(self) -> dict[str, str | None]:
        """A mapping of scalars, or a list of KEY=VALUE; None for an empty value or a KEY alone. Later ones win in a list."""
        if self.is_list():
            split = [(item, item.text().partition("=")) for item in self.distinct_items()]
            found = {name: (item, value if equals else None) for item, (name, equals, value) in split if item.is_text()}
        elif self.is_mapping():
            found = {name: (item, item.scalar_text()) for name, item in self.entries().items()}
        else:
            self.expected("a mapping or a list of KEY=VALUE")
            found = {}
        for name, (item, _) in found.items():
            if not name or "=" in name or "\0" in name or len(name) > MAX_KEY_CHARACTERS:
                message = f'{item.path}: "{shortened(name)}" is not a name'
                item.key_meaning_error("spec.pair.bad", message, "write NAME=VALUE")
        return {name: value for name, (_, value) in found.items()}

    def labels(self) -> dict[str, str]:
        """Labels, where an empty value means the empty text."""
        return {name: value or "" for name, value in self.text_pairs().items()}

    def options(self) -> dict[str, str]:
        """A mapping of scalars, such as the options of a driver."""
        return {name: value.scalar_text() or "" for name, value in self.entries().items()}

    def text_or_texts(self) -> tuple[str, ...]:
        """One text, or a list of them."""
        return self.distinct_texts() if self.is_list() else (self.text(),)


def _listed(known: Iterable[str]) -> str | None:
    """A hint with all keys, where there are few enough to find one's own among them."""
    names = sorted(known)
    return f"the keys here are: {', '.join(names)}" if 0 < len(names) <= MAX_LISTED else None


def did_you_mean(text: str, choices: Iterable[str]) -> str | None:
    """A hint with the nearest of `choices`, if one is near."""
    close = difflib.get_close_matches(text[:80], list(choices), n=1)
    return f'did you mean "{close[0]}"?' if close else None
