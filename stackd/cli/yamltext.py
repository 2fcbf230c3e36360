"""Plain data as YAML, for people and other programs to read. Pure: data in, text out.

Texts are quoted wherever any reader of YAML, old or new, could take them for something else; in quotes they are written
as in JSON, which is YAML too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence

_PLAIN = re.compile(r"[A-Za-z0-9_./~-](?:[A-Za-z0-9_./~$@=+,;()<>^%*|?!&'\" :#-]*[A-Za-z0-9_./~$@=+,;()<>^%*|?!&'\"-])?")
_SPECIAL_START = re.compile(r"- |-$|---|~$|\.\.\.")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_LIKE_A_NUMBER = re.compile(r"[-+.]?[0-9][0-9_.,:eExXoObBa-fA-F+-]*([tT ][0-9].*)?|[-+]?\.(inf|nan)", re.IGNORECASE)
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")

LONGEST_KEY = 1000
"""A longer one has to be marked (YAML 1.2 section 7.4 says 1024)."""


def yaml_text(value: object) -> str:
    """`value` (mappings, lists and scalars) in block style, with a line end after each line."""
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entry(_scalar(key), item)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for item in value:
            inner = list(_lines(item))
            yield f"- {inner[0]}"
            yield from (f"  {line}" for line in inner[1:])
    else:
        yield _scalar(value)


def _entry(key: str, value: object) -> Iterator[str]:
    if len(key) > LONGEST_KEY:
        yield f"? {key}"
        key = ""
    key += ":"
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str) and value:
        yield key
        yield from (f"  {line}" for line in _lines(value))
    else:
        yield f"{key} {_scalar(value)}"


def _scalar(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return _text(value)
        case Mapping():
            return "{}"
        case _:
            return "[]"


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    return repr(value) if math.isfinite(value) else ".inf" if value > 0 else "-.inf"


def _text(text: str) -> str:
    is_plain = (
        _PLAIN.fullmatch(text)
        and not _SPECIAL_START.match(text)
        and ": " not in text
        and " #" not in text
        and text.lower() not in _WORDS
        and not _LIKE_A_NUMBER.fullmatch(text)
    )
    return text if is_plain else _quoted(text)


def _quoted(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", written)
