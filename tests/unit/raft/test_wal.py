"""The log keeps what it acknowledged, cuts what it didn't, and refuses what it can't trust."""

from __future__ import annotations

import errno

import pytest
from stackd.base.errors import StackdError
from stackd.raft.consensus import StorageFailed
from stackd.raft.frame import HEADER_BYTES, LOG_MAGIC, Codec, Header, Identity, Kind, Record
from stackd.raft.memory_disk import Crash, MemoryDisk, Operation, Step
from stackd.raft.recovery import read_log
from stackd.raft.state import Position
from stackd.raft.wal import LogUnusable
from stackd.security.keys import Purpose, RootKey

from raft_builders import KEY, SEALER, US, a_disk_with_a_log, an_entry, entries_of, last_segment, open_log, read


def a_disk_with_batches(*batches: list[Record], segment_bytes: int = 1 << 20) -> MemoryDisk:
    disk = a_disk_with_a_log()
    log = open_log(disk, segment_bytes)
    for batch in batches:
        log.append(batch)
    return disk


def refusal(disk: MemoryDisk, identity: Identity = US, key: RootKey = KEY) -> StackdError:
    """How the log is refused; nothing may have been changed."""
    before = list(disk.journal)
    with pytest.raises(StackdError) as refused:
        read_log(disk, key.sealer(Purpose.LOG), identity)
    assert disk.journal == before
    return refused.value


def test_what_was_appended_is_read_back() -> None:
    disk = a_disk_with_batches([an_entry(1, b"a"), an_entry(2, b"")], [an_entry(3, b"c", term=4)])
    recovered = read(disk)
    assert recovered.entries == entries_of([an_entry(1, b"a"), an_entry(2, b""), an_entry(3, b"c", term=4)])
    assert recovered.state.last == Position(3, 4)


def test_the_vote_and_the_commit_index_are_read_back() -> None:
    vote = Record(Kind.VOTE, term=7, body=b"member2")
    disk = a_disk_with_batches([an_entry(1)], [vote, Record(Kind.COMMIT, 1)])
    state = read(disk).state
    assert (state.term, state.vote, state.commit) == (7, "member2", 1)


def test_truncated_entries_are_gone_and_others_may_take_their_place() -> None:
    disk = a_disk_with_batches(
        [an_entry(1), an_entry(2, b"void"), an_entry(3, b"void")],
        [Record(Kind.TRUNCATE, 2)],
        [an_entry(2, b"new", term=2)],
    )
    recovered = read(disk)
    assert [entry.data for entry in recovered.entries] == [b"data", b"new"]
    assert recovered.state.term_of(1) == 1
    assert recovered.state.last == Position(2, 2)


@pytest.mark.parametrize(
    "record",
    [
        an_entry(3),
        an_entry(1),
        an_entry(2, term=0),
        Record(Kind.TRUNCATE, 3),
        Record(Kind.COMMIT, 2),
        Record(Kind.SNAPSHOT, 1, term=9),
        Record(Kind.CHUNK),
    ],
    ids=lambda record: record.kind.name.lower(),
)
def test_a_record_that_cannot_follow_is_not_written(record: Record) -> None:
    disk = a_disk_with_batches([an_entry(1)])
    log = open_log(disk)
    before = len(disk.journal)
    with pytest.raises(ValueError, match=r"\w"):
        log.append([record])
    assert len(disk.journal) == before


def test_a_committed_entry_cannot_be_truncated() -> None:
    log = open_log(a_disk_with_batches([an_entry(1), an_entry(2)], [Record(Kind.COMMIT, 2)]))
    with pytest.raises(ValueError, match="committed"):
        log.append([Record(Kind.TRUNCATE, 2)])


def test_a_full_segment_is_followed_by_another() -> None:
    disk = a_disk_with_batches(*([an_entry(index, b"x" * 100)] for index in range(1, 21)), segment_bytes=600)
    assert len(disk.names()) > 3
    assert [entry.index for entry in read(disk).entries] == list(range(1, 21))


