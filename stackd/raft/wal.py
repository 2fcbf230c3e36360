"""The write-ahead log: what this member must not forget, on disk before anyone hears of it.

A log is a row of numbered segments. A segment appears under its name only when its opening record is on the medium, and
it is complete before the next one appears; so only the last segment can end in a torn write, or in zeros: room made in
advance. Its opening record repeats the log's position, vote, commit index and snapshot, so the segments before it can be
deleted once a snapshot covers their entries. Reading back is `recovery.py`.

Invariants: what is appended is written at once and on the medium after the next `sync`; a member that has others sends its
entries to them between the two. After a write that failed the file is cut back to where that write began. After a sync that
failed the log refuses everything until the process starts again.
A log is used from one thread at a time, and keeps no entries in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from stackd.base.errors import Unavailable
from stackd.raft.consensus import Keyring, Sealer, StorageFailed
from stackd.raft.disk import TEMPORARY, Disk, DiskFile, reason, write_all
from stackd.raft.frame import LOG_MAGIC, Codec, Header, Identity, Kind, Record
from stackd.raft.recovery import Recovered, Segment
from stackd.raft.state import LogState

SEGMENT_BYTES = 4 * 1024 * 1024
"""A segment past this size is followed by a new one. It bounds what a restart reads in vain below the snapshot."""

ROOM_WRITES = 32
"""Room is made in advance for so many writes of the present one's size, within these bounds. Making it takes a moment, but it
is rare; small writes make little, so that a full disk is noticed soon."""
LEAST_ROOM_BYTES = 128 * 1024
ROOM_PART = 2
"""At the most one part in so many of a segment: the rest of it may never be written."""

FREE_SPACE = "free some space on that disk; what was acknowledged is kept, and writing then goes on by itself"


class LogUnusable(Unavailable):
    """A sync failed, so nobody knows what is on the medium; only reading it again at a restart tells."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(
            "raft.log.unusable",
            f"the log could not be synced to disk: {cause}",
            hint="check the disk, then restart the daemon: it reads back what really is there",
        )


