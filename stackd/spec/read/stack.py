"""Reads a whole stack file: its sections, and the volumes, configs and secrets that services refer to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from stackd.base.errors import StackdError
from stackd.base.records import Pairs, pairs
from stackd.spec import shorthand
from stackd.spec.document import Said, ServiceDocument, StackDocument, VolumeDocument
from stackd.spec.nodes import Node, shortened
from stackd.spec.problems import Problems
from stackd.spec.read import keys
from stackd.spec.read.mounts import MAX_PORTS
from stackd.spec.read.service import read_service
from stackd.spec.read.value import Fields, Value

_VERSION = re.compile(r"3(\.([0-9]|1[0-3]))?")
_DEFAULT_NETWORK = "default"


def read_stack(root: Node, problems: Problems) -> StackDocument:
    """The document that the tree `root` says; what is wrong goes to `problems`."""
    file = Value(root, "", problems)
    fields = file.fields(keys.STACK)
    if "version" in fields:
        _check_version(fields["version"])
    if "networks" in fields:
        _check_networks(fields["networks"])
    return StackDocument(
        name=fields.read("name", _name, None),
        services=_services(file, fields),
        volumes=fields.read("volumes", _volumes, {}),
        configs=fields.read("configs", _file_objects, {}),
        secrets=fields.read("secrets", _file_objects, {}),
    )


def _check_version(value: Value) -> None:
    """The key says nothing any more, but a file of another language than this one names itself by it."""
    text = value.scalar_text()
    if text and not _VERSION.fullmatch(text):
        message = f'version "{shortened(text)}" is another language than the one of stacks'
        value.error("spec.version.unsupported", message, "remove the line; it is 3.0 to 3.13 where it is given")


def _name(value: Value) -> Said[str] | None:
    name = value.parsed(shorthand.stack_name, "")
    return Said(value.path, name)


def _services(file: Value, fields: Fields) -> tuple[ServiceDocument, ...]:
    section = fields.get("services")
    services = section.entries() if section else {}
    if file.is_mapping() and not services and (section is None or section.is_mapping()):
        place = section or file
        hint = "the smallest stack is: services: {web: {image: nginx}}; to remove a stack, remove its file"
        place.key_error("spec.services.missing", "the stack has no services", hint)
    for name, value in services.items():
        _check_name(value, shorthand.service_name, name)
    return tuple(_read_services(services))


def _read_services(services: dict[str, Value]) -> Iterator[ServiceDocument]:
    """The services by name, as long as they publish no more ports than a stack may have."""
    published = 0
    for name in sorted(services):
        service = read_service(name, services[name])
        yield service
        published += len(service.ports)
        if published > MAX_PORTS:
            services[name].key_error("spec.limit.ports", f"the stack publishes more than {MAX_PORTS} ports", "publish fewer")
            return


def _check_name(value: Value, check: Callable[[str], str], name: str) -> None:
    try:
        check(name)
    except StackdError as error:
        value.key_error(error.code, error.message, error.hint)


def _volumes(value: Value) -> dict[str, VolumeDocument]:
    volumes = value.entries()
    for name, volume in volumes.items():
        _check_name(volume, shorthand.object_name, name)
    return {name: _volume(volume) for name, volume in volumes.items()}


def _volume(value: Value) -> VolumeDocument:
    if value.is_empty():
        return VolumeDocument()
    fields = value.fields(keys.VOLUME)
    external, old_name = _external(fields["external"]) if "external" in fields else (False, None)
    name = fields.read("name", lambda field: field.parsed(shorthand.object_name, ""), None)
    if old_name and name:
        fields["name"].key_error("spec.volume.external", f"{value.path} has name and external.name", "remove external.name")
    if external:
        for key in ("driver", "driver_opts", "labels"):
            if key in fields:
                message = f"{value.path} is external, so its {key} can't be given"
                fields[key].key_error("spec.volume.external", message, f"remove {key}, or external")
    return VolumeDocument(
        name=name or old_name,
        external=external,
        driver=fields.read("driver", Value.text, ""),
        driver_options=fields.read("driver_opts", _driver_options, ()),
        labels=fields.read("labels", Value.labels, ()),
    )


def _external(value: Value) -> tuple[bool, str | None]:
    """`true`, or the older mapping that holds the name."""
    if not value.is_mapping():
        return value.boolean(), None
    fields = value.fields(keys.VOLUME_EXTERNAL)
    return True, fields.read("name", lambda field: field.parsed(shorthand.object_name, ""), None)


def _driver_options(value: Value) -> Pairs:
    return pairs({name: option.scalar_text() or "" for name, option in value.entries().items()})


def _file_objects(value: Value) -> dict[str, str]:
    """Configs or secrets: the name and the path of the file that holds the content."""
    objects = value.entries()
    for name, item in objects.items():
        _check_name(item, shorthand.object_name, name)
    return {name: _file(item) for name, item in objects.items()}


def _file(value: Value) -> str:
    """The path of the file; "" after an error."""
    fields = Fields({}) if value.is_empty() else value.fields(keys.FILE_OBJECT)
    if "file" in fields:
        return fields["file"].filled_text()
    names_another_kind = value.is_mapping() and any(key in keys.FILE_OBJECT.later for key in value.entries())
    if value.is_empty() or (value.is_mapping() and not names_another_kind):
        value.key_error("spec.file.unnamed", f"{value.path} names no file", "write file: and the path of its content")
    return ""


def _check_networks(value: Value) -> None:
    for name, network in value.entries().items():
        if name != _DEFAULT_NETWORK:
            hint = "remove it: all services of a stack reach each other in the default network"
            network.key_error("spec.network.unsupported", f'{network.path}: the network "{name}" is not supported yet', hint)
        elif not network.is_empty():
            network.fields(keys.NETWORK)
