"""Which names, subnets and addresses a node's own bridge gets. Pure; the facts of the host are arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from stackd.base.errors import Retry, TaskFault

DEFAULT_POOLS = (IPv4Network("10.213.0.0/16"), IPv4Network("10.214.0.0/16"), IPv4Network("172.29.0.0/16"))
"""Private ranges that Docker and common home networks don't use by default."""

_BRIDGE_PREFIX = 20
"""Each data directory's bridge gets a /20: 4093 endpoints, and 16 bridges in one pool."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One attachment to the bridge: `name` is the interface on the host's side."""

    name: str
    address: IPv4Address


def choose_subnet(taken: Collection[IPv4Network], pools: Collection[IPv4Network] = DEFAULT_POOLS) -> IPv4Network:
    """The first subnet that overlaps no route of this host; raises TaskFault if there is none."""
    for pool in pools:
        for subnet in pool.subnets(new_prefix=prefix_length(pool)):
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
    names = ", ".join(map(str, pools))
    raise TaskFault("net.pool.conflict", f"no subnet of {names} is free: routes of this host overlap all of them")


def prefix_length(pool: IPv4Network) -> int:
    """How long the prefix of a bridge's subnet is in a pool."""
    return max(_BRIDGE_PREFIX, pool.prefixlen)


def choose_address(subnet: IPv4Network, taken: Collection[IPv4Address]) -> IPv4Address:
    """The lowest free address after the bridge's own; raises TaskFault when the subnet is full."""
    hosts = iter(subnet.hosts())
    next(hosts)
    for address in hosts:
        if address not in taken:
            return address
    raise TaskFault("net.pool.exhausted", f"no address of {subnet} is free", retry=Retry.LATER)


def gateway(subnet: IPv4Network) -> IPv4Address:
    """The bridge's own address: the first of the subnet."""
    return next(iter(subnet.hosts()))


def hardware_address(address: IPv4Address) -> bytes:
    """A locally administered address that tells the IPv4 address, as Docker makes them."""
    return b"\x02\x42" + address.packed


def bridge_names() -> Iterator[str]:
    """Names to try, in this order."""
    yield from (f"stackd{number}" for number in range(256))
