"""Entries are read back as they were, whatever their size, and broken ones are told."""

from __future__ import annotations

import zlib

import pytest
from stackd.engine import entry
from stackd.engine.entry import COMPRESSED_FROM_BYTES, pack, unpack
from stackd.engine.store import Store


@pytest.mark.parametrize("size", [0, 1, COMPRESSED_FROM_BYTES - 1, COMPRESSED_FROM_BYTES, 10 * COMPRESSED_FROM_BYTES])
def test_every_entry_is_read_back(size: int) -> None:
    content = (b"\x93settings" * size)[:size]
    assert unpack(pack(content)) == content


def test_large_entries_shrink_and_small_ones_stay_as_they_are() -> None:
    assert len(pack(b"\x93" + b"replicas" * 100_000)) < 10_000
    assert pack(b"\x93abc") == b"\x93abc"


def test_broken_entries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pack(b"\x93" + bytes(COMPRESSED_FROM_BYTES))
    for broken in (whole[:-3], whole + b"x", b"\x78nonsense"):
        with pytest.raises(ValueError, match="entry"):
            unpack(broken)
    monkeypatch.setattr(entry, "CONTENT_BYTES_MAX", 1000)
    with pytest.raises(ValueError, match="too large"):
        unpack(zlib.compress(bytes(2000)))


def test_a_broken_entry_changes_nothing_and_is_counted() -> None:
    store = Store()
    store.apply(1, b"\x78nonsense")
    assert (store.index, store.view.version, store.undecodable) == (1, 0, 1)
