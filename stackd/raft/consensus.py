"""The port to consensus: it speaks bytes and awaits, and holds no callbacks into the engine.

Its forms (`member.py`, and the models that tests and the simulator use) pass the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from stackd.base.errors import Retry, StackdError

if TYPE_CHECKING:
    from stackd.raft.backup import Content

MAX_ENTRY_BYTES = 1024 * 1024
"""Larger proposals are refused: entries stay far below the library's batch size."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One committed entry. `data` is b"" for the entry that opens a term."""

    index: int
    term: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Installed:
    """Another member's snapshot has taken the place of everything up to `index`: this member was too far behind for the
    entries that led there. The state becomes what `content` says."""

    index: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the cluster as this one knows it. A learner gets every entry and has no vote yet."""

    node: str
    address: str
    is_voter: bool
    is_leader: bool
    is_connected: bool
    """Whether this member has a stream to it (or is it)."""


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
        who = f"this node does not lead{f', {leader} does' if leader else ''}"
        super().__init__("raft.not_leader", who, hint="nothing was changed; try again in a moment", retry=Retry.NOW)


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
        A member that can't write starts all the same: it yields what it knows is committed, refuses the rest with
        StorageFailed, and leads once it can. Raises StackdError on a foreign, damaged, newer or locked directory, having
        changed nothing."""
        ...

    async def propose(self, data: bytes, term: int) -> int:
        """Commit `data` if this member still leads `term`; returns its index once it is durable.
        Raises NotLeader, StorageFailed, OutcomeUnknown, or StackdError("raft.entry.too_large")."""
        ...

    async def read_barrier(self) -> int:
        """An index such that a reader that has applied it sees every write acknowledged before this call.
        Raises NotLeader, or StorageFailed if nobody leads because this member can't write."""
        ...

    def leadership(self) -> AsyncIterator[Leadership]:
        """The present role at once, then every change."""
        ...

    def committed(self) -> AsyncIterator[Entry | Installed]:
        """Committed entries after the snapshot, in order, each once. One consumer."""
        ...

    def snapshot_due(self) -> bool:
        """Whether enough entries have gathered since the last snapshot."""
        ...

    async def take_snapshot(self, view: SnapshotView) -> None:
        """Write `view` durably in the background and drop the log up to its index."""
        ...

    async def close(self) -> None: ...


class Cluster(Consensus, Protocol):
    """Consensus among several members: who they are can be looked at by each, and changed through the leader."""

    @property
    def known_leader(self) -> str:
        """The member that leads as far as this one knows, "" if it knows of none or is not in touch with it. Costs nothing."""
        ...

    @property
    def known_addresses(self) -> Mapping[str, str]:
        """The address of each member, as far as this one knows. Costs nothing."""
        ...

    def leader(self) -> str:
        """The node id of the leader, as far as this member knows; "" if it knows of none."""
        ...

    def feature_level(self) -> int:
        """What every member can read: nothing may be proposed that needs more."""
        ...

    async def members(self) -> tuple[Member, ...]:
        """All members as this one knows them, by node id."""
        ...

    async def add(self, member: str, address: str) -> bytes:
        """Make a node that is about to start a member, as a learner. It gets its vote by itself once it has caught up.
        For one that is a member already: it has another address. Returns once that is committed, with who the members are
        then: the new one must be told before it starts (`membership.decode_membership`).
        Raises NotLeader, StorageFailed, OutcomeUnknown, or Unavailable("raft.member.change_pending")."""
        ...

    async def remove(self, member: str) -> None:
        """Take a member out. Returns once that is committed. Raises as `add`; NotFound("raft.member.unknown"); Refused with
        raft.member.leads for the leader itself, raft.member.last, or raft.member.quorum if the others could not agree on
        anything without it."""
        ...

    async def transfer_leadership(self, to: str = "") -> None:
        """Let another voting member lead: `to`, or the one that has most of the log. Returns when this member leads no
        longer. Raises NotLeader, Refused("raft.transfer.impossible"), or Unavailable("raft.transfer.failed")."""
        ...

    async def content(self, view: SnapshotView) -> Content:
        """What a backup of the state `view` holds. Raises Unavailable("raft.backup.moved")."""
        ...


class Sealer(Protocol):
    """Encrypts what goes to disk. `key_id` names the key in file headers."""

    @property
    def key_id(self) -> str: ...

    def seal(self, plaintext: bytes, associated: bytes) -> bytes: ...

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Raises StackdError("security.seal.broken") if it was not sealed with this key and associated data."""
        ...


class Keyring(Protocol):
    """The sealers of a member's files. Keys rotate: new files get the current one, older files name theirs."""

    @property
    def current(self) -> Sealer: ...

    def find(self, key_id: str) -> Sealer | None:
        """The sealer of the key that a file names; None if that key isn't at hand."""
        ...
