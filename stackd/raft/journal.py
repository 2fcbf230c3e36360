"""The log as the library sees it: entries in memory, each change of them a record for the write-ahead log.

It has the methods of pysyncobj's `Journal`, with the library's names, over `wal.Log`. The library changes it during a tick;
nothing of that is on disk before the node calls `write` and `sync`, and the node lets nothing out that relies on more than
that. A write that fails is undone here too (`roll_back`): memory never says more than what could be written.

Element 0 stands for the entry before the first one that is kept: it has a position and no data. What the entries say about
who the members are is kept beside them, so that truncation, restart and snapshot all find the right membership.

pysyncobj's own journals are not used: one forgets everything, the other neither syncs nor checks what it reads.
"""

from __future__ import annotations

from typing import overload

from stackd.base.errors import StackdError
from stackd.raft.frame import Kind, Record
from stackd.raft.membership import Membership, decode_membership
from stackd.raft.message import LogEntry
from stackd.raft.state import Position
from stackd.raft.wal import Log

KEPT_BYTES = 8 * 1024 * 1024
"""Of the entries that stay in memory below a snapshot, for members that are a little behind."""


COMMIT_EVERY = 64
"""Entries after which the log says again up to where it is committed. What it doesn't say the leader tells after a restart, so
a record of that beside each entry would be a quarter of a small write's work for little."""