class Log:
    """An open log. Made with `create` (a new one) or `resume` (one that `recovery.read_log` has read)."""

    def __init__(
        self,
        disk: Disk,
        keys: Keyring,
        identity: Identity,
        recovered: Recovered,
        file: DiskFile,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._disk = disk
        self._keys = keys
        self._identity = identity
        self._segment_bytes = segment_bytes
        self._state = recovered.state
        self._segments = recovered.segments
        self._file = file
        self._bytes = self._synced_bytes = self._room_until = recovered.good_bytes
        self._sealer = recovered.sealer
        self._codec = Codec(_header(self._segments[-1].number, identity, self._sealer), self._sealer)
        self._failed = ""

    @staticmethod
    def create(disk: Disk, keys: Keyring, identity: Identity) -> None:
        """Write the first segment of an empty log. Raises OSError."""
        file, _ = _new_segment(disk, keys.current, identity, Segment(1), LogState())
        file.close()
        disk.sync_names()

    @classmethod
    def resume(
        cls, disk: Disk, keys: Keyring, identity: Identity, recovered: Recovered, *, segment_bytes: int = SEGMENT_BYTES
    ) -> Log:
        """Go on with the log that was read: cut a torn tail, and make sure that what was read is on the medium, since the
        process before may have died between write and sync. Raises StorageFailed."""
        last = recovered.segments[-1].name
        try:
            file = disk.extend(last)
            file.truncate(recovered.good_bytes)
            file.sync()
            for name in recovered.leftovers:
                disk.remove(name)
        except OSError as exc:
            raise StorageFailed(f"can't go on with {disk.path_of(last)}: {reason(exc)}") from exc
        return cls(disk, keys, identity, recovered, file, segment_bytes=segment_bytes)

    @property
    def state(self) -> LogState:
        """The state of what is written; of what is on the medium after a `sync`. Not to be changed."""
        return self._state

    @property
    def unsynced(self) -> bool:
        """Whether something is written that may not be on the medium."""
        return self._synced_bytes < self._bytes

    def append(self, records: Sequence[Record]) -> int:
        """`write` and `sync`: returns once the records are on the medium. Raises as those do."""
        size = self.write(records)
        self.sync()
        return size

    def write(self, records: Sequence[Record]) -> int:
        """Write `records`; returns how many bytes they took. A crash before the next `sync` may lose them.

        Raises StorageFailed if they could not be written (then the log is as before and may be tried again), LogUnusable if
        nobody knows what is on the medium, ValueError for records that can't follow (nothing is written)."""
        if self._failed:
            raise LogUnusable(self._failed)
        ahead = self._state.copy()
        for record in records:
            ahead.note(record)
        if self._bytes >= self._segment_bytes or self._keys.current.key_id != self._sealer.key_id:
            self._begin_segment()
        data = self._encode(records)
        self._write(data)
        self._state = ahead
        self._bytes += len(data)
        if self._bytes > self._room_until:
            self._make_room(len(data))
        for record in records:
            self._segments[-1].note(record)
        return len(data)

    def sync(self) -> None:
        """Return once all that was written is on the medium. Raises LogUnusable."""
        if self._failed:
            raise LogUnusable(self._failed)
        if self.unsynced:
            self._sync()

    def drop_through(self, index: int) -> None:
        """Forget the entries up to `index`, which a snapshot on the medium holds. Raises as `append` does, and ValueError
        if the log never had that entry."""
        self.append([Record(Kind.SNAPSHOT, index, self._state.term_of(index))])
        self.remove_before(index)

    def remove_before(self, index: int) -> None:
        """Remove the segments whose entries a snapshot at `index` covers; the log on the medium says so already."""
        try:
            while len(self._segments) > 1 and self._segments[0].last_index <= index:
                self._disk.remove(self._segments[0].name)
                del self._segments[0]
        except OSError:
            pass  # they are in nobody's way: tried again after the next snapshot, or removed at the next start

    def close(self) -> None:
        self._file.close()

    def _encode(self, records: Sequence[Record]) -> bytes:
        batch, end = [], self._bytes
        for record in records:
            batch.append(self._codec.encode(record, end, self._synced_bytes))
            end += len(batch[-1])
        return b"".join(batch)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._file, data)
        except OSError as exc:
            self._cut_back()
            raise StorageFailed(f"can't write the log: {reason(exc)}", hint=FREE_SPACE) from exc

    def _make_room(self, written: int) -> None:
        """Put zeros behind what was just written. A write into a file that grows makes the sync wait for the file system's own
        journal, and for what others have in there; one that takes the place of something waits for its own bytes alone."""
        size = min(max(ROOM_WRITES * written, LEAST_ROOM_BYTES), self._segment_bytes // ROOM_PART)
        try:
            self._file.reserve(size)
        except OSError:
            pass  # the disk is full: then the file grows with each write, as far as it can
        self._room_until = self._bytes + size

    def _cut_back(self) -> None:
        """Remove what a failed write left. Synced, or a crash could bring back an entry that was reported as failed."""
        try:
            self._cut()
        except OSError as exc:
            self._failed = reason(exc)
            raise LogUnusable(self._failed) from exc
        self._sync()

    def _cut(self) -> None:
        """Let the file end with its last record."""
        self._file.truncate(self._bytes)
        self._room_until = self._bytes

    def _sync(self) -> None:
        try:
            self._file.sync()
        except OSError as exc:
            # After a failed sync Linux drops the dirty pages and reports success next time: trying again would acknowledge
            # what was never written. What is on the medium is unknown, so nothing may build on it.
            self._failed = reason(exc)
            raise LogUnusable(self._failed) from exc
        self._synced_bytes = self._bytes

    def _begin_segment(self) -> None:
        """Go on in a new file. The one before ends with its last record, on the medium, and stays open until the new one has
        its name."""
        segment, sealer = Segment(self._segments[-1].number + 1), self._keys.current
        try:
            self._cut()
            self._sync()
            file, size = _new_segment(self._disk, sealer, self._identity, segment, self._state)
        except OSError as exc:
            raise StorageFailed(f"can't begin a new log segment: {reason(exc)}", hint=FREE_SPACE) from exc
        self._file.close()
        self._file, self._bytes, self._synced_bytes, self._room_until = file, size, size, size
        self._segments.append(segment)
        self._sealer = sealer
        self._codec = Codec(_header(segment.number, self._identity, sealer), sealer)
        try:
            self._disk.sync_names()
        except OSError as exc:
            self._failed = reason(exc)  # the name may vanish in a crash, and with it all that would be written there
            raise LogUnusable(self._failed) from exc


def _header(number: int, identity: Identity, sealer: Sealer) -> Header:
    return Header(LOG_MAGIC, number, 0, identity, sealer.key_id)


def _new_segment(disk: Disk, sealer: Sealer, identity: Identity, segment: Segment, state: LogState) -> tuple[DiskFile, int]:
    """A file with header and opening record, on the medium before it gets its name. Returns it with its size; the name
    itself is not synced yet. Raises OSError, having left nothing."""
    header = _header(segment.number, identity, sealer)
    opening = header.encode()
    opening += Codec(header, sealer).encode(state.opening(), len(opening), 0)
    temporary = segment.name + TEMPORARY
    if temporary in disk.names():  # an attempt that a crash, or an error, ended before it could be removed
        disk.remove(temporary)
    file = disk.create(temporary)
    try:
        write_all(file, opening)
        file.sync()
        disk.rename(temporary, segment.name)
    except OSError:
        file.close()
        disk.remove(temporary)
        raise
    return file, len(opening)
