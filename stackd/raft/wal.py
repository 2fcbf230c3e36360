"""The write-ahead log: what this member must not forget, on disk before anyone hears of it.

A log is a row of numbered segments. A segment appears under its name only when its opening record is on the medium, and
it is complete before the next one appears; so only the last segment can end in a torn write. Its opening record repeats
the log's position, vote, commit index and snapshot, so the segments before it can be deleted once a snapshot covers their
entries. Reading back is `recovery.py`.

Invariants: one `append` is one write and one sync, and it returns only after the sync. After a write that failed the file
is cut back to its last synced size. After a sync that failed the log refuses everything until the process starts again.
A log is used from one thread at a time, and keeps no entries in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from stackd.base.errors import Unavailable
from stackd.raft.consensus import Sealer, StorageFailed
from stackd.raft.disk import TEMPORARY, Disk, DiskFile, reason, write_all
from stackd.raft.frame import LOG_MAGIC, Codec, Header, Identity, Kind, Record
from stackd.raft.recovery import Recovered, Segment
from stackd.raft.state import LogState

SEGMENT_BYTES = 4 * 1024 * 1024
"""A segment past this size is followed by a new one. It bounds what a restart reads in vain below the snapshot."""

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
        sealer: Sealer,
        identity: Identity,
        recovered: Recovered,
        file: DiskFile,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._disk = disk
        self._sealer = sealer
        self._identity = identity
        self._segment_bytes = segment_bytes
        self._state = recovered.state
        self._segments = recovered.segments
        self._file = file
        self._bytes = recovered.good_bytes
        self._codec = Codec(_header(self._segments[-1].number, identity, sealer), sealer)
        self._failed = ""

    @staticmethod
    def create(disk: Disk, sealer: Sealer, identity: Identity) -> None:
        """Write the first segment of an empty log. Raises OSError."""
        file, _ = _new_segment(disk, sealer, identity, Segment(1), LogState())
        file.close()
        disk.sync_names()

    @classmethod
    def resume(
        cls, disk: Disk, sealer: Sealer, identity: Identity, recovered: Recovered, *, segment_bytes: int = SEGMENT_BYTES
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
        return cls(disk, sealer, identity, recovered, file, segment_bytes=segment_bytes)

    @property
    def state(self) -> LogState:
        """The state of what is on the medium. Not to be changed."""
        return self._state

    def append(self, records: Sequence[Record]) -> int:
        """Write `records` and return, once they are on the medium, how many bytes they took.

        Raises StorageFailed if they could not be written (then the log is as before and may be tried again), LogUnusable if
        they may or may not be on the medium, ValueError for records that can't follow (nothing is written)."""
        if self._failed:
            raise LogUnusable(self._failed)
        ahead = self._state.copy()
        for record in records:
            ahead.note(record)
        if self._bytes >= self._segment_bytes:
            self._begin_segment()
        data = self._encode(records)
        self._write(data)
        self._sync()
        self._state = ahead
        self._bytes += len(data)
        for record in records:
            self._segments[-1].note(record)
        return len(data)

    def drop_through(self, index: int) -> None:
        """Forget the entries up to `index`, which a snapshot on the medium holds. Raises as `append` does, and ValueError
        if the log never had that entry."""
        self.append([Record(Kind.SNAPSHOT, index, self._state.term_of(index))])
        try:
            while len(self._segments) > 1 and self._segments[0].last_index <= index:
                self._disk.remove(self._segments[0].name)
                del self._segments[0]
        except OSError:
            pass  # they are in nobody's way: tried again after the next snapshot, or removed at the next start

    def close(self) -> None:
        self._file.close()

    def _encode(self, records: Sequence[Record]) -> bytes:
        batch = bytearray()
        for record in records:
            batch += self._codec.encode(record, self._bytes + len(batch), self._bytes)
        return bytes(batch)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._file, data)
        except OSError as exc:
            self._cut_back()
            raise StorageFailed(f"can't write the log: {reason(exc)}", hint=FREE_SPACE) from exc

    def _cut_back(self) -> None:
        """Remove what a failed write left. Synced, or a crash could bring back an entry that was reported as failed."""
        try:
            self._file.truncate(self._bytes)
        except OSError as exc:
            self._failed = reason(exc)
            raise LogUnusable(self._failed) from exc
        self._sync()

    def _sync(self) -> None:
        try:
            self._file.sync()
        except OSError as exc:
            # After a failed sync Linux drops the dirty pages and reports success next time: trying again would acknowledge
            # what was never written. What is on the medium is unknown, so nothing may build on it.
            self._failed = reason(exc)
            raise LogUnusable(self._failed) from exc

    def _begin_segment(self) -> None:
        """Go on in a new file. The one before is synced to its end, and stays open until the new one has its name."""
        segment = Segment(self._segments[-1].number + 1)
        try:
            file, size = _new_segment(self._disk, self._sealer, self._identity, segment, self._state)
        except OSError as exc:
            raise StorageFailed(f"can't begin a new log segment: {reason(exc)}", hint=FREE_SPACE) from exc
        self._file.close()
        self._file, self._bytes = file, size
        self._segments.append(segment)
        self._codec = Codec(_header(segment.number, self._identity, self._sealer), self._sealer)
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
