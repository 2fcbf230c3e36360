"""Reads how a task's processes are run and kept apart: capabilities, limits, devices, name servers, logging."""

from __future__ import annotations

import ipaddress

from stackd.base.errors import StackdError
from stackd.spec import shorthand
from stackd.spec.document import (
    CredentialDocument,
    HealthcheckDocument,
    LoggingDocument,
    UlimitDocument,
)
from stackd.spec.read import keys
from stackd.spec.read.amounts import duration
from stackd.spec.read.value import Value

_TEST_FORMS = ("CMD", "CMD-SHELL", "NONE")
_LARGEST_LIMIT = 2**63 - 1


def read_healthcheck(value: Value) -> HealthcheckDocument:
    fields = value.fields(keys.HEALTHCHECK)
    return HealthcheckDocument(
        test=fields.read("test", _test, ()),
        timeout=fields.read("timeout", duration, None),
        interval=fields.read("interval", duration, None),
        retries=fields.read("retries", Value.integer, None),
        start_period=fields.read("start_period", duration, None),
        start_interval=fields.read("start_interval", duration, None),
        disable=fields.read("disable", Value.boolean, None),
    )


def _test(value: Value) -> tuple[str, ...]:
    """Docker's form: a text is a line for the shell, a list says in its first word what the others are."""
    if not value.is_list():
        text = value.text()
        if value.is_text() and not text:
            value.meaning_error("spec.value.form", f"{value.path} must not be empty")
        return ("CMD-SHELL", text)
    words = value.texts()
    if words and words[0] not in _TEST_FORMS:
        hint = f'put "CMD" before the words, or write one text for the shell: the first word is one of {", ".join(_TEST_FORMS)}'
        value.meaning_error("spec.healthcheck.bad", f'{value.path} begins with "{words[0]}"', hint)
    if words and words[0] != "NONE" and len(words) == 1:
        value.meaning_error("spec.healthcheck.bad", f"{value.path} names no command after {words[0]}")
    return words


def read_logging(value: Value) -> LoggingDocument:
    fields = value.fields(keys.LOGGING)
    return LoggingDocument(
        driver=fields.read("driver", Value.text, ""),
        options=fields.read("options", Value.options, {}),
    )


def read_credentials(value: Value) -> CredentialDocument:
    fields = value.fields(keys.CREDENTIALS)
    return CredentialDocument(
        config=fields.read("config", Value.text, ""),
        file=fields.read("file", Value.text, ""),
        registry=fields.read("registry", Value.text, ""),
    )


def read_ulimits(value: Value) -> dict[str, UlimitDocument]:
    limits = value.entries()
    for name, limit in limits.items():
        if name not in shorthand.ULIMITS:
            hint = f"the limits are {', '.join(sorted(shorthand.ULIMITS))}"
            message = f'{limit.path}: there is no limit "{name[:40]}"'
            limit.key_meaning_error("spec.ulimit.bad", message, hint)
    return {name: _ulimit(limit) for name, limit in limits.items()}


def _ulimit(value: Value) -> UlimitDocument:
    if not value.is_mapping():
        return UlimitDocument(single=value.integer(-1, _LARGEST_LIMIT))
    fields = value.fields(keys.ULIMIT)
    for name in ("soft", "hard"):
        if name not in fields:
            value.error("spec.ulimit.bad", f"{value.path} has no {name}", "write both, or one number for both")
    return UlimitDocument(
        soft=fields.read("soft", lambda field: field.integer(-1, _LARGEST_LIMIT), 0),
        hard=fields.read("hard", lambda field: field.integer(-1, _LARGEST_LIMIT), 0),
    )


def read_hosts(value: Value) -> tuple[str, ...]:
    """Further hosts as "NAME:ADDRESS". A mapping has no order and is sorted, a list keeps its own."""
    if value.is_mapping():
        hosts = value.entries().items()
        return tuple(sorted(f"{name}:{address.scalar_text()}" for name, address in hosts if not address.is_empty()))
    return tuple(host for item in value.distinct_items() if (host := _host(item)))


def _host(value: Value) -> str:
    """`NAME:ADDRESS` or `NAME=ADDRESS`; an address of IPv6 may stand in brackets. "" is what is no host."""
    text = value.text()
    equals = text.partition("=")
    name, separator, address = equals if equals[1] else text.partition(":")
    if text and (not separator or not name or not address):
        value.meaning_error("spec.host.bad", f'{value.path}: "{text[:80]}" is not a host', "write NAME:ADDRESS")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return f"{name}:{address}" if separator else ""


def address(text: str) -> str:
    """`text` if it is an address; raises StackdError `spec.address.bad`."""
    try:
        ipaddress.ip_address(text)
    except ValueError as exc:
        raise StackdError("spec.address.bad", f'"{text[:60]}" is not an address', hint="write it as 10.0.0.53") from exc
    return text


def read_name_servers(value: Value) -> tuple[str, ...]:
    servers = value.text_or_texts()
    for item in value.items() if value.is_list() else (value,):
        item.sound_text(address)
    return servers


def read_shm_size(value: Value) -> str:
    """The size as it is written, as the official client shows it."""
    text = value.scalar_text() or ""
    if text:
        value.check_meaning(shorthand.byte_size, text)
    return text


def read_devices(value: Value) -> tuple[str, ...]:
    """Devices in their short form `SOURCE[:TARGET[:rwm]]`; the long form of Compose is written so."""
    return tuple(
        _long_device(item) if item.is_mapping() else item.sound_text(shorthand.device) for item in value.distinct_items()
    )


def _long_device(value: Value) -> str:
    fields = value.fields(keys.DEVICE)
    if "source" not in fields:
        value.error("spec.device.bad", f"{value.path} has no source", "source is the device of the node")
    source = fields.read("source", Value.text, "")
    target = fields.read("target", Value.text, "") or source
    text = ":".join((source, target, fields.read("permissions", Value.text, "") or "rwm"))
    if source:
        value.check_meaning(shorthand.device, text)
    return text
