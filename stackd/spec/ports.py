"""Published ports in their short form: `80`, `8080:80/tcp`, `127.0.0.1:8080:80`, `9000-9002:80-82`."""

from __future__ import annotations

import ipaddress
import re

from stackd.base.errors import StackdError
from stackd.spec.document import PortDocument
from stackd.spec.nodes import shortened

LARGEST_PORT = 65535
PROTOCOLS = ("tcp", "udp", "sctp")

_SHORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9]*\.[0-9.]*):)?"
    r"(?:(?P<published>[0-9]{1,5}(?:-[0-9]{1,5})?)?:)?"
    r"(?P<target>[0-9]{1,5}(?:-[0-9]{1,5})?)"
    r"(?:/(?P<protocol>[A-Za-z]+))?"
)
_FORM = 'the form is "[ip:][published:]target[/protocol]", such as "8080:80"'


def ports(text: str) -> tuple[PortDocument, ...]:
    """The ports that `text` publishes; a range is one port each. Raises StackdError `spec.port.bad`."""
    found = _SHORT.fullmatch(text)
    if found is None:
        raise _bad(text, "is not a published port", _FORM)
    targets = _range(text, found["target"])
    chosen = found["published"] not in (None, "0")
    published = _range(text, found["published"]) if chosen else [0] * len(targets)
    if len(targets) == 1:
        targets *= len(published)  # several published ports may lead to one target
    if len(targets) != len(published):
        raise _bad(text, f"publishes {len(published)} ports for {len(targets)} targets", "make both ranges equally long")
    protocol = (found["protocol"] or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise _bad(text, f'names no protocol that ports have ("{protocol}")', "it is tcp, udp or sctp")
    host_ip = host_address(found["ip"].strip("[]")) if found["ip"] else ""
    # A range is in the order in which the official client has it: that of the targets as texts.
    pairs = sorted(zip(published, targets, strict=True), key=lambda pair: str(pair[1]))
    return tuple(
        PortDocument(mode="ingress", target=target, published=outside, protocol=protocol, host_ip=host_ip)
        for outside, target in pairs
    )


def host_address(text: str) -> str:
    """An address of the host that a port is bound to; "" where it is all of them."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as exc:
        raise _bad(text, "is not an address of a host", "write it as 127.0.0.1 or [::1]") from exc
    return "" if address.is_unspecified and address.version == 4 else str(address)


def _range(text: str, part: str) -> list[int]:
    first, _, last = part.partition("-")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= LARGEST_PORT:
        raise _bad(text, f"has a port outside of 1 to {LARGEST_PORT}, or a range that runs backwards", _FORM)
    return list(range(low, high + 1))


def _bad(text: str, reason: str, hint: str) -> StackdError:
    return StackdError("spec.port.bad", f'"{shortened(text)}" {reason}', hint=hint)
