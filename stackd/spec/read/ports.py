"""Reads the ports that a service publishes, in their short and long forms."""

from __future__ import annotations

from stackd.spec import ports as short_ports
from stackd.spec.document import PortDocument, Said
from stackd.spec.read import keys
from stackd.spec.read.value import Value
from stackd.spec.stack import PublishMode

MAX_PORTS = 20_000
"""Ports of one stack, ranges counted in full: a few characters can name 65,535 of them."""


def read_ports(value: Value) -> tuple[Said[PortDocument], ...]:
    found: list[Said[PortDocument]] = []
    for item in value.distinct_items():
        if len(found) > MAX_PORTS:
            break  # more than a stack may have; the reader of the stack counts and says so
        ports = (_long_port(item),) if item.is_mapping() else _short_port(item)
        found.extend(Said(item.path, port, item.node) for port in ports)
    return tuple(found)


def _short_port(value: Value) -> tuple[PortDocument, ...]:
    text = value.scalar_text()
    if text is None:
        value.expected("a port, such as 8080:80")
        return ()
    return value.checked(short_ports.ports, text, ())


def _long_port(value: Value) -> PortDocument:
    fields = value.fields(keys.PORT)
    if "target" not in fields:
        value.meaning_error("spec.port.bad", f"{value.path} has no target", "target is the port inside of the task")
    return PortDocument(
        mode=fields.read("mode", lambda field: field.choice(PublishMode), ""),
        target=fields.read("target", lambda field: field.integer(1, short_ports.LARGEST_PORT), 0),
        published=fields.read("published", lambda field: field.integer(0, short_ports.LARGEST_PORT), 0),
        protocol=fields.read("protocol", lambda field: field.choice(short_ports.PROTOCOLS), ""),
        host_ip=fields.read("host_ip", lambda field: field.parsed(short_ports.host_address, ""), ""),
    )
