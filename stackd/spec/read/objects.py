"""Reads what services refer to: the networks, volumes, configs and secrets of the top level."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from stackd.base.errors import StackdError
from stackd.spec import shorthand
from stackd.spec.document import FileObjectDocument, IpamDocument, NetworkDocument, PoolDocument, VolumeDocument
from stackd.spec.read import keys
from stackd.spec.read.container import address
from stackd.spec.read.extension import check_object_extension
from stackd.spec.read.value import EXTENSION, Fields, Keys, Value

Check = Callable[[str], str]

_UNKNOWN = FileObjectDocument(external=True)


def read_networks(value: Value) -> dict[str, NetworkDocument]:
    return {name: _network(name, item) for name, item in _named(value).items()}


def read_volumes(value: Value) -> dict[str, VolumeDocument]:
    return {name: _volume(name, item) for name, item in _named(value).items()}


def read_configs(value: Value) -> dict[str, FileObjectDocument]:
    return _file_objects(value, keys.CONFIG)


def read_secrets(value: Value) -> dict[str, FileObjectDocument]:
    return _file_objects(value, keys.SECRET)


def _file_objects(section: Value, known: Keys) -> dict[str, FileObjectDocument]:
    """Configs or secrets. One that is no mapping is reported as such; as somebody else's, nothing more is said of it."""
    found = {name: (item, _file_object(name, item, known)) for name, item in _named(section).items()}
    return {name: document if item.is_mapping() else _UNKNOWN for name, (item, document) in found.items()}


def _named(section: Value) -> dict[str, Value]:
    """The entries of a section; an empty section has none."""
    if section.is_empty():
        return {}
    entries = section.entries()
    for name, value in entries.items():
        check_name(value, shorthand.object_name, name)
    return entries


def check_name(value: Value, check: Check, name: str) -> None:
    """Reports a key that can't be a name: of form, if it has characters that no name of the language has."""
    try:
        check(name)
    except StackdError as error:
        report = value.key_meaning_error if shorthand.is_key(name) else value.key_error
        report(error.code, error.message, error.hint)


def _network(key: str, value: Value) -> NetworkDocument:
    if value.is_empty():
        return NetworkDocument()
    fields = value.fields(keys.NETWORK)
    name, external = _identity("network", key, value, fields)
    if external:
        _warn_beside_external(value, fields, ("driver", "driver_opts", "ipam", "internal", "attachable", "labels"))
    _check_extension(fields)
    return NetworkDocument(
        name=name,
        driver=fields.read("driver", Value.text, ""),
        driver_opts=fields.read("driver_opts", Value.options, {}),
        ipam=fields.read("ipam", _ipam, IpamDocument()),
        external=external,
        internal=fields.read("internal", Value.boolean, False),
        attachable=fields.read("attachable", Value.boolean, False),
        enable_ipv6=fields.read("enable_ipv6", Value.boolean, False),
        labels=fields.read("labels", Value.labels, {}),
        extras=fields.extras(),
    )


def _ipam(value: Value) -> IpamDocument:
    fields = value.fields(keys.IPAM)
    return IpamDocument(
        driver=fields.read("driver", Value.text, ""),
        config=fields.read("config", lambda section: tuple(_pool(item) for item in section.items()), ()),
    )


def _pool(value: Value) -> PoolDocument:
    fields = value.fields(keys.POOL)
    return PoolDocument(
        subnet=fields.read("subnet", lambda field: field.sound_text(_subnet), ""),
        gateway=fields.read("gateway", lambda field: field.sound_text(address), ""),
        ip_range=fields.read("ip_range", lambda field: field.sound_text(_subnet), ""),
    )


def _subnet(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise StackdError("spec.address.bad", f'"{text[:60]}" is not a network', hint="write it as 10.1.0.0/16") from exc
    return text


def _volume(key: str, value: Value) -> VolumeDocument:
    if value.is_empty():
        return VolumeDocument()
    fields = value.fields(keys.VOLUME)
    name, external = _identity("volume", key, value, fields)
    _check_extension(fields)
    volume = VolumeDocument(
        name=name,
        driver=fields.read("driver", Value.text, ""),
        driver_opts=fields.read("driver_opts", Value.options, {}),
        external=external,
        labels=fields.read("labels", Value.labels, {}),
        extras=fields.extras(),
    )
    for setting in ("driver", "driver_opts", "labels"):
        if external and getattr(volume, setting):
            message = f"{value.path} is external, so its {setting} can't be given"
            fields[setting].key_error("spec.external.conflict", message, f"remove {setting}, or external")
    return volume


def _file_object(key: str, value: Value, known: Keys) -> FileObjectDocument:
    """A config or secret. Its content is in a file, in the stack file itself, or in a variable; a driver makes its own."""
    kind = "secret" if known is keys.SECRET else "config"
    fields = value.fields(known)
    name, external = _identity(kind, key, value, fields)
    found = FileObjectDocument(
        name=name,
        file=fields.read("file", Value.text, ""),
        content=fields.read("content", Value.text, None),
        environment=fields.read("environment", Value.text, ""),
        external=external,
        labels=fields.read("labels", Value.labels, {}),
        driver=fields.read("driver", Value.text, ""),
        driver_opts=fields.read("driver_opts", Value.options, {}),
        template_driver=fields.read("template_driver", Value.text, ""),
        extras=fields.extras(),
    )
    _check_extension(fields)
    if value.is_mapping():
        _check_content(kind, value, fields, found)
    return found


def _check_content(kind: str, value: Value, fields: Fields, found: FileObjectDocument) -> None:
    """Exactly one of the keys that say what the content is."""
    said = [name for name in ("external", "driver", "file", "content", "environment") if name in fields]
    if "external" in said and not found.external:
        said.remove("external")
    if not said:
        message = f"{value.path} doesn't say what the {kind} holds"
        value.key_meaning_error("spec.file.unnamed", message, "write file: and the path of its content")
    if found.external:
        _warn_beside_external(value, fields, said[1:])
    elif len(said) > 1:
        message = f"{value.path} has {said[0]} and {said[1]}, which say different things"
        fields[said[1]].key_error("spec.file.conflict", message, f"keep one of {', '.join(said)}")


def _identity(kind: str, key: str, value: Value, fields: Fields) -> tuple[str, bool]:
    """The name in the cluster ("" where stack and key make it), and whether the object is somebody else's."""
    external, old_name = _external(fields["external"]) if "external" in fields else (False, "")
    name = fields.read("name", lambda field: field.sound_text(shorthand.object_name), "")
    if old_name and name:
        message = f"{value.path} has name and external.name"
        fields["name"].key_error("spec.external.conflict", message, "remove external.name")
    return name or old_name or (key if external else ""), external


def _external(value: Value) -> tuple[bool, str]:
    """`true`, or the older mapping that holds the name."""
    if not value.is_mapping():
        return value.boolean(), ""
    fields = value.fields(keys.EXTERNAL)
    return True, fields.read("name", lambda field: field.sound_text(shorthand.object_name), "")


def _warn_beside_external(value: Value, fields: Fields, names: Iterable[str]) -> None:
    for name in names:
        if name in fields:
            message = f"{fields[name].path} has no effect: {value.path} is external, so somebody else makes it"
            fields[name].key_warning("spec.key.ignored", message, f"remove {name}, or external")


def _check_extension(fields: Fields) -> None:
    if EXTENSION in fields:
        check_object_extension(fields[EXTENSION])
