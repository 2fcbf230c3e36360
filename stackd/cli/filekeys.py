"""From the fields of a stored spec back to the keys of a stack file, and their values in the file's words. Pure.

A plan compares stored records (`container.stop_grace_ns`); a person wrote `stop_grace_period: 10s` on some line.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from stackd.cli.wording import binary_size, clock_time

_SECTIONS = {
    "mode": "deploy.mode",
    "replicas": "deploy.replicas",
    "update": "deploy.update_config",
    "rollback": "deploy.rollback_config",
    "labels": "deploy.labels",
    "restart": "deploy.restart_policy",
    "limits": "deploy.resources.limits",
    "reservations": "deploy.resources.reservations",
    "placement": "deploy.placement",
    "container.env": "environment",
    "container.mounts": "volumes",
    "container.stop_grace_ns": "stop_grace_period",
}
"""Where a part of the record comes from; the rest of `container` has the names of the file."""

_LEAVES = {"nano_cpus": "cpus", "memory_bytes": "memory"}


def file_key(field: str) -> str:
    """The key under a service that decides `field`: "deploy.update_config.delay" for "update.delay_ns"."""
    for length in range(field.count(".") + 1, 0, -1):
        parts = field.split(".")
        head, rest = ".".join(parts[:length]), parts[length:]
        if head in _SECTIONS:
            return ".".join((_SECTIONS[head], *map(_leaf, rest)))
    return ".".join(map(_leaf, field.removeprefix("container.").split(".")))


def _leaf(name: str) -> str:
    return _LEAVES.get(name, name.removesuffix("_ns"))


def change_words(field: str, before: str, after: str) -> tuple[str, str]:
    """Both values as a person wrote or would write them; of two lists only the elements in which they differ."""
    old, new = _value(before), _value(after)
    if isinstance(old, list) and isinstance(new, list):
        gone = Counter(map(_element, old)) - Counter(map(_element, new))
        come = Counter(map(_element, new)) - Counter(map(_element, old))
        if gone or come:
            return ", ".join(gone.elements()) or "(nothing)", ", ".join(come.elements()) or "(nothing)"
    return _words(field, before), _words(field, after)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _element(value: Any) -> str:
    """One element of a list: a text as it is, a config or secret by name and content, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "digest" in value:
        content = f" ({value['digest'][:8]})" if value["digest"] else ""
        return f"{value['source']}{content}"
    if isinstance(value, dict) and "published" in value:
        return f"{value['published']}:{value['target']}/{value['protocol']}"
    if isinstance(value, dict) and "target" in value:
        return f"{value.get('source', '')}:{value['target']}"
    return msgspec.json.encode(value).decode()


def _words(field: str, text: str) -> str:
    if not text:
        return "(unset)"
    if not text.isdecimal():
        return text
    number = int(text)
    if field.endswith("_ns"):
        return clock_time(number / 1e9)
    if field.endswith("nano_cpus"):
        return f"{number / 1e9:g}"
    if field.endswith("memory_bytes"):
        return binary_size(number) or "0"
    return text
