"""Defects of the stock library in what it keeps on disk: each shows there, and not in our log and snapshots."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from random import Random
from typing import Any

import pysyncobj.journal
import pytest
from audit_cluster import Flight
from audit_ours import OurCluster
from audit_stock import StockCluster
from pysyncobj.journal import FileJournal, MemoryJournal
from stackd.raft.frame import Identity
from stackd.raft.memory_disk import Crash, MemoryDisk, Operation
from stackd.raft.message import AnyMessage, Appended, decode_message
from stackd.raft.recovery import read_log

from raft_builders import SEALER


class CountingMap(mmap.mmap):
    """A mapped file that counts how often it was brought to the medium."""

    flushes = 0

    def flush(self, *args: Any) -> None:
        CountingMap.flushes += 1
        super().flush(*args)


def a_journal(path: Path, entries: int) -> FileJournal:
    journal = FileJournal(str(path))
    for index in range(1, entries + 1):
        journal.add(b"entry", index, 1)
    return journal


def indexes(journal: FileJournal) -> list[int]:
    return [entry[1] for entry in journal[:]]


def test_the_stock_journal_brings_nothing_to_the_medium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_an_acknowledged_write_survives_the_loss_of_what_was_not_synced` shows that ours does."""
    synced: list[int] = []
    CountingMap.flushes = 0
    monkeypatch.setattr(pysyncobj.journal.mmap, "mmap", CountingMap)
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, sync, synced.append)
    journal = a_journal(tmp_path / "journal", 10)
    journal.setCurrentTerm(3, "B")
    journal.setRaftCommitIndex(10)
    journal.onOneSecondTimer()
    assert (CountingMap.flushes, synced) == (0, [])


def test_an_acknowledged_write_survives_the_loss_of_what_was_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = OurCluster(monkeypatch)
    cluster.elect("A")
    outcome = cluster.propose("A", b"kept")
    cluster.pass_time(1, lambda flight: flight.kind != "ack" or flight.sender == "B")
    assert outcome.state == "committed"
    for name in "AB":
        left = MemoryDisk.after_crash(cluster.members[name].disk.journal, Crash(keep_unsynced=False))
        assert b"kept" in [entry.data for entry in read_log(left, SEALER, Identity("audit", name)).entries]


def test_a_kill_during_the_stock_compaction_drops_entries(tmp_path: Path) -> None:
    """`test_a_crash_at_any_point_of_a_compaction_drops_nothing` shows that ours doesn't."""
    journal = a_journal(tmp_path / "journal", 10)
    add, added = journal.add, []

    class Killed(BaseException):
        pass

    def add_until_killed(*entry: Any) -> None:
        if len(added) == 2:
            raise Killed
        added.append(entry)
        add(*entry)

    journal.add = add_until_killed
    with pytest.raises(Killed):
        journal.deleteEntriesTo(4)
    assert indexes(FileJournal(str(tmp_path / "journal"))) == [5, 6]


def test_a_crash_at_any_point_of_a_compaction_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = OurCluster(monkeypatch, "A")
    cluster.pass_time(1)
    values = [b"a", b"b", b"c"]
    for value in values:
        cluster.propose("A", value)
    cluster.pass_time(1)
    assert cluster.applied("A") == values
    disk = cluster.members["A"].disk
    before = len(disk.journal)
    cluster.compact("A")
    assert len(disk.journal) > before + 5
    for end in range(before, len(disk.journal) + 1):
        for keep_unsynced in (True, False):
            left = MemoryDisk.after_crash(disk.journal[:end], Crash(keep_unsynced=keep_unsynced))
            again = OurCluster(monkeypatch, "A")
            again.restart("A", left)
            again.pass_time(1)
            assert again.applied("A") == values


def test_the_stock_journal_forgets_its_term_when_the_file_is_damaged(tmp_path: Path) -> None:
    """Ours refuses to start: `test_wal.py` and `test_directory.py`."""
    journal = a_journal(tmp_path / "journal", 1)
    journal.setCurrentTerm(7, "B")
    assert FileJournal(str(tmp_path / "journal")).getCurrentTerm() == 7
    (tmp_path / "journal.meta").write_bytes(b"damaged")
    again = FileJournal(str(tmp_path / "journal"))
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (0, None)


def test_a_stock_commit_index_behind_a_lost_tail_commits_what_nobody_agreed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In our log a commit record can't name an entry that isn't there: `test_wal.py`."""
    journal = a_journal(tmp_path / "journal", 5)
    journal.setRaftCommitIndex(5)
    journal.onOneSecondTimer()
    journal.deleteEntriesFrom(2)  # what a power cut does to pages that were not synced
    cluster = StockCluster(monkeypatch, "AB", journalFile=str(tmp_path / "journal"), fullDumpFile=str(tmp_path / "dump"))
    assert cluster.last_index("A") == 2
    assert cluster.commit_index("A") == 5


def test_the_stock_library_loses_what_it_compacted_when_it_has_no_dump_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours drops nothing before the snapshot is on the medium: `test_a_crash_at_any_point_of_a_compaction_drops_nothing`."""
    paths = {"journalFile": str(tmp_path / "journal")}
    cluster = StockCluster(monkeypatch, "A", **paths)
    cluster.elect("A")
    for value in (b"a", b"b", b"c"):
        cluster.propose("A", value)
    cluster.pass_time()
    cluster.compact("A")
    cluster.pass_time()
    cluster.members["A"]._SyncObj__raftLog._destroy()
    again = StockCluster(monkeypatch, "A", **paths)
    again.elect("A")
    again.pass_time()
    assert cluster.applied("A") == [b"a", b"b", b"c"]
    assert again.applied("A") == []


