"""Short ways to members, logs and disks for tests."""

from __future__ import annotations

from collections.abc import Sequence

from stackd.raft.consensus import Entry
from stackd.raft.frame import Identity, Kind, Record
from stackd.raft.member import ClusterMember
from stackd.raft.memory_disk import MemoryDisk
from stackd.raft.recovery import Recovered, read_log
from stackd.raft.settings import Settings
from stackd.raft.wal import SEGMENT_BYTES, Log
from stackd.security.keys import Purpose, RootKey

KEY = RootKey(b"k" * 32)
SEALER = KEY.sealer(Purpose.LOG)
US = Identity(cluster="cluster1", member="member1")


def an_entry(index: int, data: bytes = b"data", term: int = 1) -> Record:
    return Record(Kind.ENTRY, index, term, data)


def a_disk_with_a_log() -> MemoryDisk:
    disk = MemoryDisk()
    Log.create(disk, SEALER, US)
    return disk


def read(disk: MemoryDisk) -> Recovered:
    return read_log(disk, SEALER, US)


def open_log(disk: MemoryDisk, segment_bytes: int = SEGMENT_BYTES) -> Log:
    return Log.resume(disk, SEALER, US, read(disk), segment_bytes=segment_bytes)


def entries_of(records: Sequence[Record]) -> list[Entry]:
    return [Entry(record.index, record.term, record.body) for record in records if record.kind is Kind.ENTRY]


def a_member(disk: MemoryDisk, **settings: int) -> ClusterMember:
    """The only member of a cluster."""
    return ClusterMember(disk, SEALER, US, settings=Settings(**settings))  # type: ignore[arg-type]


def last_segment(disk: MemoryDisk) -> str:
    return max(name for name in disk.names() if name.startswith("log-"))
