"""A document as plain data, in the form that the official client's `stack config` prints: the same file in its long form.

Paths are absolute, env files are folded in, short forms are long. What isn't written isn't shown, and neither is a value
that says the same as nothing at all.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from stackd.base.errors import StackdError
from stackd.base.time import HOUR, MILLISECOND, MINUTE, SECOND
from stackd.spec.document import (
    EnvFileDocument,
    Extension,
    FileObjectDocument,
    MountDocument,
    Said,
    ServiceDocument,
    StackDocument,
    UlimitDocument,
)
from stackd.spec.hostpaths import host_path
from stackd.spec.read.value import EXTENSION
from stackd.spec.stack import MountType

_DURATIONS = frozenset(
    {"interval", "timeout", "start_period", "start_interval", "delay", "monitor", "window", "stop_grace_period"}
)
_SIZES = frozenset({"memory"})
"""Written as text, because the number has no unit there."""

_TRISTATE = frozenset({"init"})
"""Where `false` isn't the same as nothing at all."""

_HIDDEN = frozenset({"name", "path", "extension", "extras"})
"""Of services: what stands elsewhere."""


def render(document: StackDocument, directory: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """The document; `directory` and `environment` are what the paths of its bind mounts are made absolute with."""
    renderer = _Renderer(directory, environment)
    shown: dict[str, Any] = {"version": document.version}
    if document.name:
        shown["name"] = document.name
    shown["services"] = {name: renderer.service(document.services[name]) for name in sorted(document.services)}
    sections: tuple[tuple[str, Mapping[str, Any], Callable[[Any], dict[str, Any]]], ...] = (
        ("networks", document.networks, _object),
        ("volumes", document.volumes, _object),
        ("secrets", document.secrets, renderer.file_object),
        ("configs", document.configs, renderer.file_object),
    )
    for section, items, show in sections:
        if items:
            shown[section] = {name: show(items[name]) for name in sorted(items)}
    return shown | document.extras


class _Renderer:
    """Shows what depends on where the file stands."""

    def __init__(self, directory: str | None, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment

    def service(self, service: ServiceDocument) -> dict[str, Any]:
        shown = {name: value for name, value in _record(service).items() if name not in _HIDDEN}
        if service.depends_on and not any(service.depends_on.values()):
            shown["depends_on"] = list(service.depends_on)
        if extension := _extension(service.extension):
            shown[EXTENSION] = extension
        if service.volumes:
            shown["volumes"] = [self._mount(said.value) for said in service.volumes]
        return shown | service.extras

    def _mount(self, mount: MountDocument) -> dict[str, Any]:
        shown = _record(mount)
        if mount.type == MountType.BIND:
            shown["source"] = self._host_path(mount.source)
        return shown

    def _host_path(self, source: str) -> str:
        try:
            return host_path(source, self._directory, self._environment)
        except StackdError:
            return source  # it means nothing here, and says so when it is deployed

    def file_object(self, item: FileObjectDocument) -> dict[str, Any]:
        shown = _object(item)
        is_file = not item.driver and item.content is None and not item.environment
        if is_file and not item.external:
            shown["file"] = posixpath.normpath(posixpath.join(self._directory or "", item.file))
        return shown


def _extension(said: Extension) -> dict[str, Any]:
    deadline = None if said.progress_deadline is None else {"progress_deadline": duration_text(said.progress_deadline)}
    keys = {"executor": said.executor, "fence": said.fence, "drain": said.drain, "update": deadline}
    return {name: value for name, value in keys.items() if value not in (None, "")}


def _object(item: Any) -> dict[str, Any]:
    extras: dict[str, Any] = item.extras
    return {name: value for name, value in _record(item).items() if name != "extras"} | extras


def _record(record: Any) -> dict[str, Any]:
    """A record's fields under their keys, without those that say nothing."""
    shown: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if value is None or value == field.default or (field.default not in (None, True) and _is_empty(value)):
            continue
        if value is False and field.default is None and field.name not in _TRISTATE:
            continue
        shown[field.name] = _value(field.name, value)
    return shown


def _is_empty(value: Any) -> bool:
    """Whether a value that was written says nothing. A section of its own kind (one that may be absent) always says that it
    is there."""
    return value in ("", 0, (), {}) or (is_dataclass(value) and not _record(value))


def _value(name: str, value: Any) -> Any:
    match value:
        case Said():
            return _value(name, value.value)
        case EnvFileDocument(path=path, required=True):
            return path
        case UlimitDocument():
            return value.single or {"soft": value.soft, "hard": value.hard}
        case dict():
            return {key: _value(key, item) for key, item in sorted(value.items())}
        case float() if value.is_integer():
            return int(value)
        case tuple():
            return [_value(name, item) for item in value]
        case int() if name in _DURATIONS and not isinstance(value, bool):
            return duration_text(value)
        case int() if name in _SIZES:
            return str(value)
        case _:
            return _record(value) if is_dataclass(value) else value


_UNITS = ((HOUR, "h"), (MINUTE, "m"))
_SMALL_UNITS = ((MILLISECOND, "ms"), (1000, "µs"), (1, "ns"))


def duration_text(nanoseconds: int) -> str:
    """A duration as Go prints it: `1m30s`, `500ms`, `1h0m0s`."""
    if not nanoseconds:
        return "0s"
    if nanoseconds < SECOND:
        unit, name = next((unit, name) for unit, name in _SMALL_UNITS if nanoseconds >= unit)
        return f"{_decimal(nanoseconds, unit)}{name}"
    text, rest = "", nanoseconds
    for unit, name in _UNITS:
        if nanoseconds >= unit:
            text += f"{rest // unit}{name}"
            rest %= unit
    return f"{text}{_decimal(rest, SECOND)}s"


def _decimal(amount: int, unit: int) -> str:
    """`amount` in `unit`, without zeros at the end."""
    whole, rest = divmod(amount, unit)
    digits = str(unit + rest)[1:].rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
