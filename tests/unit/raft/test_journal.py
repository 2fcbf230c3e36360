"""The journal in memory says what the file says, or will: also after truncations, failures, snapshots and restarts."""

from __future__ import annotations

import pytest
from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.raft.consensus import StorageFailed
from stackd.raft.frame import Kind
from stackd.raft.journal import Journal
from stackd.raft.membership import Membership
from stackd.raft.memory_disk import MemoryDisk
from stackd.raft.state import Position
from stackd.raft.storage import open_storage

from raft_builders import SEALER, US, a_disk_with_a_log

ALONE = Membership.sole("member1")


def a_journal(disk: MemoryDisk, count: int = 0) -> Journal:
    """With `count` entries of term 1, on the medium."""
    journal = opened(disk)
    journal.setCurrentTerm(1, None)
    for index in range(1, count + 1):
        journal.add(b"%d" % index, index, 1)
    written(journal)
    return journal


def opened(disk: MemoryDisk) -> Journal:
    return open_storage(disk, SEALER, US, ALONE).journal


def written(journal: Journal) -> None:
    journal.write()
    journal.sync()


def told(journal: Journal) -> list[tuple[int, int, bytes]]:
    return [(entry.index, entry.term, entry.data) for entry in journal[1:]]


def a_change(index: int, member: str) -> bytes:
    return encode(ALONE.with_member(member, f"{member}:1").said_at(index))


def test_entries_term_and_vote_are_there_after_a_restart() -> None:
    disk = a_disk_with_a_log()
    journal = a_journal(disk, 2)
    journal.setCurrentTerm(5, "member2")
    written(journal)
    again = opened(disk.after_kill())
    assert told(again) == [(1, 1, b"1"), (2, 1, b"2")]
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (5, "member2")


def test_a_write_that_fails_is_undone() -> None:
    disk = a_disk_with_a_log()
    journal = a_journal(disk, 3)
    before = told(journal)
    journal.deleteEntriesFrom(2)
    journal.add(b"x", 2, 2)
    journal.deleteEntriesFrom(1)
    journal.add(a_change(1, "member2"), 1, 2, Kind.MEMBERS)
    disk.capacity_bytes = 0
    with pytest.raises(StorageFailed):
        journal.write()
    journal.roll_back()
    assert told(journal) == before
    assert journal.membership == ALONE
    disk.capacity_bytes = None
    journal.add(b"4", 4, 1)
    written(journal)
    assert told(opened(disk.after_kill())) == told(journal)


def test_a_truncation_is_there_after_a_restart() -> None:
    disk = a_disk_with_a_log()
    journal = a_journal(disk, 3)
    journal.deleteEntriesFrom(2)
    journal.add(b"x", 2, 2)
    written(journal)
    assert told(opened(disk.after_kill())) == [(1, 1, b"1"), (2, 2, b"x")]


def test_what_is_committed_is_never_cut_off() -> None:
    journal = a_journal(a_disk_with_a_log(), 3)
    journal.setRaftCommitIndex(2)
    journal.deleteEntriesFrom(3)
    with pytest.raises(StackdError) as refused:
        journal.deleteEntriesFrom(2)
    assert refused.value.code == "raft.log.contradicted"


def test_the_membership_is_that_of_the_last_entry_that_names_one() -> None:
    disk = a_disk_with_a_log()
    journal = a_journal(disk, 1)
    journal.add(a_change(2, "member2"), 2, 1, Kind.MEMBERS)
    journal.add(a_change(3, "member3"), 3, 1, Kind.MEMBERS)
    written(journal)
    assert journal.membership.learner_ids == {"member3"}
    assert opened(disk.after_kill()).membership == journal.membership
    assert journal.membership_at(2).learner_ids == {"member2"}
    journal.deleteEntriesFrom(3)
    assert journal.membership.learner_ids == {"member2"}


def test_what_a_joining_member_was_told_holds_until_its_log_has_come_so_far() -> None:
    told_at_joining = ALONE.with_member("member9", "member9:1").said_at(3)
    journal = open_storage(a_disk_with_a_log(), SEALER, US, told_at_joining).journal
    for index, member in ((1, "member2"), (2, "member3")):
        journal.add(a_change(index, member), index, 1, Kind.MEMBERS)
        assert journal.membership == told_at_joining
    journal.add(a_change(3, "member9"), 3, 1, Kind.MEMBERS)
    journal.add(a_change(4, "member4"), 4, 1, Kind.MEMBERS)
    assert journal.membership.learner_ids == {"member4"}


def test_a_compacted_journal_keeps_some_entries_in_memory_and_finds_the_rest_by_position() -> None:
    disk = a_disk_with_a_log()
    journal = a_journal(disk, 20)
    storage = open_storage(disk.after_kill(), SEALER, US, ALONE)
    storage.snapshots.write(Position(15, 1), [b"state"], encode(ALONE))
    journal = storage.journal
    journal.compact(Position(15, 1), kept_entries=5)
    assert journal.anchor == Position(10, 1)
    assert journal.snapshot == Position(15, 1)
    assert journal.term_at(9) is None
    assert journal.entry(12).data == b"12"
    assert journal.last == Position(20, 1)


def test_a_batch_is_bounded_in_bytes_but_never_empty_and_only_has_what_is_written() -> None:
    journal = a_journal(a_disk_with_a_log(), 0)
    for index in range(1, 6):
        journal.add(b"x" * 100, index, 1)
    assert journal.batch(1, 1000) == []
    written(journal)
    journal.add(b"unwritten", 6, 1)
    assert [len(journal.batch(1, size)) for size in (1, 150, 10_000)] == [1, 2, 5]
    assert journal.written_index == 5


def test_the_first_entry_of_a_contradicted_term_is_found_but_never_below_what_is_committed() -> None:
    journal = a_journal(a_disk_with_a_log(), 6)
    assert journal.first_of_term(6) == 1
    journal.setRaftCommitIndex(4)
    assert journal.first_of_term(6) == 5


def test_what_an_undone_write_put_back_is_not_committed_by_what_had_taken_its_place() -> None:
    disk = a_disk_with_a_log()
    journal = a_journal(disk, 3)
    journal.deleteEntriesFrom(3)
    journal.add(b"x", 3, 2)
    journal.setRaftCommitIndex(3)
    disk.capacity_bytes = 0
    with pytest.raises(StorageFailed):
        journal.write()
    journal.roll_back()
    assert told(journal)[-1] == (3, 1, b"3")
    assert journal.getRaftCommitIndex() == 2


def test_a_compaction_does_not_count_as_the_write_of_what_was_added_before_it() -> None:
    journal = a_journal(a_disk_with_a_log(), 5)
    journal.add(b"unwritten", 6, 1)
    journal.compact(Position(4, 1), kept_entries=0)
    assert journal.written_index == 5
    assert [entry.index for entry in journal.batch(5, 1000)] == [5]
    journal.roll_back()
    assert journal.last == Position(5, 1)
