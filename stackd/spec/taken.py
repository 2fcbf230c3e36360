"""What a later file takes away from what it is put on: `!reset` leaves nothing of a value, `!override` only its own.

    services: {web: {ports: !override ["81:80"], environment: {LEVEL: !reset null}}}

Without these tags lists grow and mappings are joined (`merge.py`). The marked values are taken out of the lower document
before the upper one is put on it, so nothing else has to know of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from stackd.spec.document import Extension, ServiceDocument
from stackd.spec.merge import unsaid
from stackd.spec.nodes import Mapping, Node, Scalar
from stackd.spec.read.value import EXTENSION

T = TypeVar("T")

_FOLDED = frozenset({"env_file"})
"""Keys of a service that are part of other values by then: the variables of its files are in its environment."""


def taken_away(node: Node) -> Iterator[tuple[tuple[str, ...], Scalar]]:
    """The paths of all marked values below `node`, each with its key."""
    if isinstance(node, Mapping):
        for name, key in node.marked.items():
            yield (name,), key
        for name, entry in node.entries.items():
            if name not in node.marked:
                for path, key in taken_away(entry.value):
                    yield (name, *path), key


def without(document: T, path: tuple[str, ...]) -> T:
    """The document, or a part of one, without the value at `path`; raises KeyError where none can be."""
    value: Any = document
    name, rest = path[0], path[1:]
    if isinstance(value, dict):
        others = {key: item for key, item in value.items() if key != name}
        return {**value, name: without(value[name], rest)} if rest and name in value else others  # type: ignore[return-value]
    if not is_dataclass(value):
        return document  # nothing is said there
    name, rest = _field(value, name, rest)
    unmarked = without(getattr(value, name), rest) if rest else unsaid(type(value), name)
    return replace(value, **{name: unmarked})  # type: ignore[return-value,type-var]


def _field(record: Any, name: str, rest: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The field that a key is kept in, and the way on from there."""
    if isinstance(record, Extension) and name == "update":
        return "progress_deadline", ()
    if name == EXTENSION:
        name = "extension"
    elif name.startswith("x-"):
        name, rest = "extras", (name, *rest)
    if name not in {field.name for field in fields(record)} or (isinstance(record, ServiceDocument) and name in _FOLDED):
        raise KeyError(name)
    return name, rest
