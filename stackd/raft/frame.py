"""The form of files on disk: a header that says whose file it is, then sealed records.

    header   magic  version  feature level  number  term  cluster  member  key id  crc          128 bytes, plain
    record   marker  crc  length  kind  synced  index  term  | sealed body                        37 bytes + body + 28

Log segments and snapshots share it. It knows neither what a sequence of records means (`wal.py`, `snapshot.py`) nor what
lies in a body.

A body is sealed with everything that places it as associated data: the header of its file, its offset, its kind, index
and term. So no record can be moved, repeated or taken into another file unnoticed. The checksum is there beside the seal
to find damage cheaply, without a key.

`synced` is the size up to which the file was known to be on the medium when the record was written. It tells a torn
write from damage: if a good record lies behind a bad one and was written after the bad one's place had been synced, then
the bad one was once good, and acknowledged.
"""

from __future__ import annotations

import enum
import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from stackd.base.errors import StackdError
from stackd.raft.consensus import MAX_ENTRY_BYTES, Keyring, Sealer

LOG_MAGIC = b"stackdWL"
SNAPSHOT_MAGIC = b"stackdSN"

FORMAT_VERSION = 1
"""Of header and record. A file of a higher version is refused."""

FEATURE_LEVEL = 1
"""What this code can read beyond the format's version; raised with each new kind of record."""

MAX_BODY_BYTES = MAX_ENTRY_BYTES + 1024
"""A longer record is damage: nothing is read into memory on the word of a broken length."""

FROM_BACKUP = "nothing was changed; restore the data directory from a backup"
"""The hint for damage."""

_HEADER = struct.Struct("<8sHHQQ32s32s32sI")
_VERSION = struct.Struct("<8sHH")
_RECORD = struct.Struct("<4sIIBQQQ")
_CHECKED = struct.Struct("<IBQQQ")
_PLACE = struct.Struct("<QBQQQ")
_CHECKED_FROM = _RECORD.size - _CHECKED.size
"""The checksum covers a record from here: all but the marker and itself."""

_MARKER = b"\xf5SRD"
"""Where a record may begin: what a search for good records behind a bad one looks for."""

HEADER_BYTES = _HEADER.size


class Kind(enum.IntEnum):
    """What a record says. The numbers are part of the format."""

    START = 1
    """Opens a segment: index and term of the entry before it."""
    ENTRY = 2
    TRUNCATE = 3
    """The entries from `index` on are void."""
    VOTE = 4
    """The member is in `term` and has voted for the candidate in the body, if any."""
    COMMIT = 5
    """The entries up to `index` are committed."""
    SNAPSHOT = 6
    """A snapshot holds everything up to `index`, whose entry was of `term`."""
    CHUNK = 7
    """A piece of a snapshot's content; `index` counts from 0."""
    END = 8
    """The snapshot is whole and has `index` chunks."""
    MEMBERS = 9
    """An entry whose body says who the members are from here on; or, first in a snapshot, who they were at its place."""


_KINDS = {int(kind): kind for kind in Kind}


class Record(msgspec.Struct, frozen=True):
    """One record, opened."""

    kind: Kind
    index: int = 0
    term: int = 0
    body: bytes = b""