def test_segments_that_a_snapshot_covers_are_deleted_and_nothing_else() -> None:
    disk = a_disk_with_batches(*([an_entry(index, b"x" * 100)] for index in range(1, 21)), segment_bytes=600)
    before = len(disk.names())
    open_log(disk).drop_through(12)
    recovered = read(disk)
    assert len(disk.names()) < before
    assert [entry.index for entry in recovered.entries] == list(range(13, 21))
    assert recovered.state.snapshot == Position(12, 1)


def test_old_segments_that_came_back_are_ignored_and_removed() -> None:
    disk = a_disk_with_batches(*([an_entry(index, b"x" * 100)] for index in range(1, 21)), segment_bytes=600)
    old = {name: disk.read(name) for name in disk.names()}
    open_log(disk).drop_through(20)
    disk.create(min(old))
    disk.overwrite(min(old), old[min(old)])
    assert read(disk).leftovers == [min(old)]
    log = open_log(disk)
    log.append([an_entry(21)])
    assert min(old) not in disk.names()


def test_entries_voided_from_a_segment_that_is_gone_do_not_keep_the_log_from_being_read() -> None:
    disk = a_disk_with_a_log()
    log = open_log(disk, segment_bytes=300)
    log.append([an_entry(1), an_entry(2, b"x" * 300)])
    log.append([Record(Kind.TRUNCATE, 2), an_entry(2, term=2)])
    log.drop_through(2)
    assert len(disk.names()) == 1
    assert read(disk).state.last == Position(2, 2)


def test_the_terms_of_entries_are_known_after_their_segment_is_gone() -> None:
    disk = a_disk_with_a_log()
    log = open_log(disk, segment_bytes=300)
    log.append([an_entry(1, term=1), an_entry(2, term=2), an_entry(3, b"x" * 300, term=3)])
    log.append([an_entry(4, term=3)])
    log = open_log(disk)
    for index in (1, 2, 3):
        log.drop_through(index)
    assert len(disk.names()) == 1
    state = read(disk).state
    assert state.snapshot == Position(3, 3)
    assert [state.term_of(index) for index in (3, 4)] == [3, 3]


def test_a_snapshot_beyond_the_log_replaces_it() -> None:
    disk = a_disk_with_batches([an_entry(1), an_entry(2)], [Record(Kind.SNAPSHOT, 50, term=3)], [an_entry(51, term=3)])
    recovered = read(disk)
    assert entries_of([an_entry(51, term=3)]) == recovered.entries
    assert recovered.state.term_of(50) == 3


def test_a_torn_write_is_cut_wherever_it_tore() -> None:
    disk = a_disk_with_batches([an_entry(1, b"kept")])
    acknowledged = len(disk.journal)
    open_log(disk).append([an_entry(2, b"torn"), an_entry(3, b"torn")])
    at = next(n for n, one in enumerate(disk.journal) if one.step is Step.WRITE and n >= acknowledged)
    data = disk.journal[at].data
    for torn in range(len(data)):
        for tail in (b"", b"\0" * 300, b"\xff\xf5SRD" * 60):
            if tail.startswith(data[torn:]):
                continue  # the garbage happens to be what was torn off: the write is whole
            crashed = MemoryDisk.after_crash(disk.journal[: at + 1], Crash(torn=torn, tail=tail))
            log = open_log(crashed)
            recovered = [entry.data for entry in read(crashed).entries]
            assert recovered in ([b"kept"], [b"kept", b"torn"])
            log.append([an_entry(log.state.last.index + 1, b"next")])
            assert [entry.data for entry in read(crashed).entries] == [*recovered, b"next"]