def test_a_restarted_stock_member_votes_again_in_the_same_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its default journal. `test_a_vote_is_not_forgotten_by_a_restart` shows that ours doesn't."""
    granted = []
    for candidate in ("B", "C"):
        cluster = StockCluster(monkeypatch)
        assert isinstance(cluster.members["A"]._SyncObj__raftLog, MemoryJournal)
        cluster.hand_over(cluster.vote_request(candidate, "A", 2))
        granted += [flight.receiver for flight in cluster.in_flight if flight.kind == "granted"]
    assert granted == ["B", "C"]


def test_a_vote_is_not_forgotten_by_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = OurCluster(monkeypatch)
    granted = []
    for candidate in ("B", "C"):
        cluster.hand_over(cluster.vote_request(candidate, "A", 2))
        granted += [flight.receiver for flight in cluster.in_flight if flight.kind == "granted"]
        cluster.in_flight.clear()
        cluster.restart("A", cluster.members["A"].disk.after_power_cut(Random(1)))
    assert granted == ["B"]


def test_the_stock_library_acknowledges_a_snapshot_that_it_could_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_a_snapshot_that_cannot_be_written_is_not_acknowledged` shows that ours doesn't."""
    cluster = StockCluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    wire = cluster.members["B"]._SyncObj__transport
    for piece in ((b"garbage", True, False), (b"", False, True)):
        wire.receive("A", {"type": "append_entries", "term": 1, "commit_index": 2, "serialized": piece})
    answers = [flight.message for flight in cluster.in_flight if flight.kind == "ack"]
    assert [answer["success"] for answer in answers] == [True]


def test_a_snapshot_that_cannot_be_written_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = a_cluster_whose_leader_has_to_send_a_snapshot(monkeypatch)

    def fail(operation: Operation) -> None:
        raise OSError(errno.EIO, "input/output error")

    cluster.members["C"].disk.fail = fail
    cluster.rejoin("C")
    said = told_by(cluster, "C")
    assert not [message for message in said if isinstance(message, Appended) and message.success]
    assert cluster.counted("A", "C") == 0
    assert cluster.applied("C") == []


def test_a_snapshot_is_acknowledged_when_it_is_on_the_medium(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without the error: or the test before would show nothing."""
    cluster = a_cluster_whose_leader_has_to_send_a_snapshot(monkeypatch)
    cluster.rejoin("C")
    assert [message for message in told_by(cluster, "C") if isinstance(message, Appended) and message.success]
    assert cluster.applied("C") == cluster.applied("A")


def a_cluster_whose_leader_has_to_send_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> OurCluster:
    """C is cut off and has nothing; A leads and has compacted its log."""
    cluster = OurCluster(monkeypatch)
    cluster.isolate("C")
    cluster.elect("A")
    for value in (b"a", b"b", b"c"):
        cluster.propose("A", value)
    cluster.pass_time(2)
    cluster.compact("A")
    return cluster


def told_by(cluster: OurCluster, name: str) -> list[AnyMessage]:
    """What `name` sends while some time passes."""
    told = []

    def noted(flight: Flight) -> bool:
        if flight.sender == name:
            told.append(decode_message(flight.message))
        return True

    cluster.pass_time(6, noted)
    return told


def test_an_older_snapshot_takes_the_stock_library_back_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_an_older_snapshot_is_refused` shows that it doesn't take us."""
    cluster = StockCluster(monkeypatch)
    cluster.elect("A")
    cluster.propose("A", b"a")
    cluster.pass_time()
    cluster.compact("A")
    old = cluster.members["A"]._SyncObj__serializer._Serializer__inMemorySerializedData
    for value in (b"b", b"c"):
        cluster.propose("A", value)
    cluster.pass_time()
    before = cluster.members["B"].raftLastApplied
    wire = cluster.members["B"]._SyncObj__transport
    for piece in ((old, True, False), (b"", False, True)):
        wire.receive("A", {"type": "append_entries", "term": 1, "commit_index": 2, "serialized": piece})
    assert cluster.members["B"].raftLastApplied < before
    assert cluster.applied("B") == [b"a"]


def test_an_older_snapshot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = a_cluster_whose_leader_has_to_send_a_snapshot(monkeypatch)
    cluster.rejoin("C")
    pieces = []

    def noted(flight: Flight) -> bool:
        if flight.kind == "snapshot":
            pieces.append(flight)
        return True

    cluster.pass_time(4, noted)
    cluster.propose("A", b"d")
    cluster.pass_time(2)
    applied = cluster.applied("C")
    for piece in pieces:
        cluster.hand_over(piece)
    assert pieces
    assert cluster.applied("C") == applied == [b"a", b"b", b"c", b"d"]
    assert cluster.last_index("C") == cluster.last_index("A")


def test_the_stock_library_forks_to_write_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of a threaded process that keeps its sockets. Nothing in `stackd/raft` forks."""
    forks: list[int] = []

    def fork() -> int:
        forks.append(1)
        return 1  # as if we were the parent

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "waitpid", lambda pid, options: (pid, 0))
    cluster = StockCluster(monkeypatch, "A", fullDumpFile=str(tmp_path / "dump"))
    cluster.elect("A")
    cluster.propose("A", b"a")
    cluster.pass_time()
    cluster.compact("A")
    assert forks
