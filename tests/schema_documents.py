"""Documents made from the JSON schema itself: every place that it describes, whole documents that it allows, and damage.

It knows the words of draft-07 that the stack file's schema uses; a word that it doesn't know makes it say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
Wrap = Callable[[Any], Any]

OWN_KEY = "own"
"""A key where the user chooses the names."""

TEXTS = (
    "x", "", "yes", "3", "-1", "0440", "1.5", "10s", "64M", "/srv/a", "a=b", "8080:80", "3.8", "tcp", "DNSRR", "${TAG}", "é",
)  # fmt: skip
"""Texts that mean something somewhere, and nothing elsewhere."""

JUNK: tuple[Any, ...] = (
    "x", "", "3", "10s", "a=b", "${TAG}", None, True, 0, 1.5, 70_000, [], ["x"], ["x", "x"], [None], [{}], {}, {OWN_KEY: None},
    {OWN_KEY: []}, {"": "x"}, {"x-stackd": None},
)  # fmt: skip
"""One value of each kind, and some that are nearly right."""

_KNOWN = frozenset(
    {
        "type", "properties", "required", "patternProperties", "additionalProperties", "propertyNames", "items", "uniqueItems",
        "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMaximum", "if", "then", "description",
        "default", "title", "definitions", "$schema", "$id",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a document: what it may hold, and how the smallest document with a value there is made."""

    path: str
    schema: Schema
    wrap: Wrap


class Documents:
    """What can be made from one schema."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema

    def places(self) -> list[Place]:
        """Every place that the schema describes, from the outside in."""
        return list(self._places(Place("", self._root, lambda value: value)))

    def _places(self, at: Place) -> Iterator[Place]:
        yield at
        for branch in self._branches(at.schema):
            for name, part in branch.get("properties", {}).items():
                yield from self._places(_below(at, name, part, self._required(branch)))
            if isinstance(part := branch.get("additionalProperties"), dict):
                yield from self._places(_below(at, OWN_KEY, part, {}))
            if "items" in branch:
                yield from self._places(_item(at, branch["items"]))

    def _required(self, branch: Schema) -> dict[str, Any]:
        """The smallest mapping that the branch allows."""
        return {name: self._smallest(branch["properties"][name]) for name in branch.get("required", ())}

    def _smallest(self, schema: Schema) -> Any:
        branch = next(self._branches(schema))
        return next(text for text in branch.get("enum", TEXTS) if _allows(branch, text))

    def _branches(self, schema: Schema) -> Iterator[Schema]:
        """What a value may be, one after the other, without references and choices."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/definitions/")
            yield from self._branches(self._root["definitions"][name])
        elif "anyOf" in schema:
            for part in schema["anyOf"]:
                yield from self._branches(part)
        else:
            assert schema.keys() <= _KNOWN, f"words of schemas that aren't known here: {schema.keys() - _KNOWN}"
            yield schema

    # Whole documents

    def values(self, schema: Schema) -> st.SearchStrategy[Any]:
        """Values that the schema allows, but for `if` and `then`."""
        return st.one_of([self._of(branch, kind) for branch in self._branches(schema) for kind in _types(branch)])

    def _of(self, branch: Schema, kind: str) -> st.SearchStrategy[Any]:
        low, high = branch.get("minimum", -5), min(branch.get("maximum", branch.get("exclusiveMaximum", 101) - 1), 100)
        match kind:
            case "string":
                return st.sampled_from([text for text in branch.get("enum", TEXTS) if _allows(branch, text)])
            case "integer":
                return st.integers(low, high)
            case "number":
                return st.integers(low, high) | st.floats(low, high).map(lambda number: round(number, 2))
            case "array":
                items = self.values(branch.get("items", {}))
                return st.lists(items, max_size=2, unique_by=repr if branch.get("uniqueItems") else None)
            case "object":
                return self._mapping(branch)
            case "boolean":
                return st.booleans()
            case _:
                return st.none()

    @st.composite
    def _mapping(draw: st.DrawFn, self: Documents, branch: Schema) -> dict[str, Any]:
        """A mapping with a few of its keys: with all of them, documents would grow without end."""
        properties, own = branch.get("properties", {}), branch.get("additionalProperties")
        chosen = draw(st.lists(st.sampled_from(sorted(properties)), max_size=6, unique=True)) if properties else []
        names = dict.fromkeys((*branch.get("required", ()), *chosen))
        found = {name: draw(self.values(properties[name])) for name in names}
        if isinstance(own, dict):
            found |= draw(st.dictionaries(st.sampled_from(("a", "b")), self.values(own), max_size=2))
        return found


@st.composite
def damaged(draw: st.DrawFn, document: Any, changes: int) -> Any:
    """The document with some of its values replaced, keys removed, renamed or added. It is changed in place."""
    for _ in range(changes):
        where = document
        while isinstance(where, dict | list) and where:
            names: list[Any] = list(where) if isinstance(where, dict) else list(range(len(where)))
            name = draw(st.sampled_from(names))
            child = where[name]
            if not isinstance(child, dict | list) or not child or draw(st.integers(0, 3)) == 0:
                _change(draw, where, name)
                break
            where = child
    return document


def _change(draw: st.DrawFn, where: Any, name: Any) -> None:
    kind = draw(st.sampled_from(["replace", "remove", "rename", "add"]))
    junk = deepcopy(draw(st.sampled_from(JUNK)))
    if kind == "replace":
        where[name] = junk
    elif kind == "remove":
        del where[name]
    elif isinstance(where, dict):
        key = draw(st.sampled_from(["imag", "privileged", "x-own", "x-stackd", "labels", "source"]))
        where[key] = where.pop(name) if kind == "rename" else junk


def _below(at: Place, name: str, schema: Schema, beside: dict[str, Any]) -> Place:
    return Place(f"{at.path}.{name}", schema, lambda value: at.wrap({**beside, name: value}))


def _item(at: Place, schema: Schema) -> Place:
    return Place(f"{at.path}[]", schema, lambda value: at.wrap([value]))


def _types(branch: Schema) -> list[str]:
    """The types that the branch allows; where it doesn't say, those of its words, or any."""
    if "enum" in branch:
        return ["string"]
    kinds = branch.get("type", ["string", "integer", "boolean", "null"])
    return [kinds] if isinstance(kinds, str) else kinds


def _allows(branch: Schema, text: str) -> bool:
    return bool(re.search(branch.get("pattern", ""), text)) and len(text) >= branch.get("minLength", 0)
