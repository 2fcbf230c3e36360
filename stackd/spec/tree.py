"""Builds the tree of a file from the scanner's events, and refuses what no stack file needs.

Depth, aliases and the number of values are counted while the events arrive, before anything is built of them: the C
parser's own composer recurses and crashes the process on deep nesting, and a few hundred bytes of nested aliases would
expand to more values than fit in memory. Faults after which there is no tree raise; all others are gathered.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, TypeVar, assert_never

from stackd.base.errors import Position, StackdError
from stackd.spec import scalars
from stackd.spec.nodes import Entry, Mapping, Node, Scalar, ScalarValue, Sequence, SourceText, describe, shortened
from stackd.spec.problems import Problems

MAX_DEPTH = 64
"""The language itself needs eight levels; the rest is room for what lies under `x-` keys."""

MAX_VALUES = 300_000
"""Values with all aliases expanded. Two thousand services with twenty settings each have a third of it."""

CHARACTERS_PER_VALUE = 32
"""A text counts as one more value for each of so many characters, or aliases of one long text would expand to gigabytes."""

MAX_KEY_CHARACTERS = 1024
"""YAML's own limit for keys that aren't marked by `?` (YAML 1.2 section 7.4)."""

N = TypeVar("N", bound=Node)

_TAG_PREFIX = "tag:yaml.org,2002:"
_UNTAGGED = ("", "!")
_MERGE = "<<"

_RESET, _OVERRIDE = "!reset", "!override"
_MARKS = (_RESET, _OVERRIDE)
"""Tags of Compose that say how a value is put on those of other files (`taken.py`)."""


class Kind(enum.Enum):
    """What a scanner's event says."""

    SCALAR = enum.auto()
    MAPPING = enum.auto()
    SEQUENCE = enum.auto()
    END = enum.auto()
    ALIAS = enum.auto()
    DOCUMENT = enum.auto()


