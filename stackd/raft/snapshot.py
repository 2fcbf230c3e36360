"""Snapshots on disk: the whole state up to one entry, in sealed pieces.

A snapshot is written beside the old one and gets its name when it is whole and on the medium; only then may the old one
and the log below it go. So a file that has a snapshot's name is whole, and one that doesn't read back is damaged, not
half-written.

One that another member sent comes under a name of its own (`received-`). It takes a snapshot's name after the log says
that it replaces what was there: whichever of the two a crash leaves, the start knows whether the installation took place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO

from stackd.base.errors import StackdError
from stackd.raft.consensus import Keyring, StorageFailed
from stackd.raft.disk import TEMPORARY, Disk, reason, write_all
from stackd.raft.frame import (
    FROM_BACKUP,
    HEADER_BYTES,
    SNAPSHOT_MAGIC,
    Codec,
    Header,
    Identity,
    Kind,
    Read,
    Record,
    check_owner,
    read_header,
)
from stackd.raft.state import Position

CHUNK_BYTES = 256 * 1024
"""Size of a sealed piece: large enough that sealing costs little, small enough to hold the interpreter only briefly."""

SYNC_BYTES = CHUNK_BYTES
"""Written between two syncs. The log is synced on the same disk meanwhile, and waits for what is dirty: with some MiB of it
writes wait for half a second on a busy disk, long enough to cost the leader its office."""

_READ_BYTES = CHUNK_BYTES + 1024
"""Holds any record of a snapshot."""

_NAME = re.compile(r"(snapshot|received)-(\d{16})")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot read back. The state has every entry up to `position` and none behind it; `membership` is who the members
    were there, encoded, or b"" if it was written by a member that never had another one."""

    position: Position
    content: bytes
    membership: bytes = b""


class SnapshotWriter:
    """One snapshot while it is being written. Used from one thread at a time; all methods raise OSError."""

    def __init__(self, disk: Disk, keys: Keyring, identity: Identity, position: Position, membership: bytes, name: str) -> None:
        sealer = keys.current
        header = Header(SNAPSHOT_MAGIC, position.index, position.term, identity, sealer.key_id)
        self.position = position
        self._disk = disk
        self._name = name
        self._codec = Codec(header, sealer)
        self._size = self._unsynced = self._chunks = 0
        if name + TEMPORARY in disk.names():  # an attempt that was given up and could not be removed
            disk.remove(name + TEMPORARY)
        self._file = disk.create(name + TEMPORARY)
        try:
            self._write(header.encode())
            if membership:
                self._write(self._codec.encode(Record(Kind.MEMBERS, body=membership), self._size, 0))
        except OSError:
            self.abandon()
            raise

    def add(self, chunk: bytes) -> None:
        """Append a piece of at most CHUNK_BYTES."""
        self._write(self._codec.encode(Record(Kind.CHUNK, index=self._chunks, body=chunk), self._size, 0))
        self._chunks += 1
        if self._unsynced >= SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0

    def finish(self) -> None:
        """On return the snapshot is whole, on the medium, and has its name."""
        self._write(self._codec.encode(Record(Kind.END, index=self._chunks), self._size, 0))
        self._file.sync()
        self._file.close()
        self._disk.rename(self._name + TEMPORARY, self._name)
        self._disk.sync_names()

    def abandon(self) -> None:
        """Remove what there is. A file that can't be removed is in nobody's way."""
        self._file.close()
        try:
            self._disk.remove(self._name + TEMPORARY)
        except OSError:
            pass

    def _write(self, data: bytes) -> None:
        write_all(self._file, data)
        self._size += len(data)
        self._unsynced += len(data)


class SnapshotReader:
    """A snapshot on disk, read piece by piece: it is never in memory as a whole."""

    def __init__(self, disk: Disk, keys: Keyring, identity: Identity, index: int, name: str) -> None:
        """Raises StackdError with raft.snapshot.damaged or one of raft.file.*; OSError."""
        self._disk = disk
        self._name = name
        self._path = disk.path_of(self._name)
        header = read_header(self._path, disk.read_part(self._name, 0, HEADER_BYTES), SNAPSHOT_MAGIC)
        self._codec = Codec(header, check_owner(self._path, header, identity, keys))
        if header.number != index:
            raise _damaged(self._path, 0, f"it was written as the snapshot at entry {header.number}")
        self.position = Position(index, header.term)
        self._start = HEADER_BYTES
        self.membership = b""
        first = self._record_at(HEADER_BYTES)
        if first.record.kind is Kind.MEMBERS:
            self.membership, self._start = first.record.body, first.end

    def chunks(self) -> Iterator[bytes]:
        """The content. Raises StackdError("raft.snapshot.damaged"); OSError, also when a newer snapshot has replaced it."""
        offset, count = self._start, 0
        while (found := self._record_at(offset)).record.kind is Kind.CHUNK:
            if found.record.index != count:
                raise _damaged(self._path, offset, "the record there is not as it was written")
            yield found.record.body
            offset, count = found.end, count + 1
        if found.record != Record(Kind.END, index=count) or self._disk.read_part(self._name, found.end, 1):
            raise _damaged(self._path, offset, "the record there is not as it was written")

    def _record_at(self, offset: int) -> Read:
        """The record at `offset`; its `end` counts from the file's beginning too."""
        found = self._codec.decode(self._disk.read_part(self._name, offset, _READ_BYTES), 0, offset)
        if found is None:
            raise _damaged(self._path, offset, "the record there is not as it was written")
        return found._replace(end=offset + found.end)


