"""Copy-on-write tables and indexes: what the replicated state is kept in.

A table is a fixed number of shards. A fork shares all shards with its origin and costs O(shards); whoever writes to a
shared shard afterwards copies that shard first, so neither sees the other's writes. Not thread-safe for writing, but a
fork that nobody writes to may be read in another thread.

Shards are chosen by CRC-32, not by Python's salted hash: the order of iteration is the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar
from zlib import crc32

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

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


class Table(Generic[R]):
    """Rows by key."""

    __slots__ = ("_count", "_shards", "_token")

    def __init__(self) -> None:
        self._token = object()
        self._shards: list[_Shard[R]] = [_Shard(self._token, {}) for _ in range(SHARDS)]
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


class _Bucket:
    """The keys of one bucket, in the order they came."""

    __slots__ = ("keys", "token")

    def __init__(self, token: object, keys: dict[str, None]) -> None:
        self.token = token
        self.keys = keys


class Index:
    """Keys by bucket, for example the tasks of each service."""

    __slots__ = ("_buckets", "_token")

    def __init__(self) -> None:
        self._token = object()
        self._buckets: Table[_Bucket] = Table()

    def fork(self) -> Index:
        """An independent index with the same buckets."""
        other = Index.__new__(Index)
        other._token = object()
        other._buckets = self._buckets.fork()
        self._token = object()
        return other

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

    def _writable(self, bucket: str) -> dict[str, None]:
        found = self._buckets.get(bucket)
        if found is None or found.token is not self._token:
            found = _Bucket(self._token, dict(found.keys) if found else {})
            self._buckets.put(bucket, found)
        return found.keys
