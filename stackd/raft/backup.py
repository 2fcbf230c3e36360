"""A backup: the replicated state of a cluster in one file, and how it is written and read.

    header   as of every file (frame.py), sealed with the cluster's backup key
    keys     length, then a copy of the key file of the member that wrote it: its holder can open the backup, unless
             autolock is on; then it takes the unlock key too
    records  who the members were; the pieces of a snapshot; the entries that follow it; the end with the counts of both

It holds what every member of the cluster knows and nothing of one member's own, so any node can go on from it (`restore.py`).
A file that has a backup's name is whole when it was written; one that doesn't read back is damaged and is not used at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.raft.consensus import Keyring, Sealer
from stackd.raft.directory import read_directory
from stackd.raft.disk import TEMPORARY, SystemDisk, reason, write_all
from stackd.raft.frame import HEADER_BYTES, Codec, Header, Identity, Kind, Record, read_header
from stackd.raft.membership import Membership, decode_membership
from stackd.raft.snapshot import rechunked
from stackd.raft.state import Position
from stackd.raft.storage import read_history

BACKUP_MAGIC = b"stackdBK"

_WINDOW_BYTES = 4 * 1024 * 1024
"""Read at once; holds any record."""
_MAX_KEY_BYTES = 256 * 1024
_LENGTH_BYTES = 4
_ENTRIES = (Kind.ENTRY, Kind.MEMBERS)


@dataclass(frozen=True, slots=True)
class Content:
    """What a backup holds. `chunks` is the state at `position`, where `membership` held; `entries` follow it."""

    identity: Identity
    position: Position
    membership: Membership
    chunks: Iterable[bytes]
    entries: Iterable[Record] = ()


def content_of(path: Path, keys: Keyring, initial: Membership) -> Content:
    """What the member's directory at `path` holds, which no member is using; nothing in it is changed. Entries that may not
    be committed are among it: they may as well have been acknowledged. `initial` is the membership if it tells none.

    Raises StackdError as opening the directory does."""
    directory = read_directory(path)
    history = read_history(directory.disk, keys, directory.identity, initial)
    entries = [Record(Kind(entry.kind), entry.index, entry.term, entry.data) for entry in history.entries]
    chunks = history.snapshot.chunks() if history.snapshot else ()
    return Content(directory.identity, history.position, history.membership, chunks, entries)


def write_backup(path: Path, content: Content, sealer: Sealer, key_file: bytes) -> None:
    """Write `content` to `path`; on return it is on the medium. `key_file` comes along as it is. Raises as `store_backup`."""
    store_backup(path, pieces(content, sealer, key_file))


def store_backup(path: Path, backup: Iterable[bytes]) -> None:
    """Write the bytes of a backup to `path`, where they appear once all of them are on the medium.
    Raises StackdError("raft.backup.exists") or ("raft.backup.not_written"), having left nothing."""
    disk = SystemDisk(path.parent)
    if path.exists():
        raise StackdError("raft.backup.exists", f"there is already a file {path}; it is kept")
    try:
        file = disk.create(path.name + TEMPORARY)
        try:
            for piece in backup:
                write_all(file, piece)
            file.sync()
            disk.rename(path.name + TEMPORARY, path.name)
            disk.sync_names()
        except BaseException:
            disk.remove(path.name + TEMPORARY)
            raise
        finally:
            file.close()
    except OSError as exc:
        raise StackdError("raft.backup.not_written", f"can't write {path}: {reason(exc)}") from exc


def key_file_in(path: Path) -> bytes:
    """The copy of the key file that the backup at `path` carries. Raises StackdError with raft.backup.unreadable, .foreign
    or .damaged, or raft.file.newer_version."""
    with _open(path) as file:
        _header(path, file)
        return _key_file(path, file)


class Backup:
    """A backup that is being read: who the members were, then `chunks`, then `entries`, each once and in this order."""

    def __init__(self, path: Path, file: BinaryIO, sealer: Sealer) -> None:
        """Raises StackdError with raft.backup.foreign, .damaged or .other_key, or raft.file.newer_version."""
        header = _header(path, file)
        if header.key_id != sealer.key_id:
            why = f"{path} is sealed with key {header.key_id}, but the cluster's is {sealer.key_id}"
            raise StackdError("raft.backup.other_key", why, hint="use the keys that the backup carries")
        _key_file(path, file)
        self.identity = header.identity
        self.position = Position(header.number, header.term)
        self._path = path
        self._file = file
        self._chunks = 0
        self._records = self._read(Codec(header, sealer))
        self._next = next(self._records)
        self.membership = self._membership()

    def chunks(self) -> Iterator[bytes]:
        """The state at `position`. Raises StackdError("raft.backup.damaged")."""
        count = 0
        while self._next.kind is Kind.CHUNK and self._next.index == count:
            yield self._next.body
            self._advance()
            count += 1
        self._chunks = count

    def entries(self) -> Iterator[Record]:
        """The entries after `position`; having given the last one, it has seen that the file is whole.
        Raises StackdError("raft.backup.damaged")."""
        index = self.position.index
        while self._next.kind in _ENTRIES and self._next.index == index + 1:
            yield self._next
            self._advance()
            index += 1
        if self._next != Record(Kind.END, self._chunks, index - self.position.index):
            raise self.damaged("a record is not where it was written")

    def _advance(self) -> None:
        self._next = next(self._records)

    def _membership(self) -> Membership:
        try:
            if self._next.kind is not Kind.MEMBERS:
                raise self.damaged("it doesn't say who the members were")
            membership: Membership = decode_membership(self._next.body)
        except msgspec.DecodeError as exc:
            raise self.damaged(str(exc)) from exc
        self._advance()
        return membership

    def _read(self, codec: Codec) -> Iterator[Record]:
        """Every record up to the end of the file, which must be the END record's."""
        window, before, at = b"", self._file.tell(), 0
        while True:
            found = codec.decode(window, at, before)
            if found is None:  # the window may have cut it off
                before, at = before + at, 0
                self._file.seek(before)
                window = self._file.read(_WINDOW_BYTES)
                found = codec.decode(window, at, before)
            if found is None:
                raise self.damaged(f"the record at byte {before} is not as it was written, or not all of it is there")
            at = found.end
            if found.record.kind is Kind.END and (at < len(window) or self._file.read(1)):
                raise self.damaged("something follows its end")
            yield found.record

    def damaged(self, why: str) -> StackdError:
        """The error that says so."""
        return _damaged(self._path, why)


