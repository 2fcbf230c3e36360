"""The disk of tests loses exactly what a real one may lose: a test that trusts it must not be told too much or too little."""

from __future__ import annotations

from random import Random

import pytest
from stackd.raft.memory_disk import MemoryDisk

MANY = 200


def found_after_power_cuts(disk: MemoryDisk) -> set[tuple[str, bytes] | None]:
    """Name and content of the only file, as many power cuts leave it; None where there is no file."""
    found = set()
    for seed in range(MANY):
        after = disk.after_power_cut(Random(seed))
        names = after.names()
        found.add((names[0], after.read(names[0])) if names else None)
    return found


def a_disk_with(synced: bytes) -> MemoryDisk:
    disk = MemoryDisk()
    file = disk.create("file")
    file.write(synced)
    file.sync()
    disk.sync_names()
    return disk


def test_what_was_synced_survives_a_power_cut() -> None:
    assert found_after_power_cuts(a_disk_with(b"synced")) == {("file", b"synced")}


def test_of_what_was_not_synced_any_beginning_may_survive_and_holes_read_as_zeros() -> None:
    disk = a_disk_with(b"s")
    disk.extend("file").write(b"ab")
    contents = {found[1] for found in found_after_power_cuts(disk) if found}
    assert contents == {b"s", b"sa", b"sab", b"s\0b", b"sa\0", b"s\0\0"}


def test_a_killed_process_loses_nothing_that_it_wrote() -> None:
    disk = a_disk_with(b"s")
    disk.extend("file").write(b"ab")
    assert disk.after_kill().read("file") == b"sab"


def test_a_truncation_that_was_not_synced_may_be_undone() -> None:
    disk = a_disk_with(b"abcd")
    disk.extend("file").truncate(2)
    assert found_after_power_cuts(disk) == {("file", b"abcd"), ("file", b"ab")}


def test_a_name_that_was_not_synced_may_be_lost_though_its_content_was_synced() -> None:
    disk = MemoryDisk()
    file = disk.create("file")
    file.write(b"x")
    file.sync()
    assert found_after_power_cuts(disk) == {("file", b"x"), None}


def test_names_reach_the_medium_in_the_order_of_their_changes() -> None:
    disk = a_disk_with(b"old")
    new = disk.create("new")
    new.write(b"new")
    new.sync()
    disk.rename("new", "renamed")
    disk.remove("file")
    left = {tuple(disk.after_power_cut(Random(seed)).names()) for seed in range(MANY)}
    assert left == {("file",), ("file", "new"), ("file", "renamed"), ("renamed",)}


def test_what_a_crash_left_is_there_also_after_the_next_one() -> None:
    disk = a_disk_with(b"s")
    disk.extend("file").write(b"ab")
    after = disk.after_kill()
    assert found_after_power_cuts(after) == {("file", b"sab")}


def test_a_crash_does_not_touch_the_disk_of_the_one_who_looks() -> None:
    disk = a_disk_with(b"s")
    disk.extend("file").write(b"ab")
    disk.after_kill().extend("file").write(b"more")
    assert disk.read("file") == b"sab"


def test_room_that_was_reserved_reads_as_zeros_and_is_taken_by_the_next_write() -> None:
    disk = a_disk_with(b"s")
    file = disk.extend("file")
    file.reserve(4)
    file.sync()
    file.write(b"ab")
    assert disk.read("file") == b"sab\0\0"
    contents = {found[1] for found in found_after_power_cuts(disk) if found}
    assert contents == {b"s\0\0\0\0", b"sa\0\0\0", b"s\0b\0\0", b"sab\0\0"}


def test_a_full_disk_takes_what_was_reserved_and_nothing_more() -> None:
    disk = a_disk_with(b"s")
    file = disk.extend("file")
    file.reserve(4)
    disk.capacity_bytes = disk.used_bytes()
    assert file.write(b"abcdef") == 4
    with pytest.raises(OSError, match="no space"):
        file.write(b"ef")
