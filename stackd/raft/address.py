"""Network addresses of members: listening on one, and finding out what a name stands for without waiting for it."""

from __future__ import annotations

import ipaddress
import socket
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stackd.base.errors import StackdError

_BACKLOG = 64
_RESOLVING_THREADS = 4
"""Names looked up at once: a name server that doesn't answer for one holds up a quarter of the others."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect to."""

    family: int
    host: str
    port: int

    def begin_to_connect(self) -> socket.socket:
        """A socket on its way there, that doesn't block. Raises OSError."""
        raw = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            raw.setblocking(False)
            raw.connect((self.host, self.port))
        except BlockingIOError:
            pass  # as it should be: the selector tells when it is done
        except BaseException:
            raw.close()
            raise
        return raw


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any free one. Raises StackdError("raft.address.unusable")."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        why = f"can't listen on {host}:{port}: {exc.strerror}"
        raise StackdError("raft.address.unusable", why, hint="choose a free address of this host") from exc
    return listener


def literal(address: str) -> Address | None:
    """The address that "10.0.0.1:4242" or "[fd00::1]:4242" says; None if there is a name in place of the number.
    Raises ValueError if it has no port."""
    host, port = _split(address)
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return Address(socket.AF_INET if version == 4 else socket.AF_INET6, host, port)


class Resolver:
    """Looks names up in threads of its own. `on_done` is called in one of them when there is something to `take`."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._threads = ThreadPoolExecutor(_RESOLVING_THREADS, "raft-resolve")
        self._under_way: set[str] = set()
        self._done: deque[tuple[str, list[Address]]] = deque()

    def begin(self, address: str) -> None:
        """Look up the name in "host:port", unless that is being done already."""
        if address not in self._under_way:
            self._under_way.add(address)
            self._threads.submit(self._look_up, address)

    def take(self) -> dict[str, list[Address]]:
        """What has been looked up since the last call; a name that isn't known has no addresses."""
        found = {}
        while self._done:
            address, addresses = self._done.popleft()
            self._under_way.discard(address)
            found[address] = addresses
        return found

    def close(self) -> None:
        """A look-up that hangs is left behind: nobody waits for it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, address: str) -> None:
        host, port = _split(address)
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [Address(int(family), str(place[0]), port) for family, _, _, _, place in infos]
        except (OSError, UnicodeError):
            found = []
        self._done.append((address, found))
        self._on_done()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
