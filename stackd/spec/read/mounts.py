"""Reads what a service has of files beside its image: volumes, configs and secrets, each in a short and a long form."""

from __future__ import annotations

import re

from stackd.spec import mounts, shorthand
from stackd.spec.document import (
    BindDocument,
    MountDocument,
    ReferenceDocument,
    Said,
    TmpfsDocument,
    VolumeOptionsDocument,
)
from stackd.spec.nodes import Scalar, shortened
from stackd.spec.read import keys
from stackd.spec.read.amounts import number_or_text
from stackd.spec.read.value import Fields, Value
from stackd.spec.scalars import resolve
from stackd.spec.stack import MountType

_LARGEST_MODE = 0o7777
_LOOKS_OCTAL = re.compile(r"[1-7][0-7]{2}")


def read_mounts(value: Value) -> tuple[Said[MountDocument], ...]:
    found = [(item, _long_mount(item) if item.is_mapping() else _short_mount(item)) for item in value.items()]
    return tuple(Said(item.path, mount, item.node) for item, mount in found if mount is not None)


def _short_mount(value: Value) -> MountDocument | None:
    short = value.parsed(mounts.short_mount, None)
    if short is None:
        return None
    for option in short.without_effect:
        value.warning("spec.value.ignored", f'{value.path}: the volume option "{option}" has no effect', "remove it")
    for option in short.unknown:
        hint = "the options are ro, rw and nocopy"
        value.meaning_error("spec.mount.bad", f'{value.path} has an unknown option "{shortened(option)}"', hint)
    _check_options(value, short.mount)
    value.check_meaning(mounts.mount_target, short.mount.target)
    return short.mount


def _long_mount(value: Value) -> MountDocument | None:
    """The mount; None where it has no type, without which it can't be told what it is."""
    fields = value.fields(keys.MOUNT)
    if "type" not in fields:
        value.error("spec.mount.bad", f"{value.path} has no type", "a long volume has type, source and target")
        return None
    kind = fields["type"].choice(MountType)
    if not kind and fields["type"].is_text():
        value.meaning_error("spec.mount.bad", f"the type of {value.path} is empty", "a long volume has type, source and target")
    mount = MountDocument(
        type=kind,
        source=fields.read("source", Value.text, ""),
        target=fields.read("target", lambda field: field.sound_text(mounts.mount_target), ""),
        read_only=fields.read("read_only", Value.boolean, False),
        consistency=fields.read("consistency", Value.text, ""),
        bind=fields.read("bind", _bind, None),
        volume=fields.read("volume", _volume, None),
        tmpfs=fields.read("tmpfs", _tmpfs, None),
    )
    if mount.consistency:
        fields["consistency"].warning("spec.value.ignored", f"{value.path}: consistency has no effect", "remove it")
    _check_long(value, fields, mount)
    return mount


def _bind(value: Value) -> BindDocument:
    fields = value.fields(keys.MOUNT_BIND)
    return BindDocument(
        propagation=fields.read("propagation", lambda field: field.choice(mounts.PROPAGATION), ""),
        create_host_path=fields.read("create_host_path", Value.boolean, False),
    )


def _volume(value: Value) -> VolumeOptionsDocument:
    fields = value.fields(keys.MOUNT_VOLUME)
    return VolumeOptionsDocument(
        nocopy=fields.read("nocopy", Value.boolean, False),
        subpath=fields.read("subpath", lambda field: field.sound_text(shorthand.inner_path), ""),
    )


def _tmpfs(value: Value) -> TmpfsDocument:
    fields = value.fields(keys.MOUNT_TMPFS)
    return TmpfsDocument(
        size=fields.read("size", lambda field: number_or_text(field, shorthand.byte_size, 0), 0),
        mode=fields.read("mode", permissions, 0),
    )


def _check_long(value: Value, fields: Fields, mount: MountDocument) -> None:
    if not mount.target:
        value.meaning_error("spec.mount.bad", f"{value.path} has no target", "a long volume has type, source and target")
    if mount.type == MountType.BIND and not mount.source:
        value.error("spec.mount.bad", f"{value.path}: a bind mount needs a source", "source is a path on the host")
    if mount.type == MountType.TMPFS and mount.source:
        value.meaning_error("spec.mount.options", f"{value.path}: a tmpfs has no source", "remove source")
    if mount.type in (MountType.CLUSTER, MountType.IMAGE, MountType.NPIPE) and not mount.source:
        value.meaning_error("spec.mount.bad", f"{value.path}: a mount of type {mount.type} needs a source", None)
    _check_options(value, mount)


def _check_options(value: Value, mount: MountDocument) -> None:
    """Options belong to one type of mount; a pipe of Windows takes those of a bind mount."""
    if mount.type == MountType.BIND and mounts.is_windows_path(mount.source):
        hint = "tasks run on Linux; write the path as it is there"
        value.meaning_error("spec.mount.bad", f'{value.path}: "{shortened(mount.source)}" is a path of Windows', hint)
    own = MountType.BIND if mount.type == MountType.NPIPE else mount.type
    for section in (MountType.BIND, MountType.VOLUME, MountType.TMPFS):
        if getattr(mount, section) is not None and section != own and mount.type:
            message = f"{value.path}: {section} options are incompatible with type {mount.type}"
            value.meaning_error("spec.mount.options", message, "remove them, or change the type")


def read_references(value: Value) -> tuple[Said[ReferenceDocument], ...]:
    """Uses of configs or secrets."""
    return tuple(Said(item.path, _reference(item), item.node) for item in value.items())


def _reference(value: Value) -> ReferenceDocument:
    """A use; its source is "" where an error was reported."""
    if not value.is_mapping():
        return ReferenceDocument(source=value.filled_text())
    fields = value.fields(keys.FILE_REFERENCE)
    if "source" not in fields:
        value.meaning_error("spec.reference.bad", f"{value.path} has no source", "source is the name at the top level")
    return ReferenceDocument(
        source=fields.read("source", Value.filled_text, ""),
        target=fields.read("target", Value.text, ""),
        uid=fields.read("uid", _owner, ""),
        gid=fields.read("gid", _owner, ""),
        mode=fields.read("mode", permissions, None),
    )


def _owner(value: Value) -> str:
    text = value.text()
    if text and not (text.isascii() and text.isdecimal() and len(text) <= 10):
        value.meaning_error("spec.value.form", f'{value.path} must be the number of a user or group; it is "{text}"')
    return text


def permissions(value: Value) -> int:
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
        message = f"{value.path}: {node.written} is a decimal number, and means 0{mode:o}"
        value.warning("spec.mode.decimal", message, f"did you mean 0{node.written}?")
    return mode
