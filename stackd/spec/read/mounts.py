"""Reads what a service has beside its program: ports, volumes, configs and secrets, each in a short and a long form."""

from __future__ import annotations

import posixpath
import re

from stackd.spec import mounts, shorthand
from stackd.spec import ports as short_ports
from stackd.spec.document import Said
from stackd.spec.nodes import Scalar, shortened
from stackd.spec.read import keys
from stackd.spec.read.deploy import read_number_or_text
from stackd.spec.read.value import Fields, Value
from stackd.spec.scalars import resolve
from stackd.spec.stack import FileRef, Mount, MountType, Port, PublishMode

MAX_PORTS = 20_000
"""Ports of one stack, ranges counted in full: a few characters can name 65,535 of them."""

_SECRETS_FOLDER = "/run/secrets"
_LARGEST_MODE = 0o7777
_LOOKS_OCTAL = re.compile(r"[1-7][0-7]{2}")

_MOUNT_TYPES = (MountType.VOLUME, MountType.BIND, MountType.TMPFS)
_LATER_MOUNT_TYPES = {"cluster": "", "image": "", "npipe": "it exists on Windows only"}


def read_ports(value: Value) -> tuple[Said[Port], ...]:
    found: list[Said[Port]] = []
    for item in value.items():
        if len(found) > MAX_PORTS:
            break  # more than a stack may have; the reader of the stack counts and says so
        if item.is_mapping():
            found.append(Said(item.path, _long_port(item)))
        else:
            found.extend(Said(item.path, port) for port in _short_port(item))
    return tuple(found)


def _short_port(value: Value) -> tuple[Port, ...]:
    text = value.scalar_text()
    if text is None:
        value.expected("a port, such as 8080:80")
        return ()
    return value.checked(short_ports.ports, text, ())


def _long_port(value: Value) -> Port:
    fields = value.fields(keys.PORT)
    if "target" not in fields:
        value.error("spec.port.bad", f"{value.path} has no target", "target is the port inside of the task")
    return Port(
        target=fields.read("target", lambda field: field.integer(1, short_ports.LARGEST_PORT), 0),
        published=fields.read("published", lambda field: field.integer(0, short_ports.LARGEST_PORT), 0),
        protocol=fields.read("protocol", lambda field: field.choice(short_ports.PROTOCOLS), "tcp"),
        mode=fields.read("mode", lambda field: field.choice(PublishMode), PublishMode.INGRESS),
        host_ip=fields.read("host_ip", lambda field: field.parsed(short_ports.host_address, ""), ""),
    )


def read_mounts(value: Value) -> tuple[Said[Mount], ...]:
    found = [(item.path, _long_mount(item) if item.is_mapping() else _short_mount(item)) for item in value.items()]
    return tuple(Said(path, mount) for path, mount in found if mount is not None)


def _short_mount(value: Value) -> Mount | None:
    short = value.parsed(mounts.short_mount, None)
    if short is None:
        return None
    for option in short.without_effect:
        value.warning("spec.value.ignored", f'{value.path}: the volume option "{option}" has no effect', "remove it")
    if short.mount.no_copy and short.mount.type is MountType.BIND:
        value.error("spec.mount.options", f"{value.path}: nocopy is for named volumes, and this is a bind mount", "remove it")
    return short.mount


def _long_mount(value: Value) -> Mount | None:
    """The mount; None where it has no target, so that no later check trips over it."""
    fields = value.fields(keys.MOUNT)
    kind = fields.read("type", lambda field: field.choice(_MOUNT_TYPES, _LATER_MOUNT_TYPES), MountType.VOLUME)
    source = fields.read("source", Value.text, "")
    target = fields.read("target", lambda field: field.parsed(mounts.mount_target, ""), "")
    if "target" not in fields or "type" not in fields:
        lacking = "type" if "type" not in fields else "target"
        value.error("spec.mount.bad", f"{value.path} has no {lacking}", "a long volume has type, source and target")
    if "consistency" in fields:
        fields["consistency"].text()
        fields["consistency"].warning("spec.value.ignored", f"{value.path}: consistency has no effect", "remove it")
    _check_source(value, kind, source)
    _check_option_sections(fields, kind)
    mount = Mount(
        type=kind,
        source=source,
        target=target,
        read_only=fields.read("read_only", Value.boolean, False),
        no_copy=fields.read("volume", _no_copy, False),
        size_bytes=fields.read("tmpfs", _tmpfs_size, 0),
    )
    fields.read("bind", lambda section: section.fields(keys.MOUNT_BIND), None)
    return mount if target else None


