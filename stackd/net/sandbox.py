"""The node's own network: one bridge per data directory, a pair of interfaces per endpoint, published ports, the way out.

What belongs to us is known by the kernel alone: the bridge carries the data directory as its alias, the pairs are the
bridge's members, the rules are in a table of the bridge's name. So a new daemon finds it all again (`reopen`), sweeps
what nobody holds any more, and the last endpoint to go takes everything with it.

All operations may be repeated, are safe to call from any thread, and take a millisecond or two.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from stackd.base.errors import Retry, TaskFault
from stackd.net import passage, pool, ports
from stackd.net.netlink import Link, Netlink
from stackd.net.nftables import Nft, NftFailed, open_nft
from stackd.net.pool import Endpoint
from stackd.net.ports import PublishedPort

_ALIAS = "stackd "
_ALIAS_BYTES = 240
"""The kernel keeps 255 bytes of an interface's alias."""

_INSIDE = "eth0"


class HostNetwork:
    """Endpoints of one data directory on this host."""

    def __init__(self, owner: Path, pools: Sequence[IPv4Network] = pool.DEFAULT_POOLS) -> None:
        """`owner` is the data directory. Raises TaskFault without nftables."""
        nft = open_nft()
        if nft is None:
            raise TaskFault("net.nftables.missing", "neither libnftables nor the nft command is installed")
        self._nft = nft
        self._alias = (_ALIAS + str(owner.resolve()))[-_ALIAS_BYTES:]
        self._pools = pools
        self._lock = threading.Lock()
        self._netlink = Netlink()
        self._bridge: Link | None = None
        self._subnet: IPv4Network | None = None
        self._endpoints: dict[str, Endpoint] = {}
        self._published: dict[str, tuple[PublishedPort, ...]] = {}

    def reopen(self, endpoints: Mapping[str, IPv4Address], published: Mapping[str, tuple[PublishedPort, ...]]) -> None:
        """After a restart: hold exactly `endpoints` and `published` (both by endpoint name), sweep all else that is ours."""
        with self._lock:
            links = self._netlink.links()
            self._bridge = next((link for link in links if link.alias == self._alias), None)
            self._endpoints = {name: Endpoint(name, address) for name, address in endpoints.items()}
            self._published = dict(published)
            if self._bridge is None:
                self._endpoints.clear()  # the bridge is gone, and with it every connection; new tasks make a new one
                self._published.clear()
                return
            for link in links:
                if link.master == self._bridge.index and link.name not in endpoints:
                    self._netlink.delete(link.name)
            if not endpoints:
                self._take_down()
                return
            self._subnet = _subnet_around(next(iter(endpoints.values())), self._pools)
            self._open_passages()

    def allocate(self, name: str) -> Endpoint:
        """An address for a new endpoint; makes the bridge with the first one. Raises TaskFault if there is no address."""
        with self._lock:
            if name in self._endpoints:
                return self._endpoints[name]
            subnet = self._bring_up()
            taken = {endpoint.address for endpoint in self._endpoints.values()}
            endpoint = Endpoint(name, pool.choose_address(subnet, taken))
            self._endpoints[name] = endpoint
            return endpoint

    @property
    def gateway(self) -> IPv4Address:
        """Where endpoints reach the host; known once there is an endpoint."""
        with self._lock:
            assert self._subnet is not None
            return pool.gateway(self._subnet)

    def attach(self, endpoint: Endpoint, namespace: str, *, routed: bool = True) -> None:
        """Give the network namespace (a path such as /proc/PID/ns/net) its interface and address, and, unless it isn't
        `routed` and so reaches other endpoints only, the default route."""
        with self._lock:
            assert self._bridge is not None
            assert self._subnet is not None
            self._netlink.delete(endpoint.name)
            descriptor = os.open(namespace, os.O_RDONLY)
            try:
                mac = pool.hardware_address(endpoint.address)
                self._netlink.add_veth(endpoint.name, self._bridge.index, _INSIDE, descriptor, mac)
            finally:
                os.close(descriptor)
            with Netlink.inside(namespace) as inner:
                inner.set_up(inner.index("lo"))
                index = inner.index(_INSIDE)
                inner.add_address(index, IPv4Interface((endpoint.address, self._subnet.prefixlen)))
                inner.set_up(index)
                if routed:
                    inner.add_default_route(index, pool.gateway(self._subnet))

    def publish(self, name: str, published: tuple[PublishedPort, ...]) -> None:
        """Lead ports of the host to an endpoint. Raises TaskFault if another endpoint of ours has one of them."""
        with self._lock:
            assert self._bridge is not None
            endpoint = self._endpoints[name]
            if not published or self._published.get(name) == published:
                return
            passage.grant(self._nft, self._bridge.name)
            self._published[name] = published
            try:
                self._change(ports.publish(self._bridge.name, str(endpoint.address), published))
            except NftFailed as error:
                del self._published[name]
                raise TaskFault("net.port.publish", f"the ports can't be published: {error.message}") from error

    def withdraw(self, name: str) -> None:
        """Undo `publish`."""
        with self._lock:
            self._withdraw(name)

    def release(self, name: str) -> None:
        """Remove an endpoint with its ports, and everything else with the last one."""
        with self._lock:
            if self._endpoints.pop(name, None) is None:
                return
            self._withdraw(name)
            self._netlink.delete(name)
            if not self._endpoints:
                self._take_down()

    def close(self) -> None:
        """Let go; everything stays as it is in the kernel."""
        self._netlink.close()

    def _withdraw(self, name: str) -> None:
        published = self._published.pop(name, ())
        if published and self._bridge is not None:
            self._change(ports.withdraw(self._bridge.name, published))

    def _change(self, change: str) -> None:
        """Apply a change to our table; if the table isn't what we left (someone flushed the rules), load all of it."""
        try:
            self._nft.run(change)
        except NftFailed:
            self._load_table()

    def _bring_up(self) -> IPv4Network:
        """The bridge with address, forwarding and rules; its subnet. Made anew if someone has deleted it."""
        if self._bridge is not None and self._subnet is not None and self._bridge in self._netlink.links():
            return self._subnet
        self._remove_orphans()
        subnet = pool.choose_subnet(self._netlink.routes(), self._pools)
        self._bridge = self._new_bridge(pool.hardware_address(pool.gateway(subnet)))
        self._subnet = subnet
        self._netlink.add_address(self._bridge.index, IPv4Interface((pool.gateway(subnet), subnet.prefixlen)))
        self._netlink.set_up(self._bridge.index)
        self._open_passages()
        return subnet

    def _new_bridge(self, hardware_address: bytes) -> Link:
        for name in pool.bridge_names():
            try:
                index = self._netlink.add_bridge(name, hardware_address)
            except OSError as error:
                if error.errno == errno.EEXIST:
                    continue
                raise TaskFault("net.bridge", f"the bridge {name} can't be made: {error.strerror}") from error
            self._netlink.set_alias(index, self._alias)
            return Link(index, name, alias=self._alias)
        raise TaskFault("net.bridge", "every bridge name from stackd0 on is taken", retry=Retry.LATER)

    def _open_passages(self) -> None:
        """Forwarding, and our rules."""
        assert self._bridge is not None
        assert self._subnet is not None
        bridge = self._bridge.name
        _write_setting("net/ipv4/ip_forward")
        # Answers to clients on 127.0.0.1 come in over the bridge; the table's first chain keeps others from abusing it.
        _write_setting(f"net/ipv4/conf/{bridge}/route_localnet")
        self._load_table()
        passage.grant(self._nft, bridge)

    def _load_table(self) -> None:
        """Replace our table by what it should be: every port that is published."""
        assert self._bridge is not None
        assert self._subnet is not None
        rules = ports.table(self._bridge.name, self._subnet)
        for name, published in self._published.items():
            rules += ports.publish(self._bridge.name, str(self._endpoints[name].address), published)
        self._nft.run(rules)

    def _take_down(self) -> None:
        if self._bridge is None:
            return
        _remove_bridge(self._netlink, self._nft, self._bridge.name)
        self._bridge = self._subnet = None
        self._published.clear()

    def _remove_orphans(self) -> None:
        """Remove bridges whose data directory is gone: nobody is left who would."""
        for link in self._netlink.links():
            directory = link.alias.removeprefix(_ALIAS)
            if link.alias.startswith(_ALIAS + "/") and not os.path.isdir(directory):
                _remove_bridge(self._netlink, self._nft, link.name)


def open_loopback(namespace: str) -> None:
    """Give a network namespace what every program expects, and nothing else: its own loopback."""
    with Netlink.inside(namespace) as inner:
        inner.set_up(inner.index("lo"))


def _remove_bridge(netlink: Netlink, nft: Nft, name: str) -> None:
    nft.run(ports.drop_table(name))
    passage.revoke(nft, name)
    netlink.delete(name)


def _subnet_around(address: IPv4Address, pools: Sequence[IPv4Network]) -> IPv4Network:
    """The bridge's subnet that an endpoint's address tells."""
    return IPv4Network((address, pool.prefix_length(next((p for p in pools if address in p), pools[0]))), strict=False)


def _write_setting(name: str) -> None:
    """Turn a kernel setting on; left alone where it is on already (it may be read-only in a container)."""
    path = Path("/proc/sys", name)
    if path.read_text().strip() != "1":
        path.write_text("1")
