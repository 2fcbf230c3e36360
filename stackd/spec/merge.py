"""Puts one document on top of another, as the official client does with several files.

Single values of the upper one win. Mappings are joined; of a mapping inside a mapping the same holds. Lists are put one
after the other, except those whose items have a name of their own (ports, volumes, configs, secrets), where the upper
item wins, and commands (also that of a health check), which are replaced. Objects of the top level are replaced as a
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Any, TypeVar

from stackd.spec.document import (
    AttachmentDocument,
    Extension,
    HealthcheckDocument,
    LoggingDocument,
    MountDocument,
    PortDocument,
    ReferenceDocument,
    Said,
    ServiceDocument,
    StackDocument,
)

T = TypeVar("T")


def merge_stacks(base: StackDocument, upper: StackDocument) -> StackDocument:
    """The stack that both files say together."""
    services = dict(base.services)
    for name, service in upper.services.items():
        services[name] = merge_services(services[name], service) if name in services else service
    return replace(
        base,
        name=upper.name or base.name,
        services=services,
        networks={**base.networks, **upper.networks},
        volumes={**base.volumes, **upper.volumes},
        secrets={**base.secrets, **upper.secrets},
        configs={**base.configs, **upper.configs},
        extension=_records(base.extension, upper.extension, {}),
        extras={**base.extras, **upper.extras},
    )


def with_defaults(stack: StackDocument) -> StackDocument:
    """The stack with its own settings under `x-stackd` taken over by every service that doesn't say otherwise."""
    if stack.extension == Extension():
        return stack
    services = {
        name: replace(service, extension=_records(stack.extension, service.extension, {}))
        for name, service in stack.services.items()
    }
    return replace(stack, services=services)


def merge_services(base: ServiceDocument, upper: ServiceDocument) -> ServiceDocument:
    """One service of both files; its name and path are the upper one's."""
    merged: ServiceDocument = _records(base, upper, _SPECIAL)
    return replace(merged, name=upper.name, path=upper.path)


def _records(base: T, upper: T, special: Mapping[str, Callable[[Any, Any], Any]]) -> T:
    """Two records of a kind, field by field. A field that the upper one doesn't say stays the lower one's."""
    changes: dict[str, Any] = {}
    for name, unsaid in _fields(type(base)):  # type: ignore[arg-type]  # classes are hashable
        lower, above = getattr(base, name), getattr(upper, name)
        if above != unsaid:
            changes[name] = special[name](lower, above) if name in special else _values(lower, above)
    return replace(base, **changes)  # type: ignore[type-var]  # every record is a dataclass


def unsaid(kind: type, name: str) -> Any:
    """What a field of a record has where its key isn't written."""
    return dict(_fields(kind))[name]


@cache
def _fields(kind: type) -> tuple[tuple[str, Any], ...]:
    """The names of a record's fields, each with the value that it has where its key isn't written."""
    return tuple(
        (field.name, field.default if field.default_factory is MISSING else field.default_factory()) for field in fields(kind)
    )


def _values(lower: Any, above: Any) -> Any:
    if isinstance(above, dict) and isinstance(lower, dict):
        return {**lower, **{name: _entry(lower.get(name), value) for name, value in above.items()}}
    if isinstance(above, tuple):
        return (*lower, *above)
    if is_dataclass(above) and is_dataclass(lower) and type(above) is type(lower):
        return _records(lower, above, {})
    return above


def _entry(lower: Any, above: Any) -> Any:
    """One value of a mapping. How a service is attached to a network is its aliases; of ulimits nothing is joined."""
    if isinstance(above, AttachmentDocument) and isinstance(lower, AttachmentDocument):
        return replace(_records(lower, above, {}), aliases=above.aliases)
    return lower if isinstance(lower, AttachmentDocument) and above is None else above


def _replaced(lower: Any, above: T) -> T:
    return above


def _logging(lower: LoggingDocument | None, above: LoggingDocument) -> LoggingDocument:
    """Options are joined only where both speak of the same driver."""
    if lower is None or (lower.driver and above.driver and lower.driver != above.driver):
        return above
    return LoggingDocument(driver=above.driver or lower.driver, options={**lower.options, **above.options})


def _healthcheck(lower: HealthcheckDocument | None, above: HealthcheckDocument) -> HealthcheckDocument:
    return above if lower is None else _records(lower, above, {"test": _replaced})


def _by(key: Callable[[Any], Hashable]) -> Callable[[Any, Any], Any]:
    """Merges lists whose items have a name, and sorts them by it: a later item of one name takes the earlier one's place."""

    def merge(lower: Iterable[Said[T]], above: Iterable[Said[T]]) -> tuple[Said[T], ...]:
        named = {key(said.value): said for said in (*lower, *above)}
        return tuple(sorted(named.values(), key=lambda said: key(said.value)))  # type: ignore[arg-type,return-value]

    return merge


def _port(port: PortDocument) -> Hashable:
    """The published port and its protocol; one that is chosen for each task is named by its target."""
    return port.published, port.protocol or "tcp", 0 if port.published else port.target


def _target(mount: MountDocument) -> Hashable:
    return mount.target


def _source(reference: ReferenceDocument) -> Hashable:
    return reference.source


_SPECIAL: Mapping[str, Callable[[Any, Any], Any]] = {
    "command": _replaced,
    "entrypoint": _replaced,
    "healthcheck": _healthcheck,
    "logging": _logging,
    "ports": _by(_port),
    "volumes": _by(_target),
    "configs": _by(_source),
    "secrets": _by(_source),
}