def test_a_torn_write_into_room_made_in_advance_is_cut_wherever_it_tore() -> None:
    disk = a_disk_with_batches([an_entry(1, b"kept")], [an_entry(2, b"torn"), an_entry(3, b"torn")])
    at = max(n for n, one in enumerate(disk.journal) if one.step is Step.WRITE)
    last = disk.journal[at]
    for torn in range(len(last.data)):
        crashed = MemoryDisk.after_crash(disk.journal[: at + 1], Crash(torn=torn))
        assert len(crashed.read(last_segment(disk))) == len(disk.read(last_segment(disk))) > last.offset + len(last.data)
        log = open_log(crashed)
        recovered = [entry.data for entry in read(crashed).entries]
        assert recovered in ([b"kept"], [b"kept", b"torn"])
        log.append([an_entry(log.state.last.index + 1, b"next")])
        assert [entry.data for entry in read(crashed).entries] == [*recovered, b"next"]


def test_damage_before_a_later_synced_write_is_refused_though_room_made_in_advance_follows() -> None:
    disk = a_disk_with_batches([an_entry(1)], [an_entry(2)], [an_entry(3)])
    name = last_segment(disk)
    data = disk.read(name)
    assert data.endswith(bytes(1000))
    second = data.rindex(b"\xf5SRD", 0, data.rindex(b"\xf5SRD"))
    disk.overwrite(name, data[:second] + bytes(50) + data[second + 50 :])
    assert refusal(disk).code == "raft.log.damaged"


def test_only_the_last_segment_has_room_made_in_advance() -> None:
    disk = a_disk_with_batches(*([an_entry(index, b"x" * 100)] for index in range(1, 21)), segment_bytes=2500)
    first, second = sorted(disk.names())
    assert not disk.read(first).endswith(bytes(16))
    assert disk.read(second).endswith(bytes(16))
    assert [entry.index for entry in read(disk).entries] == list(range(1, 21))


def test_a_segment_ends_with_its_last_record_on_the_medium_before_the_next_one_has_its_name() -> None:
    disk = a_disk_with_batches(*([an_entry(index, b"x" * 100)] for index in range(1, 21)), segment_bytes=2500)
    renamed = max(n for n, one in enumerate(disk.journal) if one.step is Step.RENAME)
    for crashed_at in range(renamed - 5, renamed + 2):
        crashed = MemoryDisk.after_crash(disk.journal[:crashed_at], Crash(keep_unsynced=False))
        assert read(crashed).entries


def test_small_writes_make_room_once_for_many() -> None:
    disk = a_disk_with_batches(*([an_entry(index)] for index in range(1, 101)))
    made = [one for one in disk.journal if one.step is Step.WRITE and not any(one.data)]
    assert len(made) == 1


def test_a_full_disk_takes_what_there_is_room_for_and_no_more() -> None:
    disk = a_disk_with_a_log()
    log = open_log(disk, segment_bytes=16_000)
    log.append([an_entry(1)])
    disk.capacity_bytes = disk.used_bytes()
    fitting = 8_000 // (300 + 37 + 28)  # half a segment, records of 300 bytes
    for index in range(2, fitting + 2):
        log.append([an_entry(index, b"x" * 300)])
    with pytest.raises(StorageFailed):
        log.append([an_entry(fitting + 2, b"x" * 300)])
    crashed = MemoryDisk.after_crash(disk.journal, Crash(keep_unsynced=False))
    assert [entry.index for entry in read(crashed).entries] == list(range(1, fitting + 2))


def test_a_log_for_which_no_room_can_be_made_in_advance_goes_on() -> None:
    disk = a_disk_with_a_log()
    log = open_log(disk)

    def fail(operation: Operation) -> None:
        if operation.step is Step.WRITE and not any(operation.data):
            raise OSError(errno.ENOSPC, "no space left on device")

    disk.fail = fail
    for index in range(1, 5):
        log.append([an_entry(index)])
    assert [entry.index for entry in read(disk).entries] == [1, 2, 3, 4]
    assert not disk.read(last_segment(disk)).endswith(bytes(16))


def test_a_last_write_of_which_only_the_end_reached_the_disk_is_cut() -> None:
    disk = a_disk_with_batches([an_entry(1, b"kept")], [an_entry(2, b"first"), an_entry(3, b"second")])
    name = last_segment(disk)
    data = bytearray(disk.read(name))
    at = bytes(data).rindex(b"\xf5SRD", 0, bytes(data).rindex(b"\xf5SRD"))
    data[at : at + 20] = bytes(20)
    disk.overwrite(name, bytes(data))
    assert [entry.data for entry in read(disk).entries] == [b"kept"]


