"""Reads a log back: which segments there are, what they say, and where the last good record ends. Changes nothing.

The last segment may end in a torn write: its good part counts and the rest is reported to be cut. Anything else that is
not as written is damage, and refused with file and offset: a log that silently lost its middle would make this member
contradict what it has acknowledged. One thing can't be told: if the very last write was damaged *after* it was synced, it
looks like a torn one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from stackd.base.errors import StackdError
from stackd.raft.consensus import Entry, Keyring, Sealer
from stackd.raft.disk import Disk
from stackd.raft.frame import FROM_BACKUP, HEADER_BYTES, LOG_MAGIC, Codec, Identity, Kind, Record, check_owner, read_header
from stackd.raft.state import LogState

_NAME = re.compile(r"log-(\d{16})")


@dataclass(slots=True)
class Segment:
    """One file of the log. `last_index` is the highest index of an entry in it, void or not."""

    number: int
    last_index: int = 0

    @property
    def name(self) -> str:
        return f"log-{self.number:016d}"

    def note(self, record: Record) -> None:
        """`record` is in this file."""
        if record.kind in (Kind.ENTRY, Kind.MEMBERS) and record.index > self.last_index:
            self.last_index = record.index


@dataclass(slots=True)
class Recovered:
    """A log as found on disk."""

    state: LogState
    entries: list[Entry]
    """Those after the snapshot, in order. One that changes who the members are has no data for whoever follows the log."""
    memberships: dict[int, bytes]
    """What those say: index to body."""
    segments: list[Segment]
    sealer: Sealer
    """What the last segment is sealed with."""
    good_bytes: int
    """Size of the last segment up to the last good record; what lies behind it was never acknowledged."""
    leftovers: list[str]
    """Older segments that a snapshot covers and a crash kept from being deleted."""


def read_log(disk: Disk, keys: Keyring, identity: Identity) -> Recovered:
    """Read and check the whole log. Raises StackdError with raft.log.missing, .missing_segment, .damaged or one of
    raft.file.*; OSError if the disk can't be read."""
    numbers = sorted(int(match[1]) for name in disk.names() if (match := _NAME.fullmatch(name)))
    if not numbers:
        raise StackdError("raft.log.missing", f"there is no log in {disk.path_of('')}", hint=FROM_BACKUP)
    first = _first_of_the_unbroken(numbers)
    recovery = _Recovery(disk, keys, identity)
    for number in range(first, numbers[-1] + 1):
        recovery.read(Segment(number), is_last=number == numbers[-1])
    recovery.check_reaches_snapshot()
    entries = [entry for entry in recovery.entries if entry.index > recovery.state.snapshot.index]
    return Recovered(
        state=recovery.state,
        entries=entries,
        memberships={
            entry.index: recovery.memberships[entry.index] for entry in entries if entry.index in recovery.memberships
        },
        segments=recovery.segments,
        sealer=recovery.sealer,
        good_bytes=recovery.good_bytes,
        leftovers=[Segment(number).name for number in numbers if number < first],
    )


def _first_of_the_unbroken(numbers: list[int]) -> int:
    """The first number of the run without gaps that ends with the last one."""
    first = numbers[-1]
    for number in reversed(numbers[:-1]):
        if number != first - 1:
            break
        first = number
    return first


class _Recovery:
    """The reading of one log, segment by segment."""

    def __init__(self, disk: Disk, keys: Keyring, identity: Identity) -> None:
        self._disk = disk
        self._keys = keys
        self._identity = identity
        self.state = LogState()
        self.entries: list[Entry] = []
        self.memberships: dict[int, bytes] = {}
        self.segments: list[Segment] = []
        self.sealer = keys.current
        self.good_bytes = 0
        self._first_start = 0

    def read(self, segment: Segment, *, is_last: bool) -> None:
        """Note every record of `segment`."""
        path = self._disk.path_of(segment.name)
        data = self._disk.read(segment.name)
        header = read_header(path, data, LOG_MAGIC)
        self.sealer = check_owner(path, header, self._identity, self._keys)
        if header.number != segment.number:
            raise _damaged(path, 0, f"it was written as segment {header.number}")
        codec = Codec(header, self.sealer)
        offset = HEADER_BYTES
        while offset < len(data) or offset == HEADER_BYTES:
            found = codec.decode(data, offset)
            if found is None:
                # The START record was on the medium before the segment had its name, so it can't be torn.
                if not is_last or offset == HEADER_BYTES or codec.was_synced(data, offset):
                    raise _damaged(path, offset, "the record there is not as it was written")
                break
            try:
                self._note(found.record, segment, opens_log=not self.segments and offset == HEADER_BYTES)
            except (ValueError, msgspec.DecodeError) as exc:
                raise _damaged(path, offset, str(exc)) from exc
            offset = found.end
        self.segments.append(segment)
        self.good_bytes = offset

    def check_reaches_snapshot(self) -> None:
        """The first segment must begin where a snapshot, or nothing, comes before it."""
        if self._first_start > self.state.snapshot.index:
            missing = Segment(self.segments[0].number - 1)
            why = f"{self._disk.path_of(missing.name)} is missing, and no snapshot covers what it held"
            raise StackdError("raft.log.missing_segment", why, hint=FROM_BACKUP)

    def _note(self, record: Record, segment: Segment, *, opens_log: bool) -> None:
        if opens_log:
            if record.kind is not Kind.START:
                raise ValueError("the segment doesn't begin with its opening record")
            self.state = LogState.opened_by(record)
            self._first_start = record.index
        else:
            self.state.note(record)
        segment.note(record)
        if record.kind is Kind.ENTRY:
            self.entries.append(Entry(record.index, record.term, record.body))
        elif record.kind is Kind.MEMBERS:
            self.entries.append(Entry(record.index, record.term, b""))
            self.memberships[record.index] = record.body
        elif record.kind is Kind.TRUNCATE:
            while self.entries and self.entries[-1].index >= record.index:
                self.memberships.pop(self.entries.pop().index, None)
        elif record.kind is Kind.SNAPSHOT and self.state.last.index == record.index:
            self.entries.clear()


def _damaged(path: str, offset: int, why: str) -> StackdError:
    return StackdError("raft.log.damaged", f"{path} is damaged at byte {offset}: {why}", hint=FROM_BACKUP)