class Journal:
    """The entries after `anchor`, and the member's term and vote. Used from the node's thread alone."""

    def __init__(self, log: Log, snapshot: Position, entries: list[LogEntry], membership: Membership, told: Membership) -> None:
        """`membership` is that of the place before the first of `entries`, which follow `snapshot`; `told` is what this
        member was told when it joined, which holds until the log has come that far."""
        self.snapshot = snapshot
        self.bytes_since_snapshot = sum(len(entry.data) for entry in entries)
        self._log = log
        self._entries = [LogEntry(b"", snapshot.index, snapshot.term), *entries]
        self._memberships = [(snapshot.index, membership), *_memberships_in(entries)]
        self._told = told
        self.membership = self._latest_membership()
        """Who the members are now, committed or not."""
        self._commit = max(log.state.commit, snapshot.index)
        self._records: list[Record] = []
        self._unwritten_from = len(self._entries)
        self._cut: list[LogEntry] = []
        """What was cut off since the last write, from `_unwritten_from` on: a failed write puts it back."""

    # -- what the library uses

    def add(self, data: bytes, index: int, term: int, kind: int = Kind.ENTRY) -> None:
        self._entries.append(LogEntry(data, index, term, kind))
        if kind == Kind.MEMBERS:
            self._memberships.append((index, decode_membership(data)))
            self.membership = self._latest_membership()
        self._records.append(Record(Kind(kind), index, term, data))

    def deleteEntriesFrom(self, place: int) -> None:
        """Cut off what follows another leader's history. Raises StackdError("raft.log.contradicted") rather than cut what
        was committed: then some member has lost what it acknowledged, and going on would spread it."""
        first = self._entries[place]
        if first.index <= self._commit:
            why = f"a leader's log contradicts entry {first.index}, though entries up to {self._commit} are committed"
            raise StackdError("raft.log.contradicted", why, hint="some member was restored or emptied: let this one join anew")
        if place < self._unwritten_from:
            self._cut = self._entries[place : self._unwritten_from] + self._cut
            self._unwritten_from = place
        del self._entries[place:]
        self._forget_memberships_from(first.index)
        self._records.append(Record(Kind.TRUNCATE, first.index))

    @overload
    def __getitem__(self, place: int) -> LogEntry: ...
    @overload
    def __getitem__(self, place: slice) -> list[LogEntry]: ...
    def __getitem__(self, place: int | slice) -> LogEntry | list[LogEntry]:
        return self._entries[place]

    def __len__(self) -> int:
        return len(self._entries)

    def setRaftCommitIndex(self, index: int) -> None:
        """It is only recorded with a later write, see COMMIT_EVERY."""
        self._commit = max(self._commit, index)

    def getRaftCommitIndex(self) -> int:
        return self._commit

    def setCurrentTerm(self, term: int, vote: str | None) -> None:
        self._records.append(Record(Kind.VOTE, term=term, body=(vote or "").encode()))

    def getCurrentTerm(self) -> int:
        return self._log.state.term

    def getVotedForNodeId(self) -> str | None:
        return self._log.state.vote or None

    def onOneSecondTimer(self) -> None:
        pass

    # -- what the node uses

    @property
    def anchor(self) -> Position:
        return Position(self._entries[0].index, self._entries[0].term)

    @property
    def last(self) -> Position:
        return Position(self._entries[-1].index, self._entries[-1].term)

    @property
    def written_index(self) -> int:
        """The last entry that is in the file: what may be sent to others."""
        return self._entries[self._unwritten_from - 1].index

    def membership_at(self, index: int) -> Membership:
        return next(membership for at, membership in reversed(self._memberships) if at <= index)

    def entry(self, index: int) -> LogEntry:
        return self._entries[index - self._entries[0].index]

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None if it isn't kept."""
        place = index - self._entries[0].index
        return self._entries[place].term if 0 <= place < len(self._entries) else None

    def first_of_term(self, index: int) -> int:
        """The first entry after the committed ones that has the term of the one at `index`."""
        term = self.term_at(index)
        while index - 1 > max(self._commit, self.anchor.index) and self.term_at(index - 1) == term:
            index -= 1
        return index

    def batch(self, index: int, size: int) -> list[LogEntry]:
        """Entries from `index` on that are written: at least one if there is one, and about `size` bytes at the most."""
        start = index - self._entries[0].index
        end = start
        while end < self._unwritten_from and size > 0:
            size -= len(self._entries[end].data)
            end += 1
        return self._entries[start:end]

    # -- towards the disk

    @property
    def changes(self) -> int:
        """How many there are that aren't written."""
        return len(self._records)

    def write(self) -> None:
        """Write what has changed. Raises StorageFailed (then `roll_back` must follow) or LogUnusable."""
        if not self._records:
            return
        records = self._records
        if self._commit - self._log.state.commit >= COMMIT_EVERY:
            records = [*records, Record(Kind.COMMIT, min(self._commit, self.last.index))]
        self.bytes_since_snapshot += self._log.write(records)
        self._settle()

    def sync(self) -> None:
        """Raises LogUnusable."""
        self._log.sync()

    def roll_back(self) -> None:
        """Forget everything since the last successful write."""
        del self._entries[self._unwritten_from :]
        # What is put back below was never said to be committed: that was said of what had taken its place.
        self._commit = min(self._commit, self._entries[-1].index)
        self._forget_memberships_from(self._entries[-1].index + 1)
        self._entries += self._cut
        self._memberships += _memberships_in(self._cut)
        self.membership = self._latest_membership()
        self._settle()

    def compact(self, position: Position, kept_entries: int) -> None:
        """A snapshot of ours at `position` is on the medium. Raises StorageFailed or LogUnusable."""
        self._log.drop_through(position.index)
        self.snapshot = position
        self.bytes_since_snapshot = sum(len(entry.data) for entry in self.batch(position.index + 1, 1 << 62))
        first = max(position.index - kept_entries, self.anchor.index)
        size = 0
        for entry in reversed(self._entries[first - self.anchor.index : position.index - self.anchor.index]):
            size += len(entry.data)
            if size > KEPT_BYTES:
                first = entry.index
                break
        self._drop_through(first)

    def install(self, position: Position, membership: Membership) -> None:
        """Another member's snapshot at `position`, above what is committed here, is on the medium: it replaces what leads
        there, and all of the log unless that goes on from it. On return the log says so, on the medium.
        Raises StorageFailed, having changed nothing but what `roll_back` undoes, or LogUnusable."""
        records = [*self._records, Record(Kind.SNAPSHOT, position.index, position.term)]
        continues = self.term_at(position.index) == position.term
        if not continues and position.index <= self.last.index:
            records.insert(-1, Record(Kind.TRUNCATE, position.index))
        self._log.append(records)
        self._log.remove_before(position.index)
        later = [kept for kept in self._memberships if continues and kept[0] > position.index]
        if continues:
            self._drop_through(position.index)
        else:
            self._entries = [LogEntry(b"", position.index, position.term)]
        self._memberships = [(position.index, membership), *later]
        self.membership = self._latest_membership()
        self._commit = position.index
        self.snapshot = position
        self.bytes_since_snapshot = 0
        self._settle()

    def close(self) -> None:
        self._log.close()

    def _settle(self) -> None:
        self._records = []
        self._unwritten_from, self._cut = len(self._entries), []

    def _drop_through(self, index: int) -> None:
        """Keep in memory what follows `index`, and the position of that."""
        place = index - self._entries[0].index
        dropped = self._entries[place]
        self._entries[: place + 1] = [LogEntry(b"", dropped.index, dropped.term)]
        self._unwritten_from -= place
        while len(self._memberships) > 1 and self._memberships[1][0] <= index:
            del self._memberships[0]

    def _forget_memberships_from(self, index: int) -> None:
        while self._memberships[-1][0] >= index:
            self._memberships.pop()
        self.membership = self._latest_membership()

    def _latest_membership(self) -> Membership:
        latest = self._memberships[-1][1]
        return latest if latest.is_newer_than(self._told) else self._told


def _memberships_in(entries: list[LogEntry]) -> list[tuple[int, Membership]]:
    return [(entry.index, decode_membership(entry.data)) for entry in entries if entry.kind == Kind.MEMBERS]