class Snapshots:
    """The snapshots of one member: one or none, and an older one for the moment that replacing it takes."""

    def __init__(self, disk: Disk, keys: Keyring, identity: Identity) -> None:
        self._disk = disk
        self._keys = keys
        self._identity = identity

    def latest(self) -> Snapshot | None:
        """Read the newest one. Raises StackdError with raft.snapshot.damaged or one of raft.file.*; OSError if the disk
        can't be read."""
        reader = self.reader()
        return Snapshot(reader.position, _joined(reader.chunks()), reader.membership) if reader else None

    def reader(self, log_index: int = 0) -> SnapshotReader | None:
        """The newest one, to be read in pieces; with `log_index`, where the log's snapshot is, also one that a crash has kept
        from its place. Raises as `latest` does."""
        if log_index in self._indexes("received"):
            return self._read(log_index, _received(log_index))
        indexes = self._indexes()
        return self._read(indexes[-1], _name(indexes[-1])) if indexes else None

    def write(self, position: Position, chunks: Iterable[bytes], membership: bytes = b"") -> None:
        """Make `chunks` the newest snapshot; on return it is on the medium. Raises StorageFailed, having left nothing."""
        try:
            writer = self._writer(position, membership, _name(position.index))
            try:
                for chunk in rechunked(chunks):
                    writer.add(chunk)
                writer.finish()
            except BaseException:
                writer.abandon()
                raise
        except OSError as exc:
            raise StorageFailed(f"can't write the snapshot at entry {position.index}: {reason(exc)}") from exc

    def receive(self, position: Position, membership: bytes) -> SnapshotWriter:
        """Begin to write a snapshot that another member sends. When it is whole and the log says so: `adopt_received`.
        Raises OSError."""
        return self._writer(position, membership, _received(position.index))

    def adopt_received(self, index: int) -> None:
        """The received snapshot takes its place. Raises OSError."""
        self._disk.rename(_received(index), _name(index))
        self._disk.sync_names()

    def adopt_installed(self, log_index: int) -> None:
        """At a start, end an installation that a crash interrupted: the log, whose snapshot is at `log_index`, speaks of
        the received one already. Raises OSError."""
        if log_index in self._indexes("received"):
            self.adopt_received(log_index)

    def remove_received(self) -> None:
        """Remove received snapshots that never took anything's place. Raises OSError."""
        for index in self._indexes("received"):
            self._disk.remove(_received(index))

    def remove_before(self, index: int) -> None:
        """Remove the snapshots that the one at `index` replaces. Those that can't be removed are in nobody's way."""
        try:
            for older in self._indexes():
                if older < index:
                    self._disk.remove(_name(older))
        except OSError:
            pass

    def _read(self, index: int, name: str) -> SnapshotReader:
        return SnapshotReader(self._disk, self._keys, self._identity, index, name)

    def _writer(self, position: Position, membership: bytes, name: str) -> SnapshotWriter:
        return SnapshotWriter(self._disk, self._keys, self._identity, position, membership, name)

    def _indexes(self, kind: str = "snapshot") -> list[int]:
        matches = (_NAME.fullmatch(name) for name in self._disk.names())
        return sorted(int(match[2]) for match in matches if match and match[1] == kind)


@dataclass(frozen=True, slots=True)
class SnapshotJob:
    """A snapshot to be written, in any thread."""

    snapshots: Snapshots
    position: Position
    membership: bytes

    def write(self, chunks: Iterable[bytes]) -> None:
        """Raises StorageFailed, having left nothing."""
        self.snapshots.write(self.position, chunks, self.membership)


def _joined(chunks: Iterable[bytes]) -> bytes:
    """All of them, without ever holding them twice: join() would gather the chunks first."""
    content = BytesIO()
    for chunk in chunks:
        content.write(chunk)
    return content.getvalue()


def rechunked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of CHUNK_BYTES."""
    gathered = bytearray()
    for chunk in chunks:
        gathered += chunk
        while len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered[:CHUNK_BYTES])
            del gathered[:CHUNK_BYTES]
    if gathered:
        yield bytes(gathered)


def _name(index: int) -> str:
    return f"snapshot-{index:016d}"


def _received(index: int) -> str:
    return f"received-{index:016d}"


def _damaged(path: str, offset: int, why: str) -> StackdError:
    return StackdError("raft.snapshot.damaged", f"{path} is damaged at byte {offset}: {why}", hint=FROM_BACKUP)