class Event(NamedTuple):
    """One event. Lines and columns count from 0; `tag` is "" where none is written; `plain` means not quoted."""

    kind: Kind
    line: int
    column: int
    end_line: int
    end_column: int
    anchor: str = ""
    tag: str = ""
    text: str = ""
    plain: bool = False


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet, with its children so far (keys and values in turn).

    `values` counts the node with all below it, `height` is how many levels it has.
    """

    node: Mapping | Sequence
    anchor: str
    children: list[Node] = field(default_factory=list)
    values: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class _Anchored:
    node: Node
    values: int
    height: int


def build(events: Iterable[Event], source: SourceText, problems: Problems) -> Node:
    """The tree of the one document; raises StackdError at the first fault that leaves no tree."""
    builder = _Builder(source, problems)
    for event in events:
        builder.take(event)
    builder.check_marks()
    if builder.root is None:
        hint = "the smallest stack is: services: {web: {image: nginx}}"
        raise StackdError("spec.yaml.empty", "the file holds nothing", position=source.position(0, 0), hint=hint)
    return builder.root


class _Builder:
    """Takes one event after the other; `_open` is the path from the root to where the next node belongs."""

    def __init__(self, source: SourceText, problems: Problems) -> None:
        self.root: Node | None = None
        self._source = source
        self._problems = problems
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._marks: dict[int, tuple[Node, Event]] = {}
        """By identity; the nodes are kept, or another one could come to have the identity of one that is gone."""
        self._marked: set[int] = set()
        self._documents = 0
        self._values = 0

    def take(self, event: Event) -> None:
        match event.kind:
            case Kind.SCALAR:
                values = 1 + len(event.text) // CHARACTERS_PER_VALUE
                self._count(values, event)
                self._attach(self._noted(self._scalar(event), event), event.anchor, values, 0)
            case Kind.MAPPING | Kind.SEQUENCE:
                self._count(1, event)
                self._begin(event)
            case Kind.END:
                done = self._open.pop()
                self._finish(done)
                self._attach(done.node, done.anchor, done.values, done.height)
            case Kind.ALIAS:
                self._alias(event)
            case Kind.DOCUMENT:
                self._documents += 1
                if self._documents > 1:
                    self._refuse(event, "spec.yaml.documents", "a stack file holds one document", "make it a file of its own")
            case _:
                assert_never(event.kind)

    def _begin(self, event: Event) -> None:
        self._check_depth(1, event)
        is_mapping = event.kind is Kind.MAPPING
        if event.tag not in (*_UNTAGGED, *_MARKS, _TAG_PREFIX + ("map" if is_mapping else "seq")):
            self._unknown_tag(event)
        if event.anchor:
            self._anchors[event.anchor] = None  # open: an alias to it inside of itself would be endless
        place = (self._source, event.line, event.column, _length(event))
        node = Mapping(*place) if is_mapping else Sequence(*place)
        self._noted(node, event)
        self._open.append(_Open(node, event.anchor))

    def _alias(self, event: Event) -> None:
        if event.anchor not in self._anchors:
            self._refuse(event, "spec.yaml.alias", f'there is no anchor "{event.anchor}" above', "an anchor is written &NAME")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            self._refuse(event, "spec.yaml.alias", f'"{event.anchor}" contains itself', "use the alias outside of its anchor")
        self._check_depth(anchored.height, event)
        self._count(anchored.values, event)
        self._attach(anchored.node, "", anchored.values, anchored.height)

    def _attach(self, node: Node, anchor: str, values: int, height: int) -> None:
        """Hands a finished node to the mapping or list that it stands in."""
        if anchor:
            self._anchors[anchor] = _Anchored(node, values, height)
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        parent.children.append(node)
        parent.values += values
        parent.height = max(parent.height, height + 1)

    def _finish(self, done: _Open) -> None:
        if isinstance(done.node, Sequence):
            done.node.items = done.children
            return
        entries = done.node.entries
        for key, value in zip(done.children[::2], done.children[1::2], strict=True):
            if isinstance(key, Scalar) and isinstance(key.value, str) and len(key.value) <= MAX_KEY_CHARACTERS:
                if key.value in entries:
                    self._duplicate(key, entries[key.value].key)
                elif not self._takes_away(done.node, key, value):
                    entries[key.value] = Entry(key, value)
            else:
                self._not_a_key(key)
        merge = entries.get(_MERGE)
        if merge is not None and merge.key.plain:
            del entries[_MERGE]
            self._merge(done.node, merge.value)

    def _noted(self, node: N, event: Event) -> N:
        """The node, remembered if it has a mark."""
        if event.tag in _MARKS:
            self._marks[id(node)] = (node, event)
        return node

    def _takes_away(self, mapping: Mapping, key: Scalar, value: Node) -> bool:
        """Whether the value says only that what is below shall go. Within lists nothing has a name to be found by."""
        marked = self._marks.get(id(value)) if self._marks else None
        if marked is None or not all(isinstance(each.node, Mapping) for each in self._open):
            return False
        self._marked.add(id(value))
        mapping.marked[str(key.value)] = key
        return marked[1].tag == _RESET

    def check_marks(self) -> None:
        """Reports marks at values that have no key."""
        for identity, (_, event) in self._marks.items():
            if identity not in self._marked:
                hint = "it stands before the value of a key, outside of lists"
                self._problems.error("spec.yaml.tag", f'"{event.tag}" means nothing here', self._position(event), hint)

    def _merge(self, mapping: Mapping, value: Node) -> None:
        """Adds what `value` (a mapping or a list of them) has and `mapping` has not; earlier ones win."""
        for merged in value.items if isinstance(value, Sequence) else [value]:
            if isinstance(merged, Mapping):
                for name, entry in merged.entries.items():
                    if name not in mapping.marked:
                        mapping.entries.setdefault(name, entry)
            else:
                message = f"<< merges a mapping or a list of mappings, not {describe(merged)}"
                self._problems.error("spec.yaml.merge", message, merged.position())

    def _scalar(self, event: Event) -> Scalar:
        length = _length(event)
        value = self._value(event)
        if "\0" in event.text:
            message = "a zero byte can't stand in a stack file, not as an escape either"
            self._problems.error("spec.yaml.character", message, self._position(event), "no program could be given it")
        return Scalar(self._source, event.line, event.column, length, value, event.text, event.plain, event.end_line)

    def _value(self, event: Event) -> ScalarValue:
        """A plain scalar is resolved, a quoted one is text; a tag of YAML itself may say otherwise."""
        if not event.tag or event.tag in _MARKS:
            return scalars.resolve(event.text) if event.plain else event.text
        name = event.tag.removeprefix(_TAG_PREFIX)
        if event.tag == "!" or name == "str":
            return event.text
        value = scalars.resolve(event.text)
        match name:
            case "null" if value is None:
                return None
            case "bool" if isinstance(value, bool):
                return value
            case "int" if isinstance(value, int) and not isinstance(value, bool):
                return value
            case "float" if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            case "null" | "bool" | "int" | "float":
                self._problems.error("spec.yaml.tag", f'"{shortened(event.text)}" is no {name}', self._position(event))
            case _:
                self._unknown_tag(event)
        return event.text

    def _duplicate(self, key: Scalar, first: Scalar) -> None:
        message = f'the key "{shortened(key.written)}" stands twice in one mapping'
        hint = f"it was first written in line {first.line + 1}: join the two, or remove one"
        self._problems.error("spec.yaml.duplicate", message, key.position(), hint)

    def _not_a_key(self, key: Node) -> None:
        if isinstance(key, Scalar) and isinstance(key.value, str):
            message, hint = f"a key has more than {MAX_KEY_CHARACTERS} characters", None
        else:
            message = f"a key must be text, not {describe(key)}"
            hint = f'put it in quotes: "{shortened(key.written)}"' if isinstance(key, Scalar) and key.written else None
        self._problems.error("spec.yaml.key", message, key.position(), hint)

    def _unknown_tag(self, event: Event) -> None:
        tag = event.tag.replace(_TAG_PREFIX, "!!")
        message = f'the tag "{shortened(tag)}" means nothing here'
        self._problems.error("spec.yaml.tag", message, self._position(event), "remove the tag")

    def _count(self, values: int, event: Event) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            message = f"the file holds more than {MAX_VALUES} values, long texts counted several times and aliases at each use"
            self._refuse(event, "spec.limit.values", message, "split the stack, or use fewer aliases inside of anchors")

    def _check_depth(self, levels: int, event: Event) -> None:
        if len(self._open) + levels > MAX_DEPTH:
            self._refuse(event, "spec.limit.depth", f"values are nested more than {MAX_DEPTH} levels deep", None)

    def _refuse(self, event: Event, code: str, message: str, hint: str | None) -> NoReturn:
        raise StackdError(code, message, position=self._position(event), hint=hint)

    def _position(self, event: Event) -> Position:
        return self._source.position(event.line, event.column, _length(event))


def _length(event: Event) -> int:
    """How many characters of its first line the event covers; 1 where it goes on below (a block starts at its indicator)."""
    return max(event.end_column - event.column, 1) if event.end_line == event.line else 1