def test_damage_before_a_later_synced_write_is_refused_with_file_and_offset() -> None:
    disk = a_disk_with_batches([an_entry(1)], [an_entry(2)], [an_entry(3)])
    name = last_segment(disk)
    data = disk.read(name)
    last = data.rindex(b"\xf5SRD")
    for at in range(HEADER_BYTES, last):
        disk.overwrite(name, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        error = refusal(disk)
        assert error.code == "raft.log.damaged"
        assert f"memory/{name} is damaged at byte " in error.message
    for at in range(HEADER_BYTES):
        disk.overwrite(name, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        assert refusal(disk).code.startswith("raft.file.")


def test_damage_in_a_segment_that_is_not_the_last_is_refused_even_at_its_end() -> None:
    disk = a_disk_with_batches(*([an_entry(index, b"x" * 100)] for index in range(1, 9)), segment_bytes=600)
    name = min(disk.names())
    disk.overwrite(name, disk.read(name)[:-1])
    assert refusal(disk).code == "raft.log.damaged"


def test_a_missing_segment_is_refused() -> None:
    disk = a_disk_with_batches(*([an_entry(index, b"x" * 100)] for index in range(1, 21)), segment_bytes=600)
    for name in disk.names()[:-1]:
        broken = MemoryDisk.after_crash(disk.journal, Crash())
        broken.remove(name)
        assert refusal(broken).code == "raft.log.missing_segment"


def test_a_directory_without_a_log_is_refused() -> None:
    assert refusal(MemoryDisk()).code == "raft.log.missing"


def test_a_record_copied_to_another_place_is_refused() -> None:
    disk = a_disk_with_batches([an_entry(1)], [an_entry(2)])
    name = last_segment(disk)
    data = disk.read(name)
    first, second = data.index(b"\xf5SRD", HEADER_BYTES + 1), data.rindex(b"\xf5SRD")
    codec = Codec(Header(LOG_MAGIC, 1, 0, US, SEALER.key_id), SEALER)
    assert codec.decode(data, second) is not None
    moved = data[:first] + data[second:]
    assert codec.decode(moved, first) is None


@pytest.mark.parametrize(
    ("start", "change", "code"),
    [
        (0, b"notmagic", "raft.file.foreign"),
        (0, b"stackdSN", "raft.file.foreign"),
        (8, b"\x02\x00", "raft.file.newer_version"),
        (30, b"\xff", "raft.file.damaged_header"),
    ],
)
def test_another_header_is_refused_with_its_own_code(start: int, change: bytes, code: str) -> None:
    disk = a_disk_with_batches([an_entry(1)])
    name = last_segment(disk)
    data = disk.read(name)
    disk.overwrite(name, data[:start] + change + data[start + len(change) :])
    assert refusal(disk).code == code


def test_a_higher_feature_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackd.raft.frame.FEATURE_LEVEL", 2)
    disk = a_disk_with_a_log()
    monkeypatch.undo()
    assert refusal(disk).code == "raft.file.newer_feature_level"


def test_the_log_of_another_cluster_member_or_key_is_refused_with_its_own_code() -> None:
    disk = a_disk_with_batches([an_entry(1)])
    assert refusal(disk, Identity("cluster2", "member1")).code == "raft.file.other_cluster"
    assert refusal(disk, Identity("cluster1", "member2")).code == "raft.file.other_member"
    assert refusal(disk, key=RootKey(b"o" * 32)).code == "raft.file.other_key"


def test_a_full_disk_leaves_the_log_as_it_was_and_appends_work_again_with_room() -> None:
    disk = a_disk_with_batches([an_entry(1, b"kept")])
    log = open_log(disk)
    used = len(disk.read(last_segment(disk)))
    for room in range(0, 200, 7):
        disk.capacity_bytes = used + room
        with pytest.raises(StorageFailed) as failed:
            log.append([an_entry(2, b"a"), an_entry(3, b"x" * 100)])
        assert failed.value.hint
        assert len(disk.read(last_segment(disk))) == used
        crashed = MemoryDisk.after_crash(disk.journal, Crash(keep_unsynced=False))
        assert [entry.data for entry in read(crashed).entries] == [b"kept"]
    disk.capacity_bytes = None
    log.append([an_entry(2, b"new")])
    assert [entry.data for entry in read(disk).entries] == [b"kept", b"new"]


def test_a_full_disk_at_the_change_of_segment_leaves_the_log_as_it_was() -> None:
    disk = a_disk_with_a_log()
    log = open_log(disk, segment_bytes=300)
    log.append([an_entry(1, b"x" * 300)])
    disk.capacity_bytes = len(disk.read(last_segment(disk))) + 50
    with pytest.raises(StorageFailed):
        log.append([an_entry(2)])
    assert len(disk.names()) == 1
    disk.capacity_bytes = None
    log.append([an_entry(2)])
    assert len(read(disk).entries) == 2


@pytest.mark.parametrize("step", [Step.SYNC, Step.SYNC_NAMES])
def test_after_a_failed_sync_the_log_refuses_everything(step: Step) -> None:
    disk = a_disk_with_batches([an_entry(1, b"x" * 300)])
    log = open_log(disk, segment_bytes=1 << 20 if step is Step.SYNC else 300)

    def fail(operation: Operation) -> None:
        if operation.step is step:
            raise OSError(errno.EIO, "input/output error")

    disk.fail = fail
    with pytest.raises(LogUnusable):
        log.append([an_entry(2)])
    disk.fail = lambda operation: None
    with pytest.raises(LogUnusable):
        log.append([an_entry(2)])


def test_a_write_that_failed_and_cannot_be_cut_back_stops_the_log() -> None:
    disk = a_disk_with_batches([an_entry(1)])
    log = open_log(disk)

    def fail(operation: Operation) -> None:
        if operation.step in (Step.WRITE, Step.TRUNCATE):
            raise OSError(errno.EIO, "input/output error")

    disk.fail = fail
    with pytest.raises(LogUnusable):
        log.append([an_entry(2)])
    disk.fail = lambda operation: None
    with pytest.raises(LogUnusable):
        log.append([an_entry(2)])


def test_what_a_failed_write_left_is_cut_off_durably() -> None:
    disk = a_disk_with_batches([an_entry(1)])
    log = open_log(disk)
    disk.capacity_bytes = len(disk.read(last_segment(disk))) + 150
    with pytest.raises(StorageFailed):
        log.append([an_entry(2, b"whole"), an_entry(3, b"x" * 100)])
    assert [operation.step for operation in disk.journal[-3:]] == [Step.WRITE, Step.TRUNCATE, Step.SYNC]


def test_what_a_restart_read_is_not_lost_by_a_power_cut_after_it() -> None:
    disk = a_disk_with_batches([an_entry(1)])
    log = open_log(disk)

    def fail(operation: Operation) -> None:
        if operation.step is Step.SYNC:
            raise OSError(errno.EIO, "input/output error")

    disk.fail = fail
    with pytest.raises(LogUnusable):
        log.append([an_entry(2, b"written, not synced")])
    disk.fail = lambda operation: None
    restarted = open_log(disk)
    assert restarted.state.last.index == 2
    assert read(MemoryDisk.after_crash(disk.journal, Crash(keep_unsynced=False))).state.last.index == 2


def test_short_writes_are_continued() -> None:
    disk = a_disk_with_a_log()
    log = open_log(disk)
    whole = disk.write
    disk.write = lambda inode, offset, data: whole(inode, offset, data[:7])  # type: ignore[method-assign]
    log.append([an_entry(1, b"x" * 100)])
    assert [entry.data for entry in read(disk).entries] == [b"x" * 100]


def test_nothing_of_an_entry_can_be_read_on_the_disk() -> None:
    disk = a_disk_with_batches([an_entry(1, b"a very secret password")])
    assert b"secret" not in disk.read(last_segment(disk))
