"""The keys of simulated machines. They hide nothing: a seed's time goes into other things.

But a sealer notices what was moved, and what was sealed with another key, as a real one does; and the ring rotates and
forgets as the one of `stackd.security.keyring` does, so that what survives a rotation is really tried.
"""

from __future__ import annotations

import zlib

from stackd.base.errors import StackdError
from stackd.raft.disk import TEMPORARY
from stackd.raft.frame import HEADER_BYTES, LOG_MAGIC, SNAPSHOT_MAGIC, read_header
from stackd.raft.memory_disk import MemoryDisk

_TAG_BYTES = 28


class PlainSealer:
    """One key."""

    def __init__(self, number: int) -> None:
        self.key_id = f"plain{number}"

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        return plaintext + self._tag(associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        if sealed[-_TAG_BYTES:] != self._tag(associated):
            raise StackdError("security.seal.broken", "it was sealed with another key, or for another place")
        return sealed[:-_TAG_BYTES]

    def _tag(self, associated: bytes) -> bytes:
        return zlib.crc32(associated, zlib.crc32(self.key_id.encode())).to_bytes(_TAG_BYTES, "little")


class PlainKeys:
    """The ring of one machine; it outlives the process, as the key file does."""

    def __init__(self) -> None:
        self._rotations = 0
        self._current = PlainSealer(0)
        self._sealers = {self._current.key_id: self._current}

    @property
    def current(self) -> PlainSealer:
        return self._current

    def find(self, key_id: str) -> PlainSealer | None:
        return self._sealers.get(key_id)

    def rotate(self) -> None:
        """Seal with a new key from the next file on."""
        self._rotations += 1
        self._current = PlainSealer(self._rotations)
        self._sealers[self._current.key_id] = self._current

    def forget_unused(self, disk: MemoryDisk) -> None:
        """Keep those that a file on `disk` is sealed with, and the current one."""
        kept = {self._current.key_id, *_key_ids(disk)}
        self._sealers = {key_id: sealer for key_id, sealer in self._sealers.items() if key_id in kept}


def _key_ids(disk: MemoryDisk) -> set[str]:
    found = set()
    for name in disk.names():
        if not name.endswith(TEMPORARY):
            magic = LOG_MAGIC if name.startswith("log-") else SNAPSHOT_MAGIC
            found.add(read_header(name, disk.read_part(name, 0, HEADER_BYTES), magic).key_id)
    return found