class Read(NamedTuple):
    """A record as found in a file, and where the next one begins."""

    record: Record
    synced: int
    end: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose files these are: ids of at most 32 ASCII characters."""

    cluster: str
    member: str


@dataclass(frozen=True, slots=True)
class Header:
    """The first bytes of a file. `number` is a segment's number, or a snapshot's index."""

    magic: bytes
    number: int
    term: int
    identity: Identity
    key_id: str

    def encode(self) -> bytes:
        plain = _HEADER.pack(
            self.magic,
            FORMAT_VERSION,
            FEATURE_LEVEL,
            self.number,
            self.term,
            _padded(self.identity.cluster),
            _padded(self.identity.member),
            _padded(self.key_id),
            0,
        )[:-4]
        return plain + _crc(plain)


def read_header(path: str, data: bytes, magic: bytes) -> Header:
    """The header of the file `path`. Raises StackdError with raft.file.foreign, .newer_version, .newer_feature_level, or
    .damaged_header."""
    if len(data) < _VERSION.size or data[: len(magic)] != magic:
        raise StackdError("raft.file.foreign", f"{path} was not written by stackd", hint="move it out of the data directory")
    _, version, level = _VERSION.unpack_from(data)
    if version > FORMAT_VERSION:
        why = f"{path} has format {version}; this stackd reads formats up to {FORMAT_VERSION}"
        raise StackdError("raft.file.newer_version", why, hint="upgrade stackd")
    if (
        len(data) < HEADER_BYTES
        or zlib.crc32(data[: HEADER_BYTES - 4]).to_bytes(4, "little") != data[HEADER_BYTES - 4 : HEADER_BYTES]
    ):
        raise StackdError("raft.file.damaged_header", f"the first {HEADER_BYTES} bytes of {path} are damaged", hint=FROM_BACKUP)
    if level > FEATURE_LEVEL:
        why = f"{path} needs feature level {level}; this stackd has {FEATURE_LEVEL}"
        raise StackdError("raft.file.newer_feature_level", why, hint="upgrade stackd")
    _, _, _, number, term, cluster, member, key_id, _ = _HEADER.unpack_from(data)
    return Header(magic, number, term, Identity(_unpadded(cluster), _unpadded(member)), _unpadded(key_id))


def check_owner(path: str, header: Header, identity: Identity, keys: Keyring) -> Sealer:
    """What opens the file, if it is ours. Raises StackdError with raft.file.other_cluster, .other_member or .other_key."""
    if header.identity.cluster != identity.cluster:
        why = f"{path} belongs to cluster {header.identity.cluster}, not to {identity.cluster}"
        raise StackdError("raft.file.other_cluster", why, hint="use the data directory it came from")
    if header.identity.member != identity.member:
        why = f"{path} belongs to node {header.identity.member}, not to {identity.member}"
        raise StackdError("raft.file.other_member", why, hint="a node's log can't serve another node: let this one join anew")
    sealer = keys.find(header.key_id)
    if sealer is None:
        why = f"{path} is sealed with key {header.key_id}, which is not at hand; the present one is {keys.current.key_id}"
        raise StackdError("raft.file.other_key", why, hint="put back the key file that belongs to this data directory")
    return sealer


class Codec:
    """Writes and reads the records of one file."""

    def __init__(self, header: Header, sealer: Sealer) -> None:
        self._sealer = sealer
        self._file = hashlib.sha256(header.encode()).digest()[:16]

    def encode(self, record: Record, offset: int, synced: int) -> bytes:
        """`record` as bytes for `offset` of the file."""
        place = _PLACE.pack(offset, record.kind, synced, record.index, record.term)
        sealed = self._sealer.seal(record.body, self._file + place)
        fields = _CHECKED.pack(len(sealed), record.kind, synced, record.index, record.term)
        crc = zlib.crc32(sealed, zlib.crc32(fields))
        return b"".join((_MARKER, crc.to_bytes(4, "little"), fields, sealed))

    def decode(self, data: bytes, offset: int, before: int = 0) -> Read | None:
        """The record at `offset` of `data`, or None if there is no good one; `before` is how much of the file comes before
        `data`."""
        start = offset + _RECORD.size
        if start > len(data):
            return None
        marker, crc, length, kind, synced, index, term = _RECORD.unpack_from(data, offset)
        end = start + length
        if marker != _MARKER or length > MAX_BODY_BYTES or end > len(data) or kind not in _KINDS:
            return None
        if zlib.crc32(memoryview(data)[offset + _CHECKED_FROM : end]) != crc:
            return None
        try:
            body = self._sealer.open(data[start:end], self._file + _PLACE.pack(before + offset, kind, synced, index, term))
        except StackdError:  # not of this file, or not of this place in it
            return None
        return Read(Record(_KINDS[kind], index, term, body), synced, end)

    def was_synced(self, data: bytes, offset: int) -> bool:
        """Whether the place of the bad record at `offset` is known to have been on the medium, which makes it damage and
        not a torn write: some good record behind it says so."""
        at = data.find(_MARKER, offset + 1)
        while at >= 0:
            later = self.decode(data, at)
            if later is not None and later.synced > offset:
                return True
            at = data.find(_MARKER, at + 1)
        return False


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _padded(text: str) -> bytes:
    raw = text.encode("ascii")
    if not 0 < len(raw) <= 32:
        raise ValueError(f"an id in a file header has 1 to 32 characters: {text!r}")
    return raw


def _unpadded(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii", "replace")