def _check_source(value: Value, kind: MountType, source: str) -> None:
    if kind is MountType.BIND and not source:
        value.error("spec.mount.bad", f"{value.path}: a bind mount needs a source", "source is a path on the host")
    if kind is MountType.TMPFS and source:
        value.error("spec.mount.options", f"{value.path}: a tmpfs has no source", "remove source")
    if kind is MountType.VOLUME and source:
        value.checked(shorthand.object_name, source, "")


def _check_option_sections(fields: Fields, kind: MountType) -> None:
    for section in _MOUNT_TYPES:
        if section in fields and section is not kind:
            message = f"{fields[section].path}: {section} options are incompatible with type {kind}"
            fields[section].key_error("spec.mount.options", message, "remove them, or change the type")


def _no_copy(value: Value) -> bool:
    return value.fields(keys.MOUNT_VOLUME).read("nocopy", Value.boolean, False)


def _tmpfs_size(value: Value) -> int:
    fields = value.fields(keys.MOUNT_TMPFS)
    return fields.read("size", lambda field: read_number_or_text(field, shorthand.byte_size, 0), 0)


def read_config_references(value: Value) -> tuple[Said[FileRef], ...]:
    return _references(value, "/")


def read_secret_references(value: Value) -> tuple[Said[FileRef], ...]:
    return _references(value, _SECRETS_FOLDER)


def _references(value: Value, folder: str) -> tuple[Said[FileRef], ...]:
    return tuple(Said(item.path, _reference(item, folder)) for item in value.items())


def _reference(value: Value, folder: str) -> FileRef:
    """A reference; its source is "" where an error was reported. A relative target starts from `folder`."""
    if not value.is_mapping():
        name = value.filled_text()
        return FileRef(source=name, target=posixpath.join(folder, name))
    fields = value.fields(keys.FILE_REFERENCE)
    if "source" not in fields:
        value.error("spec.reference.bad", f"{value.path} has no source", "source is the name at the top level")
    source = fields.read("source", Value.filled_text, "")
    target = posixpath.join(folder, fields.read("target", Value.text, "") or source)
    return FileRef(
        source=source,
        target=value.checked(mounts.mount_target, target, "") if source else "",
        uid=fields.read("uid", _owner, "0"),
        gid=fields.read("gid", _owner, "0"),
        mode=fields.read("mode", _mode, 0o444),
    )


def _owner(value: Value) -> str:
    text = value.text()
    if text and not (text.isascii() and text.isdecimal() and len(text) <= 10):
        value.error("spec.value.form", f'{value.path} must be the number of a user or group; it is "{text}"')
    return text or "0"


def _mode(value: Value) -> int:
    """File permissions. Text such as "0440" is read as YAML reads the number, so that quotes don't change the meaning."""
    node = value.node
    if isinstance(node, Scalar) and isinstance(node.value, str):
        number = resolve(node.value)
        if isinstance(number, int) and 0 <= number <= _LARGEST_MODE:
            return int(number)
        value.error("spec.value.form", f'{value.path} must be permissions such as 0440; it is "{shortened(node.value)}"')
        return 0
    mode = value.integer(0, _LARGEST_MODE)
    if isinstance(node, Scalar) and _LOOKS_OCTAL.fullmatch(node.written):
        message = f"{value.path}: {node.written} is a decimal number, and means {mode:#o}"
        value.warning("spec.mode.decimal", message, f"did you mean 0{node.written}?")
    return mode
