"""From a path such as `services.web.deploy.replicas` to the place in the file that says it.

Nothing is copied: the map walks the trees of the files, so a place is found after merges and through aliases, and is where
the value was really written.
"""

from __future__ import annotations

from dataclasses import dataclass

from stackd.base.errors import Position
from stackd.spec.nodes import Mapping, Node, Scalar, Sequence

_INDEX_DIGITS = 7


@dataclass(frozen=True, slots=True)
class _Reached:
    """Where a walk ended: the node, the key that led to it (None at the root and in lists), characters of path not used."""

    node: Node
    key: Scalar | None
    unused: int

    def shown(self) -> Position:
        """A value shows itself; a mapping, a list or an empty value is shown by its key."""
        if self.key is None or (isinstance(self.node, Scalar) and self.node.written):
            return self.node.position()
        return self.key.position()


class SourceMap:
    """The places of one loaded stack. It may be written in several files: the one that knows a path best shows it, and of
    equals the last one, which wins when they are merged."""

    def __init__(self, *roots: Node) -> None:
        self._layers = [("", root) for root in roots]

    def add_root(self, root: Node) -> None:
        """Another file, which is put on top of what there is."""
        self._layers.append(("", root))

    def add_base(self, path: str, node: Node) -> None:
        """Below everything, what `path` is built on: a service that another one extends."""
        self._layers.insert(0, (path, node))

    def position(self, path: str) -> Position | None:
        """Where the value at `path` is written, or its nearest written ancestor; None where that is a whole file."""
        reached = self._reach(path)
        return None if reached is None or reached.node in self._roots() else reached.shown()

    def key(self, path: str) -> Position | None:
        """Where the key that `path` ends with is written; an item of a list has none and gives its own place."""
        reached = self._reach(path)
        return reached.key.position() if reached and reached.key and not reached.unused else self.position(path)

    def start(self) -> Position | None:
        """The beginning of the first file, for what is missing in all of them."""
        roots = self._roots()
        return roots[0].position() if roots else None

    def _roots(self) -> list[Node]:
        return [node for prefix, node in self._layers if not prefix]

    def _reach(self, path: str) -> _Reached | None:
        """The node that `path` leads to in the layer that leads furthest."""
        best: _Reached | None = None
        for prefix, node in self._layers:
            if path == prefix or path.startswith(f"{prefix}." if prefix else ""):
                rest = path[len(prefix) :].removeprefix(".") if prefix else path
                reached = _walk(_Reached(node, None, len(rest)), rest)
                if best is None or reached.unused <= best.unused:
                    best = reached
        return best


def _walk(start: _Reached, path: str) -> _Reached:
    """The node that `path` leads to from `start`, or the one nearest to it.

    Keys may hold dots (`com.example.tier`), so every prefix that is a key is tried and the one that leads furthest wins.
    """
    steps = [
        _walk(_Reached(node, key, len(rest)), rest) for name, rest in _splits(path) for node, key in _children(start.node, name)
    ]
    return min((start, *steps), key=lambda reached: reached.unused)


def _splits(path: str) -> list[tuple[str, str]]:
    ends = [index for index, character in enumerate(path) if character == "."]
    return [(path[:end], path[end + 1 :]) for end in ends] + ([(path, "")] if path else [])


def _children(node: Node, name: str) -> list[tuple[Node, Scalar | None]]:
    match node:
        case Mapping() if name in node.entries:
            entry = node.entries[name]
            return [(entry.value, entry.key)]
        case Sequence() if name.isdecimal() and len(name) <= _INDEX_DIGITS and int(name) < len(node.items):
            return [(node.items[int(name)], None)]
        case Sequence():  # a list of names, or of NAME=VALUE, is the short form of a mapping
            return [(item, None) for item in node.items if isinstance(item, Scalar) and _name(item) == name]
        case _:
            return []


def _name(item: Scalar) -> str:
    return item.value.partition("=")[0] if isinstance(item.value, str) else ""
