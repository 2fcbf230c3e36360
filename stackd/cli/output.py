"""Forms of output: tables for people, JSON documents for machines. Pure: texts in, text out.

JSON is an interface: `apiVersion` and `kind` first, lists under `items`, snake_case keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from stackd.api.views import API_VERSION

_GAP = "   "


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, three blanks between them, no blanks at the end of a line."""
    lines = [tuple(headers), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def page(lines: Mapping[str, str]) -> str:
    """Name and value on each line; what is unset is left out."""
    width = max(map(len, lines)) + 2
    return "\n".join(f"{f'{name}:':{width}} {value}" for name, value in lines.items() if value)


def shortened(text: str, width: int) -> str:
    """`text` on one line and cut to `width` characters, with an ellipsis where something is missing."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def list_document(kind: str, items: Iterable[object]) -> str:
    """A list as a JSON document, indented for eyes."""
    return _json({"apiVersion": API_VERSION, "kind": kind, "items": list(items)})


def document(kind: str, record: object) -> str:
    """One record (a view or a mapping) as a JSON document."""
    return _json({"apiVersion": API_VERSION, "kind": kind} | msgspec.to_builtins(record))


def json_line(item: object) -> str:
    """One item on a line of its own, as it would stand in a list: the form of streams."""
    return msgspec.json.encode(item).decode()


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
