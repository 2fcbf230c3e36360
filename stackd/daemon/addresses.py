"""Where a node listens while it is a manager, and how others reach it: as asked for, or found out by a look at the host."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from stackd.api.addresses import DEFAULT_PORT, ManagerAddress
from stackd.base.errors import Refused

EVERYWHERE = "0.0.0.0"
"""Managers serve other hosts; who gets in is decided by certificates."""
_FAR_AWAY = ("192.0.2.1", 9)
"""An address that stands for the rest of the world (RFC 5737): nothing is sent there, the route to it says who we are."""
_SIOCGIFADDR = 0x8915


@dataclass(frozen=True, slots=True)
class Addresses:
    """`listen` is an address of this host, or that for all of them; `advertise` is what others can reach."""

    listen: ManagerAddress
    advertise: ManagerAddress


def chosen(listen: str, advertise: str, seen_as: str = "") -> Addresses:
    """What was asked for (HOST[:PORT], "" for the default), completed. `seen_as` is the address at which another manager sees
    this host. Raises StackdError("api.address.bad") or Refused("daemon.advertise.unclear")."""
    here = ManagerAddress.parse(listen) if listen else ManagerAddress(EVERYWHERE, DEFAULT_PORT)
    if not advertise:
        host = seen_as or (_own_address() if _is_any(here.host) else here.host)
        return Addresses(here, ManagerAddress(host, here.port))
    there = ManagerAddress.parse(advertise, here.port)
    if _is_any(there.host):
        raise Refused("daemon.advertise.unclear", f"{there.host} is no address that others can reach", hint=_HINT)
    return Addresses(here, there)


def changed(former: Addresses, listen: str, advertise: str) -> Addresses:
    """`former` with what is given anew (HOST[:PORT], "" for what it was). Who listened at the advertised address alone does so
    at the new one. Raises as `chosen`."""
    if not listen and not advertise:
        return former
    if not advertise:
        port = ManagerAddress.parse(listen).port
        return chosen(listen, str(ManagerAddress(former.advertise.host, port)))
    if not listen and former.listen.host == former.advertise.host:
        return chosen(str(ManagerAddress(ManagerAddress.parse(advertise).host, former.listen.port)), advertise)
    return chosen(listen or str(former.listen), advertise)


def is_here(host: str) -> bool:
    """Whether this host has that address; also if it can't be told, for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return True
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


_HINT = "say which one: --advertise-addr ADDRESS"


def _own_address() -> str:
    """The address with which this host reaches others: that of the default route, else the only one there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect(_FAR_AWAY)
            return str(probe.getsockname()[0])
        found = sorted(set(_addresses(probe)))
    if len(found) == 1:
        return found[0]
    what = f"this host has {len(found)} addresses" if found else "this host has no address that others can reach"
    raise Refused("daemon.advertise.unclear", what, hint=_HINT)


def _addresses(probe: socket.socket) -> Iterator[str]:
    """The IPv4 address of each interface but the loopback (netdevice(7))."""
    for _, name in socket.if_nameindex():
        request = struct.pack("256s", name.encode()[:15])
        with contextlib.suppress(OSError):  # one that has none
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            address = socket.inet_ntoa(answer[20:24])
            if not ipaddress.ip_address(address).is_loopback:
                yield address


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def check_free(listen: ManagerAddress) -> None:
    """See that a manager could listen there, before anything is done. Raises Refused("api.listen.failed")."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    for port in range(listen.port, listen.port + 3):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((listen.host, port))
                probe.listen(1)
            except OSError as exc:
                why = f"can't listen on {listen.host}:{port}: {exc.strerror}"
                hint = "is another daemon there? --listen-addr chooses another address"
                raise Refused("api.listen.failed", why, hint=hint) from exc
