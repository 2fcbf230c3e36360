"""Reads one stack file: its sections, each in its long form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from stackd.spec import shorthand
from stackd.spec.document import Extension, FileObjectDocument, NetworkDocument, Said, VolumeDocument
from stackd.spec.nodes import Node, shortened
from stackd.spec.problems import Problems
from stackd.spec.read import keys
from stackd.spec.read.extension import read_stack_extension
from stackd.spec.read.objects import check_name, read_configs, read_networks, read_secrets, read_volumes
from stackd.spec.read.ports import MAX_PORTS
from stackd.spec.read.service import WrittenService, read_service
from stackd.spec.read.value import EXTENSION, Fields, Value

DEFAULT_VERSION = "3.13"
_VERSION = re.compile(r"3(\.([0-9]|1[0-3]))?")


@dataclass(frozen=True, slots=True)
class Include:
    """Another stack file (with overrides on top) whose services and objects become part of this one. `env_files` have
    variables for its expressions."""

    paths: tuple[str, ...]
    project_directory: str = ""
    env_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WrittenStack:
    """What one file says: before bases are looked up, env files read, and other files merged in."""

    name: str = ""
    version: str = DEFAULT_VERSION
    services: dict[str, WrittenService] = field(default_factory=dict)
    networks: dict[str, NetworkDocument] = field(default_factory=dict)
    volumes: dict[str, VolumeDocument] = field(default_factory=dict)
    secrets: dict[str, FileObjectDocument] = field(default_factory=dict)
    configs: dict[str, FileObjectDocument] = field(default_factory=dict)
    includes: tuple[Said[Include], ...] = ()
    extension: Extension = Extension()
    extras: dict[str, object] = field(default_factory=dict)


def read_stack(root: Node, problems: Problems) -> WrittenStack:
    """What the tree `root` says; what is wrong with it goes to `problems`."""
    fields = Value(root, "", problems).fields(keys.STACK)
    return WrittenStack(
        name=fields.read("name", lambda field: field.sound_text(shorthand.stack_name), ""),
        version=fields.read("version", _version, DEFAULT_VERSION),
        services=fields.read("services", _services, {}),
        networks=fields.read("networks", read_networks, {}),
        volumes=fields.read("volumes", read_volumes, {}),
        secrets=fields.read("secrets", read_secrets, {}),
        configs=fields.read("configs", read_configs, {}),
        includes=fields.read("include", _includes, ()),
        extension=fields.read(EXTENSION, read_stack_extension, Extension()),
        extras={name: said for name, said in fields.extras().items() if name != EXTENSION},
    )


def _version(value: Value) -> str:
    """The key says nothing any more, but a file of another language than this one names itself by it."""
    text = value.scalar_text() or ""
    if text and not _VERSION.fullmatch(text):
        message = f'version "{shortened(text)}" is another language than the one of stacks'
        value.error("spec.version.unsupported", message, "remove the line; it is 3.0 to 3.13 where it is given")
    return DEFAULT_VERSION if text in ("", "3") else text


def _services(section: Value) -> dict[str, WrittenService]:
    services = section.entries()
    for name, value in services.items():
        check_name(value, shorthand.service_name, name)
    return dict(_read_services(services))


def _read_services(services: dict[str, Value]) -> Iterator[tuple[str, WrittenService]]:
    """The services by name, as long as they publish no more ports than a stack may have."""
    published = 0
    for name in sorted(services):
        service = read_service(name, services[name])
        if not services[name].is_mapping():
            continue  # reported as such, and nothing more is to be said of it
        yield name, service
        published += len(service.document.ports)
        if published > MAX_PORTS:
            services[name].key_error("spec.limit.ports", f"the stack publishes more than {MAX_PORTS} ports", "publish fewer")
            return


def _includes(value: Value) -> tuple[Said[Include], ...]:
    items = value.items() if value.is_list() else [value]
    found = [Said(item.path, _include(item), item.node) for item in items]
    return tuple(said for said in found if said.value.paths)


def _include(value: Value) -> Include:
    if not value.is_mapping():
        path = value.filled_text()
        return Include((path,) if path else ())
    fields: Fields = value.fields(keys.INCLUDE)
    if "path" not in fields:
        value.error("spec.include.bad", f"{value.path} names no file", "write path: and the file to include")
    return Include(
        fields.read("path", _paths, ()),
        fields.read("project_directory", Value.filled_text, ""),
        fields.read("env_file", _paths, ()),
    )


def _paths(value: Value) -> tuple[str, ...]:
    """One path or several; those that say nothing were reported."""
    items = value.distinct_items() if value.is_list() else [value]
    return tuple(path for item in items if (path := item.filled_text()))