@contextmanager
def open_backup(path: Path, sealer: Sealer) -> Iterator[Backup]:
    """The backup at `path`, to be read inside the block. Raises as `Backup` does, and StackdError("raft.backup.unreadable")."""
    with _open(path) as file:
        yield Backup(path, file, sealer)


def pieces(content: Content, sealer: Sealer, key_file: bytes) -> Iterator[bytes]:
    """The bytes of a backup of `content`, as they stand in its file; `key_file` comes along as it is."""
    header = Header(BACKUP_MAGIC, content.position.index, content.position.term, content.identity, sealer.key_id)
    codec = Codec(header, sealer)
    head = header.encode() + len(key_file).to_bytes(_LENGTH_BYTES) + key_file
    yield head
    place = len(head)
    for record in _records(content):
        encoded = codec.encode(record, place, 0)
        yield encoded
        place += len(encoded)


def _records(content: Content) -> Iterator[Record]:
    chunks = entries = 0
    yield Record(Kind.MEMBERS, body=encode(content.membership))
    for chunk in rechunked(content.chunks):
        yield Record(Kind.CHUNK, chunks, body=chunk)
        chunks += 1
    for entry in content.entries:
        yield entry
        entries += 1
    yield Record(Kind.END, chunks, entries)


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as exc:
        raise StackdError("raft.backup.unreadable", f"can't read {path}: {reason(exc)}") from exc


def _header(path: Path, file: BinaryIO) -> Header:
    data = file.read(HEADER_BYTES)
    if not data.startswith(BACKUP_MAGIC):
        raise StackdError("raft.backup.foreign", f"{path} is no backup of stackd")
    return read_header(str(path), data, BACKUP_MAGIC)


def _key_file(path: Path, file: BinaryIO) -> bytes:
    length = int.from_bytes(file.read(_LENGTH_BYTES))
    key_file = file.read(length) if length <= _MAX_KEY_BYTES else b""
    if len(key_file) != length:
        raise _damaged(path, "its keys are not all there")
    return key_file


def _damaged(path: Path, why: str) -> StackdError:
    return StackdError("raft.backup.damaged", f"{path} is damaged: {why}", hint="use another backup")
