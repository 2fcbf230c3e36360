"""Snapshots on disk: the whole state up to one entry, in sealed pieces.

A snapshot is written beside the old one and gets its name when it is whole and on the medium; only then may the old one
and the log below it go. So a file that has a snapshot's name is whole, and one that doesn't read back is damaged, not
half-written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stackd.base.errors import StackdError
from stackd.raft.consensus import Sealer, StorageFailed
from stackd.raft.disk import TEMPORARY, Disk, DiskFile, reason, write_all
from stackd.raft.frame import (
    FROM_BACKUP,
    HEADER_BYTES,
    SNAPSHOT_MAGIC,
    Codec,
    Header,
    Identity,
    Kind,
    Record,
    check_owner,
    read_header,
)
from stackd.raft.state import Position

CHUNK_BYTES = 256 * 1024
"""Size of a sealed piece: large enough that sealing costs little, small enough to hold the interpreter only briefly."""

_NAME = re.compile(r"snapshot-(\d{16})")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot read back. The state has every entry up to `position` and none behind it."""

    position: Position
    content: bytes


class Snapshots:
    """The snapshots of one member: one or none, and an older one for the moment that replacing it takes."""

    def __init__(self, disk: Disk, sealer: Sealer, identity: Identity) -> None:
        self._disk = disk
        self._sealer = sealer
        self._identity = identity

    def latest(self) -> Snapshot | None:
        """Read the newest one. Raises StackdError with raft.snapshot.damaged or one of raft.file.*; OSError if the disk
        can't be read."""
        indexes = self._indexes()
        return self._read(indexes[-1]) if indexes else None

    def write(self, position: Position, chunks: Iterable[bytes]) -> None:
        """Make `chunks` the newest snapshot; on return it is on the medium. Raises StorageFailed, having left nothing."""
        name = _name(position.index)
        try:
            file = self._disk.create(name + TEMPORARY)
            try:
                self._write(file, position, chunks)
                file.sync()
                self._disk.rename(name + TEMPORARY, name)
            except BaseException:
                self._disk.remove(name + TEMPORARY)
                raise
            finally:
                file.close()
            self._disk.sync_names()
        except OSError as exc:
            raise StorageFailed(f"can't write the snapshot at entry {position.index}: {reason(exc)}") from exc

    def remove_before(self, index: int) -> None:
        """Remove the snapshots that the one at `index` replaces. Those that can't be removed are in nobody's way."""
        try:
            for older in self._indexes():
                if older < index:
                    self._disk.remove(_name(older))
        except OSError:
            pass

    def _indexes(self) -> list[int]:
        return sorted(int(match[1]) for name in self._disk.names() if (match := _NAME.fullmatch(name)))

    def _write(self, file: DiskFile, position: Position, chunks: Iterable[bytes]) -> None:
        header = Header(SNAPSHOT_MAGIC, position.index, position.term, self._identity, self._sealer.key_id)
        codec = Codec(header, self._sealer)
        write_all(file, header.encode())
        size, count = HEADER_BYTES, 0
        for chunk in _rechunked(chunks):
            record = codec.encode(Record(Kind.CHUNK, index=count, body=chunk), size, 0)
            write_all(file, record)
            size, count = size + len(record), count + 1
        write_all(file, codec.encode(Record(Kind.END, index=count), size, 0))

    def _read(self, index: int) -> Snapshot:
        path = self._disk.path_of(_name(index))
        data = self._disk.read(_name(index))
        header = read_header(path, data, SNAPSHOT_MAGIC)
        check_owner(path, header, self._identity, self._sealer)
        if header.number != index:
            raise _damaged(path, 0, f"it was written as the snapshot at entry {header.number}")
        content = b"".join(_chunks(path, data, Codec(header, self._sealer)))
        return Snapshot(Position(index, header.term), content)


def _chunks(path: str, data: bytes, codec: Codec) -> Iterator[bytes]:
    offset, count = HEADER_BYTES, 0
    while (found := codec.decode(data, offset)) and found.record.kind is Kind.CHUNK and found.record.index == count:
        yield found.record.body
        offset, count = found.end, count + 1
    if not found or found.record != Record(Kind.END, index=count) or found.end != len(data):
        raise _damaged(path, offset, "the record there is not as it was written")


def _rechunked(chunks: Iterable[bytes]) -> Iterator[bytes]:
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


def _damaged(path: str, offset: int, why: str) -> StackdError:
    return StackdError("raft.snapshot.damaged", f"{path} is damaged at byte {offset}: {why}", hint=FROM_BACKUP)
