"""The tree that a stack file is, with the place of every key and value.

A node is what was written, not what it means: no key is special here. Aliases make the tree a graph without cycles: an
anchored node is shared, and its place is where it was written, whatever path leads to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stackd.base.errors import Position

ScalarValue = str | int | float | bool | None

_SHOWN_CHARACTERS = 400
"""An error carries its line. A file that is all one line is cut there, or fifty errors would carry it fifty times."""


_LINE_END = re.compile(r"\r\n|\r|\n")


class SourceText:
    """One file's text, from which places are cut when an error needs them. YAML 1.1, which the C scanner knows, has more
    line ends than 1.2 (`yaml_1_2`), which the scanner in Python knows."""

    def __init__(self, file: str, text: str, *, yaml_1_2: bool = False) -> None:
        self.file = file
        self.text = text
        self._yaml_1_2 = yaml_1_2

    @cached_property
    def lines(self) -> list[str]:
        """The lines as the scanner counts them."""
        return _LINE_END.split(self.text) if self._yaml_1_2 else self.text.splitlines()

    def position(self, line: int, column: int, length: int = 1) -> Position:
        """The place at `line` and `column`, which count from 0 here as the scanner's marks do."""
        text = self.lines[line] if line < len(self.lines) and column < _SHOWN_CHARACTERS else ""
        return Position(self.file, line + 1, column + 1, max(length, 1), text[:_SHOWN_CHARACTERS])


@dataclass(slots=True, eq=False)
class Node:
    """`line` and `column` count from 0; `length` is what of the first line belongs to the node."""

    source: SourceText
    line: int
    column: int
    length: int

    def position(self) -> Position:
        return self.source.position(self.line, self.column, self.length)


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """A single value. `written` is its text before resolution and `plain` says that no quotes stood around it;
    interpolation replaces `value` once, in place, and marks as `broken` what it could not replace."""

    value: ScalarValue
    written: str
    plain: bool
    end_line: int
    interpolated: bool = False
    broken: bool = False


@dataclass(slots=True, eq=False)
class Sequence(Node):
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Entry:
    key: Scalar
    value: Node


@dataclass(slots=True, eq=False)
class Mapping(Node):
    """`marked` are the keys whose values replace those of the files below, instead of being joined with them; a key that
    has no entry only takes away."""

    entries: dict[str, Entry] = field(default_factory=dict)
    marked: dict[str, Scalar] = field(default_factory=dict)


def plain(node: Node) -> Any:
    """The tree as plain data: what stands under keys that nobody reads here."""
    match node:
        case Mapping():
            return {name: plain(entry.value) for name, entry in node.entries.items()}
        case Sequence():
            return [plain(item) for item in node.items]
        case Scalar():
            return node.value
        case _:
            return None


def describe(node: Node) -> str:
    """What a node is, for a sentence such as "must be a list, not the number 3"."""
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "empty"
        case Scalar(value=bool() as value):
            return "true" if value else "false"
        case Scalar(value=int() | float()):
            return f"the number {shortened(node.written)}"
        case Scalar(value=str() as value):
            return f'the text "{shortened(value)}"'
        case _:
            return "something else"


def shortened(text: str, limit: int = 60) -> str:
    """`text` on one line and short enough for a message."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
