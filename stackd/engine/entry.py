"""What a transaction looks like as the content of a log entry.

Large ones are compressed: rows repeat each other's settings, so an entry that changes thousands of services shrinks to a
tenth, on every member's disk and on the way there. A first byte tells the forms apart: MessagePack begins an array of
three with 0x93, zlib its stream with 0x78.
"""

from __future__ import annotations

import zlib

COMPRESSED_FROM_BYTES = 16 * 1024
"""Below this, compressing costs more time than it saves: most entries are a few hundred bytes."""

CONTENT_BYTES_MAX = 64 * 1024 * 1024
"""What an entry may unpack to: no entry of ours comes near, and a broken one must not fill the memory."""

_ZLIB = b"\x78"
_LEVEL = 1


def pack(content: bytes) -> bytes:
    """An encoded transaction in the form in which it is proposed. Equal content gives an equal entry."""
    return zlib.compress(content, _LEVEL) if len(content) >= COMPRESSED_FROM_BYTES else content


def unpack(entry: bytes) -> bytes:
    """The encoded transaction in an entry. Raises ValueError for what `pack` didn't make."""
    if not entry.startswith(_ZLIB):
        return entry
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(entry, CONTENT_BYTES_MAX)
    except zlib.error as exc:
        raise ValueError(f"the entry can't be unpacked: {exc}") from exc
    if not stream.eof or stream.unused_data:
        raise ValueError("the entry is cut off, goes on behind its end, or is too large")
    return content
