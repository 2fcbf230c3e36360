"""Mistakes that a careful person could make, each in one place of the node. The simulation has to find every one.

Some take away what protects against the library's own behaviour, which then shows again; others are mistakes of our own
kind. A bug is a function that puts it in for as long as its monkeypatch lives. Defects that take a history so rare that
random ones don't come by it are told as scenarios: `tests/unit/raft/test_audit_*.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from stackd.raft import changes, installation, storage
from stackd.raft.changes import Changes
from stackd.raft.frame import Record
from stackd.raft.hardened import Hardened, Name
from stackd.raft.journal import Journal
from stackd.raft.message import AnyMessage, Append, AskVote, decode_message, encode_message
from stackd.raft.node import Node
from stackd.raft.reads import Reads
from stackd.raft.tenure import Tenure
from stackd.raft.wal import Log

FOREVER = 1 << 60


def late_batches_truncate(patch: pytest.MonkeyPatch) -> None:
    """The library's way to take entries: it cuts the log behind the entry before the batch, whatever follows."""

    def take(self: Hardened, peer: str, message: Append) -> None:
        self._answered_round = message.round
        told = {
            "type": "append_entries",
            "term": message.term,
            "commit_index": message.commit,
            "prevLogIdx": message.previous_index,
            "prevLogTerm": message.previous_term,
            "entries": message.entries,
        }
        self._library_receives(peer, told)

    patch.setattr(Hardened, "_take_entries", take)


def entries_are_committed_unverified(patch: pytest.MonkeyPatch) -> None:
    """As in the library, with everything but a batch that follows."""
    refuse = Hardened._refuse_entries

    def refuse_and_commit(self: Hardened, peer: str, message: Append, next_index: int) -> None:
        self.acknowledge_leader(peer, message.term, message.commit)
        refuse(self, peer, message, next_index)

    patch.setattr(Hardened, "_refuse_entries", refuse_and_commit)


def votes_are_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "getVotedForNodeId", lambda self: None)


def votes_go_to_shorter_logs(patch: pytest.MonkeyPatch) -> None:
    receive = Hardened.receive

    def receive_credulously(self: Hardened, peer: str, message: AnyMessage) -> None:
        if isinstance(message, AskVote):
            message = msgspec.structs.replace(message, last_index=FOREVER, last_term=FOREVER)
        receive(self, peer, message)

    patch.setattr(Hardened, "receive", receive_credulously)
    patch.setattr(Hardened, "_ask_pre_votes", _campaign_at_once)


def _campaign_at_once(self: Hardened) -> None:
    self._may_campaign = True


def absent_members_do_not_count(patch: pytest.MonkeyPatch) -> None:
    """The majority is one of those who are connected."""

    connected, disconnected = Hardened.connected, Hardened.disconnected

    def come(self: Hardened, peer: str) -> None:
        connected(self, peer)
        self.heard_from(peer)
        if peer in self._journal.membership.voter_ids:
            self._SyncObj__otherNodes.add(Name(peer))

    def go(self: Hardened, peer: str) -> None:
        disconnected(self, peer)
        self._SyncObj__otherNodes.discard(Name(peer))

    patch.setattr(Hardened, "connected", come)
    patch.setattr(Hardened, "disconnected", go)


def nothing_is_synced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Log, "sync", lambda self: None)


def answers_leave_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    def send_at_once(self: Node, peer: str, message: AnyMessage) -> None:
        self._peers.send(peer, encode_message(message))

    patch.setattr(Node, "_hold", send_at_once)


def a_leader_acknowledges_by_itself(patch: pytest.MonkeyPatch) -> None:
    """As soon as the entry is in its own file."""

    def written(self: Tenure) -> None:
        for index in self._unwritten:
            self.applied(index)
        self._unwritten.clear()

    patch.setattr(Tenure, "written", written)


def failed_writes_are_not_undone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "roll_back", Journal._settle)


def proposers_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The library never answers those whose leader stepped down."""
    end = Tenure.end

    def end_silently(self: Tenure, why: str, leader: str) -> None:
        self._waiting.clear()
        end(self, why, leader)

    patch.setattr(Tenure, "end", end_silently)


def reads_trust_old_answers(patch: pytest.MonkeyPatch) -> None:
    """Those of a majority that has another leader by now."""
    answered = Reads.answered
    patch.setattr(Reads, "answered", lambda self, peer, number: answered(self, peer, FOREVER))


def leaders_speak_before_they_know(patch: pytest.MonkeyPatch) -> None:
    """Leadership is announced, and reads are answered, before the entry that opens the term is applied."""
    patch.setattr(Hardened, "opened_at", lambda self: 0)


def members_change_many_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """The library's rule against it is dead code."""
    patch.setattr(Changes, "_check_settled", lambda self: None)


def levels_go_up_before_everyone_can(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Changes, "_common_level", lambda self: self._settings.feature_level)


def nobody_looks_at_the_level(patch: pytest.MonkeyPatch) -> None:
    """A member whose software was taken back goes on with what it can't read."""
    for module in (changes, installation, storage):
        patch.setattr(module, "check_level", lambda membership, readable: None)


def a_new_key_seals_the_old_segment(patch: pytest.MonkeyPatch) -> None:
    """As soon as there is one; the file's header names the one before."""
    write = Log.write

    def write_sealed_anew(self: Log, records: Sequence[Record]) -> int:
        self._sealer = self._keys.current
        self._codec._sealer = self._sealer
        return write(self, records)

    patch.setattr(Log, "write", write_sealed_anew)


def epochs_do_not_count(patch: pytest.MonkeyPatch) -> None:
    """Who hasn't heard of a recovery is listened to as if there had been none."""
    receive = Node._receive

    def receive_from_anyone(self: Node, peer: str, data: bytes) -> None:
        message = msgspec.structs.replace(decode_message(data), epoch=self.membership.epoch)
        receive(self, peer, encode_message(message))

    patch.setattr(Node, "_receive", receive_from_anyone)


SHOWN_BY = {epochs_do_not_count: "quorum_is_lost"}
"""Some bugs matter only after one kind of fault: then histories with many of it are enough."""

BUGS = (
    late_batches_truncate,
    entries_are_committed_unverified,
    votes_are_forgotten_at_a_restart,
    votes_go_to_shorter_logs,
    absent_members_do_not_count,
    nothing_is_synced,
    answers_leave_before_the_sync,
    a_leader_acknowledges_by_itself,
    failed_writes_are_not_undone,
    proposers_are_forgotten,
    reads_trust_old_answers,
    leaders_speak_before_they_know,
    members_change_many_at_a_time,
    levels_go_up_before_everyone_can,
    nobody_looks_at_the_level,
    a_new_key_seals_the_old_segment,
    epochs_do_not_count,
)
