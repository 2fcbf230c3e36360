"""Arithmetic of addresses: ranges as whole numbers, and first fit among ranges that are taken. Pure.

An address inside a pool is an offset from the pool's first one; what is stored and shown is text with the length of its
prefix, "10.0.16.5/20".
"""

from __future__ import annotations

import functools
import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stackd.spec.stack import Pool

OFFSETS_MAX = 1 << 24
"""Addresses of one pool that are given out: as many as a VXLAN has room for in any sense, and few enough to count."""

Version = Literal[4, 6]


@dataclass(frozen=True, slots=True)
class Range:
    """The addresses `first` to `last`, both included, of one IP version."""

    version: Version
    first: int
    last: int

    def overlaps(self, other: Range) -> bool:
        return self.version == other.version and self.first <= other.last and other.first <= self.last

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last


@dataclass(frozen=True, slots=True)
class Space:
    """A pool, computed: its `subnet`, the `usable` addresses for tasks and services, and the `gateway`, which lies in the
    subnet and is never given out."""

    subnet: Range
    prefix: int
    usable: Range
    gateway: int

    @property
    def capacity(self) -> int:
        """How many addresses can be given out."""
        return self.usable.last - self.usable.first + 1 - (self.gateway in self.usable)

    def text(self, address: int) -> str:
        """An address of this pool as it is stored."""
        return f"{_address(self.subnet.version, address)}/{self.prefix}"


def subnet_range(text: str) -> Range:
    """The range that a subnet in CIDR form spans. Raises ValueError."""
    network = ipaddress.ip_network(text, strict=False)
    return Range(4 if network.version == 4 else 6, int(network.network_address), int(network.broadcast_address))


@functools.lru_cache(maxsize=8192)  # a pool or two per network, asked for with each address
def space_of(pool: Pool) -> Space:
    """The pool, whose subnet is set. Raises ValueError with a sentence where its parts don't fit together.

    Left out are the first address of the subnet, in IPv4 the last one, and the gateway, which without a word is the first
    that is left."""
    subnet = subnet_range(pool.subnet)
    prefix = int(pool.subnet.partition("/")[2] or (32 if subnet.version == 4 else 128))
    usable = Range(subnet.version, subnet.first + 1, subnet.last - (subnet.version == 4))
    gateway = _inside(pool.gateway, subnet, "gateway") if pool.gateway else usable.first
    if pool.ip_range:
        within = subnet_range(pool.ip_range)
        if within.version != subnet.version or within.first not in subnet or within.last not in subnet:
            raise ValueError(f"the range {pool.ip_range} does not lie in the subnet {pool.subnet}")
        usable = Range(subnet.version, max(usable.first, within.first), min(usable.last, within.last))
    usable = Range(subnet.version, usable.first, min(usable.last, usable.first + OFFSETS_MAX - 1))
    if usable.last < usable.first:
        raise ValueError(f"the subnet {pool.subnet} has no room for a task")
    return Space(subnet, prefix, usable, gateway)


def _inside(text: str, subnet: Range, what: str) -> int:
    address = ipaddress.ip_address(text)
    if address.version != subnet.version or int(address) not in subnet:
        raise ValueError(f"the {what} {text} does not lie in its subnet")
    return int(address)


def address_number(text: str) -> tuple[Version, int]:
    """An address as a number, with or without the length of a prefix. Raises ValueError."""
    address = ipaddress.ip_address(text.partition("/")[0])
    return (4 if address.version == 4 else 6), int(address)


def _address(version: Version, number: int) -> str:
    if version == 4:
        return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return str(ipaddress.IPv6Address(number))


class TakenRanges:
    """Ranges that are in use, and the first one that isn't. Ranges may touch and may overlap."""

    def __init__(self, taken: Iterable[Range]) -> None:
        self._by_version: dict[Version, list[tuple[int, int]]] = {4: [], 6: []}
        for one in taken:
            self.add(one)

    def add(self, taken: Range) -> None:
        """Take a range, joined with those it meets, so that what is kept never overlaps."""
        ranges = self._by_version[taken.version]
        first, last = taken.first, taken.last
        start = end = bisect_right(ranges, (first, first))
        while start and ranges[start - 1][1] >= first - 1:
            start -= 1
            first, last = min(first, ranges[start][0]), max(last, ranges[start][1])
        while end < len(ranges) and ranges[end][0] <= last + 1:
            last = max(last, ranges[end][1])
            end += 1
        ranges[start:end] = [(first, last)]

    def overlapping(self, wanted: Range) -> bool:
        return self._blocking(wanted) is not None

    def first_free(self, pool: Range, prefix: int) -> str | None:
        """The first subnet of /`prefix` in `pool` that overlaps with nothing; None if there is none."""
        bits = 32 if pool.version == 4 else 128
        size = 1 << (bits - prefix)
        start = -(-pool.first // size) * size
        while start + size - 1 <= pool.last:
            blocking = self._blocking(Range(pool.version, start, start + size - 1))
            if blocking is None:
                return f"{_address(pool.version, start)}/{prefix}"
            start = -(-(blocking + 1) // size) * size
        return None

    def _blocking(self, wanted: Range) -> int | None:
        """The last address of a range that overlaps with `wanted`."""
        ranges = self._by_version[wanted.version]
        at = bisect_left(ranges, (wanted.last + 1, 0))
        return ranges[at - 1][1] if at and ranges[at - 1][1] >= wanted.first else None
