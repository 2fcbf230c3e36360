"""The few rtnetlink messages that endpoints need, written out: a request costs about a millisecond and no memory.

One `Netlink` is a socket in one network namespace, the caller's or (`Netlink.inside`) another one, and stays there
whatever thread uses it. Not a general library: what isn't needed isn't here. Errors are OSError with the kernel's errno.
Formats: rtnetlink(7), linux/if_link.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import TracebackType

_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _NEWROUTE, _GETROUTE = 20, 24, 26
_REQUEST, _ACK, _DUMP, _CREATE_NEW = 0x1, 0x5, 0x301, 0x605
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 1, 3, 10, 18, 20, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 4, 0, 1
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_CLONE_NEWNET = 0x40000000
_RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Link:
    """An interface; `master` is the index of the bridge it belongs to, 0 for none."""

    index: int
    name: str
    master: int = 0
    alias: str = ""


class Netlink:
    """A routing socket. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    @classmethod
    def inside(cls, namespace: str) -> Netlink:
        """A socket in the network namespace that the file `namespace` stands for. A thread of its own goes there and ends."""
        made: list[Netlink] = []
        failed: list[OSError] = []

        def enter() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            try:
                descriptor = os.open(namespace, os.O_RDONLY)
                try:
                    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace)
                    made.append(cls())
                finally:
                    os.close(descriptor)
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=enter, name="netns")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def links(self) -> list[Link]:
        """Every interface of the namespace."""
        found = []
        for body in self._dump(_GETLINK, _link_header()):
            attributes = dict(_attributes(body[16:]))
            found.append(
                Link(
                    index=struct.unpack_from("=i", body, 4)[0],
                    name=_text(attributes.get(_IFLA_IFNAME, b"")),
                    master=struct.unpack("=I", attributes[_IFLA_MASTER])[0] if _IFLA_MASTER in attributes else 0,
                    alias=_text(attributes.get(_IFLA_IFALIAS, b"")),
                )
            )
        return found

    def routes(self) -> list[IPv4Network]:
        """The destinations of all IPv4 routes but the default one."""
        found = []
        for body in self._dump(_GETROUTE, struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
            destination = dict(_attributes(body[12:])).get(_RTA_DST)
            if destination:
                found.append(IPv4Network((destination, body[1])))
        return found

    def add_bridge(self, name: str, hardware_address: bytes) -> int:
        """Make a bridge with a fixed hardware address (a derived one would change with its members); its index."""
        info = _attribute(_INFO_KIND, b"bridge\0")
        body = _link_header() + _name(name) + _attribute(_IFLA_ADDRESS, hardware_address) + _attribute(_IFLA_LINKINFO, info)
        self._request(_message(_NEWLINK, _CREATE_NEW, body))
        return self.index(name)

    def add_veth(self, name: str, bridge: int, peer: str, namespace: int, hardware_address: bytes) -> None:
        """Make a pair: `name` here, up, in the bridge; `peer` in the namespace of the open file `namespace`, still down."""
        other = (
            _link_header()
            + _name(peer)
            + _attribute(_IFLA_ADDRESS, hardware_address)
            + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
        )
        info = _attribute(_INFO_KIND, b"veth\0") + _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_PEER, other))
        body = (
            _link_header(flags=_IFF_UP)
            + _name(name)
            + _attribute(_IFLA_MASTER, struct.pack("=I", bridge))
            + _attribute(_IFLA_LINKINFO, info)
        )
        self._request(_message(_NEWLINK, _CREATE_NEW, body))

    def set_alias(self, index: int, alias: str) -> None:
        self._request(_message(_NEWLINK, _ACK, _link_header(index) + _attribute(_IFLA_IFALIAS, alias.encode())))

    def set_up(self, index: int) -> None:
        self._request(_message(_NEWLINK, _ACK, _link_header(index, flags=_IFF_UP)))

    def add_address(self, index: int, interface: IPv4Interface) -> None:
        header = struct.pack("=BBBBi", socket.AF_INET, interface.network.prefixlen, 0, 0, index)
        packed = interface.ip.packed
        attributes = _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        self._request(_message(_NEWADDR, _CREATE_NEW, header + attributes))

    def add_default_route(self, index: int, gateway: IPv4Address) -> None:
        kind = (_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST)
        header = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, *kind, 0)
        route = _attribute(_RTA_GATEWAY, gateway.packed) + _attribute(_RTA_OIF, struct.pack("=i", index))
        self._request(_message(_NEWROUTE, _CREATE_NEW, header + route))

    def delete(self, name: str) -> bool:
        """Delete an interface (and the other end of a pair); False if there is none of that name."""
        try:
            self._request(_message(_DELLINK, _ACK, _link_header() + _name(name)))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def index(self, name: str) -> int:
        """The index of an interface of this namespace; OSError if there is none of that name."""
        body = next(self._replies(_message(_GETLINK, _REQUEST, _link_header() + _name(name))))
        return int(struct.unpack_from("=i", body, 4)[0])

    def _request(self, message: bytes) -> None:
        for _ in self._replies(message):
            pass

    def _dump(self, kind: int, header: bytes) -> Iterator[bytes]:
        return self._replies(_message(kind, _DUMP, header))

    def _replies(self, message: bytes) -> Iterator[bytes]:
        """Send one request and yield the bodies of its answers up to the acknowledgement or the end of the dump."""
        self._socket.send(message)
        acknowledged = bool(struct.unpack_from("=H", message, 6)[0] & 0x304)
        while True:
            data = self._socket.recv(_RECEIVE_BYTES)
            at = 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                body = data[at + 16 : at + length]
                at += (length + 3) & ~3
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield body
            if not acknowledged:
                return


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _link_header(index: int = 0, *, flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _name(name: str) -> bytes:
    return _attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind & _TYPE_MASK, data[at + 4 : at + length]
        at += max(4, (length + 3) & ~3)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
