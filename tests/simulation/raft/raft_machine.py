"""What the simulated members replicate: a table of keys, and a digest of everything that ever led to it.

The digest chains all applied entries, through snapshots too: two members that have applied the same index and differ in
anything, ever, differ in it.
"""

from __future__ import annotations

import hashlib

import msgspec
from stackd.raft.consensus import Entry


class Put(msgspec.Struct, frozen=True, array_like=True):
    """The only command. `value` is unique, so it also names the command; `padding` makes it large; `level` is the feature level
    that whoever reads it must have."""

    key: str
    value: str
    padding: bytes = b""
    level: int = 1


class _Content(msgspec.Struct, array_like=True):
    index: int
    digest: bytes
    table: dict[str, str]
    level: int
    padding: bytes


_decode_put = msgspec.msgpack.Decoder(Put).decode
_decode_content = msgspec.msgpack.Decoder(_Content).decode
encode = msgspec.msgpack.Encoder().encode


def read_command(entry: Entry) -> Put | None:
    """The command, if the entry holds one."""
    return _decode_put(entry.data) if entry.data else None


class Machine:
    """The state at `index`."""

    def __init__(self, snapshot: bytes | None) -> None:
        content = _decode_content(snapshot) if snapshot else _Content(0, b"", {}, 1, b"")
        self.index, self.digest, self.table = content.index, content.digest, content.table
        self.level = content.level
        """The highest of what was applied."""

    def apply(self, entry: Entry) -> Put | None:
        """Returns the command, if the entry holds one."""
        chained = self.digest + entry.index.to_bytes(8, "little") + entry.term.to_bytes(8, "little") + entry.data
        self.digest = hashlib.blake2b(chained, digest_size=16).digest()
        self.index = entry.index
        command = read_command(entry)
        if command is None:
            return None
        self.table[command.key] = command.value
        self.level = max(self.level, command.level)
        return command

    def snapshot(self, padding_bytes: int) -> bytes:
        """The state, made larger so that it takes several pieces to send."""
        return encode(_Content(self.index, self.digest, self.table, self.level, bytes(padding_bytes)))
