"""The port to consensus: it speaks bytes and awaits, and holds no callbacks into the engine.

The single-member form (`single.py`) and the later clustered one pass the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from stackd.base.errors import Retry, StackdError

MAX_ENTRY_BYTES = 1024 * 1024
"""Larger proposals are refused: entries stay far below the library's batch size."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One committed entry. `data` is b"" for the entry that opens a term."""

    index: int
    term: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Leadership:
    """A change of role: `term` counts elections."""

    term: int
    is_leader: bool


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """An immutable view of the whole applied state at `index`, encoded piece by piece in a thread."""

    index: int
    chunks: Callable[[], Iterable[bytes]]


class NotLeader(StackdError):
    """Another member leads; nothing was proposed."""

    def __init__(self, leader: str = "") -> None:
        super().__init__("raft.not_leader", f"this node does not lead{f', {leader} does' if leader else ''}", retry=Retry.NOW)


class OutcomeUnknown(StackdError):
    """The proposal may or may not be committed (timeout, lost leadership, disk error after the write)."""

    def __init__(self, why: str) -> None:
        super().__init__("raft.outcome_unknown", why, retry=Retry.LATER)


class StorageFailed(StackdError):
    """The log can't be written (disk full, I/O error): the proposal is not committed and the old state stands."""

    def __init__(self, why: str, *, hint: str | None = None) -> None:
        super().__init__("raft.storage_failed", why, hint=hint, retry=Retry.LATER)


def check_size(data: bytes) -> None:
    """Raises StackdError("raft.entry.too_large") beyond MAX_ENTRY_BYTES."""
    if len(data) > MAX_ENTRY_BYTES:
        raise StackdError("raft.entry.too_large", f"an entry of {len(data)} bytes is above the limit of {MAX_ENTRY_BYTES}")


class Consensus(Protocol):
    """Total order of opaque entries, durable before they are acknowledged."""

    async def start(self) -> bytes | None:
        """Open the log. Returns the latest snapshot's content, or None; `committed()` then yields what follows it.
        Raises StackdError on a foreign, damaged, newer or locked directory, having changed nothing."""
        ...

    async def propose(self, data: bytes, term: int) -> int:
        """Commit `data` if this member still leads `term`; returns its index once it is durable.
        Raises NotLeader, StorageFailed, OutcomeUnknown, or StackdError("raft.entry.too_large")."""
        ...

    async def read_barrier(self) -> int:
        """An index such that a reader that has applied it sees every write acknowledged before this call."""
        ...

    def leadership(self) -> AsyncIterator[Leadership]:
        """The present role at once, then every change."""
        ...

    def committed(self) -> AsyncIterator[Entry]:
        """Committed entries after the snapshot, in order, each once. One consumer."""
        ...

    def snapshot_due(self) -> bool:
        """Whether enough entries have gathered since the last snapshot."""
        ...

    async def take_snapshot(self, view: SnapshotView) -> None:
        """Write `view` durably in the background and drop the log up to its index."""
        ...

    async def close(self) -> None: ...


class Sealer(Protocol):
    """Encrypts what goes to disk. `key_id` names the key in file headers."""

    @property
    def key_id(self) -> str: ...

    def seal(self, plaintext: bytes, associated: bytes) -> bytes: ...

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Raises StackdError("security.seal.broken") if it was not sealed with this key and associated data."""
        ...
