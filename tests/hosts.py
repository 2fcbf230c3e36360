"""Network namespaces as hosts: a switch and some hosts on it, each with an interface and an address of its own.

Programs run in a host with `enter` (a prefix of the command line; `nsenter` and not `ip netns exec`, which hides the
control groups). Cables can be pulled: for a whole host, or between two of them, in one direction or in both. Everything is
in namespaces of its own, so nothing of the machine is touched, and all of it is gone at the end. The programs that were
started in a host have to be ended by whoever started them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
NET = "10.213.0"
INTERFACE = "eth0"


@dataclass(frozen=True)
class Host:
    """One host; `number` counts from 0."""

    number: int
    namespace: str

    @property
    def address(self) -> str:
        return f"{NET}.{self.number + 1}"

    @property
    def enter(self) -> tuple[str, ...]:
        """What comes before a command to run it in this host."""
        return ("nsenter", f"--net=/run/netns/{self.namespace}")

    def run(self, *command: str) -> str:
        """Run a command in this host; its output."""
        return _run(*self.enter, *command)


class Network:
    """The switch with its hosts."""

    def __init__(self, number: int) -> None:
        self._name = f"sdh{secrets.token_hex(3)}"
        self._namespaces: list[str] = []
        self.hosts: list[Host] = []
        try:
            self._add(self._switch)
            _ip(self._switch, "link", "add", "switch", "type", "bridge")
            _ip(self._switch, "link", "set", "switch", "up")
            for host in range(number):
                self.add_host(host)
        except BaseException:
            self.close()
            raise

    @property
    def _switch(self) -> str:
        return f"{self._name}-sw"

    def add_host(self, number: int) -> Host:
        host = Host(number, f"{self._name}-{number}")
        self._add(host.namespace)
        port = self._port(host)
        _ip(self._switch, "link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", host.namespace)
        _ip(self._switch, "link", "set", port, "master", "switch", "up")
        _ip(host.namespace, "address", "add", f"{host.address}/24", "dev", INTERFACE)
        _ip(host.namespace, "link", "set", INTERFACE, "up")
        host.run("nft", "add table inet cut; add chain inet cut input { type filter hook input priority 0; }")
        self.hosts.append(host)
        return host

    def pull(self, host: Host) -> None:
        """Pull the host's cable."""
        _ip(self._switch, "link", "set", self._port(host), "down")

    def plug(self, host: Host) -> None:
        _ip(self._switch, "link", "set", self._port(host), "up")

    def block(self, source: Host, target: Host) -> None:
        """Nothing from `source` arrives at `target` any more; the other direction goes on."""
        target.run("nft", "add", "rule", "inet", "cut", "input", "ip", "saddr", source.address, "drop")

    def separate(self, one: Host, other: Host) -> None:
        self.block(one, other)
        self.block(other, one)

    def unblock(self, target: Host) -> None:
        """Everything arrives at `target` again."""
        target.run("nft", "flush", "chain", "inet", "cut", "input")

    def heal(self) -> None:
        """All cables are in, nothing is blocked."""
        for host in self.hosts:
            self.plug(host)
            self.unblock(host)

    def close(self) -> None:
        for namespace in reversed(self._namespaces):
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "delete", namespace)
        self._namespaces.clear()

    def _add(self, namespace: str) -> None:
        _run("ip", "netns", "add", namespace)
        self._namespaces.append(namespace)
        _ip(namespace, "link", "set", "lo", "up")

    def _port(self, host: Host) -> str:
        return f"port{host.number}"


@contextlib.contextmanager
def network_of_hosts(number: int) -> Iterator[Network]:
    """`number` hosts on one switch, for the time of the block."""
    network = Network(number)
    try:
        yield network
    finally:
        network.close()


def _ip(namespace: str, *arguments: str) -> None:
    _run("ip", "-n", namespace, *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, check=True, timeout=30, env={**os.environ, "PATH": PATH})
    return done.stdout.decode()
