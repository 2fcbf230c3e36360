"""Copy-on-write tables, indexes, counts and an order: what the replicated state is kept in.

A table is a fixed number of shards. A fork shares all shards with its origin and costs O(shards); whoever writes to a
shared shard afterwards copies that shard first, so neither sees the other's writes. Not thread-safe for writing, but a
fork that nobody writes to may be read in another thread.

Shards are chosen by CRC-32, not by Python's salted hash: the order of iteration is the same in every process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, Self, TypeVar
from zlib import crc32

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
V = TypeVar("V")

Position = tuple[int, str]
"""What `Ordered` orders: a number, then a key."""

SHARDS = 64
"""Shards per table: a fork costs this much, and the first write after it copies one part in this many."""


class Rows(Protocol[R_co]):
    """A table as readers see it, live, forked or with a draft's changes on top."""

    def get(self, key: str) -> R_co | None: ...

    def values(self) -> Iterator[R_co]: ...

    def __len__(self) -> int: ...

    def __contains__(self, key: str) -> bool: ...


class _Shard(Generic[R]):
    """A part of a table; only the table that holds `token` may write to it."""

    __slots__ = ("rows", "token")

    def __init__(self, token: object, rows: dict[str, R]) -> None:
        self.token = token
        self.rows = rows


_NOTHING: _Shard[Any] = _Shard(object(), {})
"""What every shard of a new table is until it is written to: tables are made for each decision, and most stay empty."""


class Table(Generic[R]):
    """Rows by key."""

    __slots__ = ("_count", "_shards", "_token")

    def __init__(self) -> None:
        self._token = object()
        self._shards: list[_Shard[R]] = [_NOTHING] * SHARDS
        self._count = 0

    def fork(self) -> Table[R]:
        """An independent table with the same rows."""
        other: Table[R] = Table.__new__(Table)
        other._token = object()
        other._shards = self._shards.copy()
        other._count = self._count
        self._token = object()
        return other

    def get(self, key: str) -> R | None:
        return self._shards[crc32(key.encode()) % SHARDS].rows.get(key)

    def values(self) -> Iterator[R]:
        for shard in self._shards:
            yield from shard.rows.values()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return key in self._shards[crc32(key.encode()) % SHARDS].rows

    def put(self, key: str, row: R) -> R | None:
        """Store `row`; returns what was there before."""
        rows = self._writable(key)
        previous = rows.get(key)
        rows[key] = row
        self._count += previous is None
        return previous

    def pop(self, key: str) -> R | None:
        """Remove and return the row, if there is one."""
        if key not in self:
            return None
        self._count -= 1
        return self._writable(key).pop(key)

    def _writable(self, key: str) -> dict[str, R]:
        at = crc32(key.encode()) % SHARDS
        shard = self._shards[at]
        if shard.token is not self._token:
            shard = self._shards[at] = _Shard(self._token, shard.rows.copy())
        return shard.rows


class _Bucket(Generic[V]):
    """The keys of one bucket, in the order they came."""

    __slots__ = ("keys", "token")

    def __init__(self, token: object, keys: dict[str, V]) -> None:
        self.token = token
        self.keys = keys


class _Buckets(Generic[V]):
    """Keys by bucket, each with a value."""

    __slots__ = ("_buckets", "_token")

    def __init__(self) -> None:
        self._token = object()
        self._buckets: Table[_Bucket[V]] = Table()

    def fork(self) -> Self:
        """Independent, with the same buckets."""
        other = self.__new__(type(self))
        other._token = object()
        other._buckets = self._buckets.fork()
        self._token = object()
        return other

    def _writable(self, bucket: str) -> dict[str, V]:
        found = self._buckets.get(bucket)
        if found is None or found.token is not self._token:
            found = _Bucket(self._token, dict(found.keys) if found else {})
            self._buckets.put(bucket, found)
        return found.keys


class Index(_Buckets[None]):
    """Keys by bucket, for example the tasks of each service."""

    __slots__ = ()

    def keys(self, bucket: str) -> Iterable[str]:
        found = self._buckets.get(bucket)
        return found.keys if found else ()

    def move(self, key: str, source: Iterable[str], target: Iterable[str]) -> None:
        """Take `key` out of the buckets `source` and put it into the buckets `target`."""
        for bucket in source:
            keys = self._writable(bucket)
            keys.pop(key, None)
            if not keys:
                self._buckets.pop(bucket)
        for bucket in target:
            self._writable(bucket)[key] = None


class Counts(_Buckets[int]):
    """How often each key was counted in a bucket, for example the tasks of each service on each node; never zero."""

    __slots__ = ()

    def of(self, bucket: str) -> Mapping[str, int]:
        found = self._buckets.get(bucket)
        return found.keys if found else {}

    def add(self, bucket: str, key: str, by: int) -> None:
        counts = self._writable(bucket)
        counts[key] = counts.get(key, 0) + by
        if not counts[key]:
            del counts[key]
        if not counts:
            self._buckets.pop(bucket)


class Ordered:
    """Keys in the order of their numbers, and where these are equal in their own.

    Kept in blocks that are replaced and never written to, so that a fork may share them: it costs the number of blocks, and a
    change the length of one."""

    __slots__ = ("_blocks",)

    BLOCK = 64
    """Keys per block: at most twice as many, and two neighbours that become fewer together are joined."""

    def __init__(self) -> None:
        self._blocks: list[tuple[Position, ...]] = []

    def fork(self) -> Ordered:
        other = Ordered()
        other._blocks = self._blocks.copy()
        return other

    def __iter__(self) -> Iterator[Position]:
        for block in self._blocks:
            yield from block

    def since(self, first: Position) -> Iterator[Position]:
        """Those that don't come before `first`."""
        at = self._block_of(first)
        for block in self._blocks[at : at + 1]:
            yield from block[bisect_left(block, first) :]
        for block in self._blocks[at + 1 :]:
            yield from block

    def add(self, number: int, key: str) -> None:
        """Put `key` in its place; nothing happens if it is there."""
        one, at = (number, key), self._block_of((number, key))
        block = self._blocks[at] if self._blocks else ()
        place = bisect_left(block, one)
        if block[place : place + 1] == (one,):
            return
        block = (*block[:place], one, *block[place:])
        half = len(block) // 2
        self._blocks[at : at + 1] = (block[:half], block[half:]) if len(block) > 2 * self.BLOCK else (block,)

    def discard(self, number: int, key: str) -> bool:
        """Take `key` out; returns whether it was there, under this number."""
        if not self._blocks:
            return False
        one, at = (number, key), self._block_of((number, key))
        block = self._blocks[at]
        place = bisect_left(block, one)
        if block[place : place + 1] != (one,):
            return False
        rest = (*block[:place], *block[place + 1 :])
        first, last = at, at + 1
        if at and len(self._blocks[at - 1]) + len(rest) <= self.BLOCK:
            first, rest = at - 1, self._blocks[at - 1] + rest
        elif last < len(self._blocks) and len(rest) + len(self._blocks[last]) <= self.BLOCK:
            rest, last = rest + self._blocks[last], last + 1
        self._blocks[first:last] = [rest] if rest else []
        return True

    def _block_of(self, one: Position) -> int:
        """The first block that doesn't end before `one`, or the last of all."""
        at = bisect_left(self._blocks, one, key=lambda block: block[-1])
        return min(at, max(len(self._blocks) - 1, 0))
