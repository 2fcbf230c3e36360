"""A node elects, replicates, reads and comes back, in virtual time; and says of each request what became of it."""

from __future__ import annotations

import errno

import pytest
from stackd.raft.consensus import Entry, Leadership, NotLeader, OutcomeUnknown, StorageFailed
from stackd.raft.memory_disk import Operation, Step
from stackd.raft.message import Append, Behind, decode_message, encode_message
from stackd.raft.peers import Received
from stackd.raft.wal import LogUnusable

from raft_nodes import Nodes


def fail_syncs(operation: Operation) -> None:
    if operation.step is Step.SYNC:
        raise OSError(errno.EIO, "input/output error")


def test_three_nodes_elect_one_leader_and_agree_on_what_it_proposes() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1", b"2", b"3")
    nodes.run(0.3)
    assert [host.data for host in nodes.hosts.values()] == [[b"1", b"2", b"3"]] * 3
    assert sum(host.node.leads for host in nodes.hosts.values()) == 1


def test_leading_is_told_after_the_entry_that_opens_the_term() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    assert leader.items == [Entry(1, 1, b"")]
    assert leader.roles == [Leadership(1, is_leader=True)]


def test_a_follower_refuses_proposals_and_reads_and_names_the_leader() -> None:
    nodes = Nodes("abc")
    leader, follower = nodes.lead(), nodes.followers()[0]
    nodes.run(0.2)
    for ticket in (follower.node.propose(b"1", follower.node.term), follower.node.read()):
        assert isinstance(ticket.error, NotLeader)
        assert leader.name in ticket.error.message


def test_a_proposal_of_an_earlier_term_is_refused() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    assert isinstance(leader.node.propose(b"1", leader.node.term - 1).error, NotLeader)


def test_a_leader_that_is_cut_off_steps_down_and_leaves_its_proposals_unknown() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1")
    old = nodes.lead()
    nodes.isolate(old.name)
    lost, read = old.node.propose(b"lost", old.node.term), old.node.read()
    nodes.run_until(lambda: lost.is_done and read.is_done, seconds=1.5)
    assert isinstance(lost.error, OutcomeUnknown)
    assert isinstance(read.error, NotLeader)
    assert old.roles[-1] == Leadership(1, is_leader=False)


def test_what_a_cut_off_leader_had_is_replaced_by_what_the_others_agreed_on() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1")
    old = nodes.lead()
    nodes.isolate(old.name)
    old.node.propose(b"lost", old.node.term)
    nodes.run_until(lambda: not old.node.leads)
    nodes.write(b"2")
    nodes.isolate()
    nodes.run(1.0)
    assert [host.data for host in nodes.hosts.values()] == [[b"1", b"2"]] * 3


def test_a_node_that_was_away_does_not_depose_the_leader_on_coming_back() -> None:
    nodes = Nodes("abc")
    leader, away = nodes.lead(), nodes.followers()[0]
    nodes.isolate(away.name)
    nodes.run(5.0)
    nodes.isolate()
    nodes.run(2.0)
    assert leader.node.leads
    assert leader.node.term == away.node.term == 1


def test_when_the_leader_dies_another_leads_well_within_a_second() -> None:
    nodes = Nodes("abc")
    old = nodes.lead()
    nodes.run(0.5)
    died_at = nodes.now
    nodes.isolate(old.name)
    nodes.run_until(lambda: any(host.node.leads for host in nodes.hosts.values() if host is not old))
    assert nodes.now - died_at < 0.6


def test_all_nodes_restarted_at_once_have_everything_that_was_acknowledged() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1", b"2")
    for host in nodes.hosts.values():
        host.restart(kill=False)
    nodes.lead()
    nodes.run(0.3)
    assert [host.data for host in nodes.hosts.values()] == [[b"1", b"2"]] * 3


def test_a_vote_is_remembered_over_a_restart() -> None:
    nodes = Nodes("abc")
    nodes.lead()
    for host in nodes.hosts.values():
        host.restart()
        assert host.node.term == 1
        assert host.node._journal.getVotedForNodeId() is not None


def test_nothing_leaves_a_follower_before_it_is_on_its_medium() -> None:
    nodes = Nodes("abc")
    leader, follower = nodes.lead(), nodes.followers()[0]
    nodes.run(0.3)
    follower.sent.clear()
    follower.disk.fail = fail_syncs
    leader.node.propose(b"1", leader.node.term)
    nodes.run(0.05)
    assert follower.sent == []
    assert isinstance(follower.node.failure, LogUnusable)


def test_a_leader_whose_sync_fails_ends_and_another_one_takes_over() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1")
    old = nodes.lead()
    old.disk.fail = fail_syncs
    ticket = old.node.propose(b"2", old.node.term)
    nodes.run(0.05)
    assert isinstance(ticket.error, OutcomeUnknown)
    assert isinstance(old.node.propose(b"3", 1).error, LogUnusable)
    assert old.roles[-1] == Leadership(1, is_leader=False)
    assert nodes.lead() is not old
    nodes.write(b"4")


def test_a_leader_with_a_full_disk_refuses_and_lets_another_one_lead() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1")
    old = nodes.lead()
    old.disk.capacity_bytes = 0
    ticket = old.node.propose(b"2", old.node.term)
    nodes.run(0.05)
    assert isinstance(ticket.error, StorageFailed)
    assert nodes.lead() is not old
    old.disk.capacity_bytes = None
    nodes.write(b"3")
    nodes.run(0.5)
    assert [host.data for host in nodes.hosts.values()] == [[b"1", b"3"]] * 3


def test_a_follower_with_a_full_disk_acknowledges_nothing_and_catches_up_when_there_is_room() -> None:
    nodes = Nodes("abc")
    follower = nodes.followers()[0]
    follower.disk.capacity_bytes = 0
    nodes.write(b"1")
    nodes.run(0.5)
    assert follower.data == []
    follower.disk.capacity_bytes = None
    nodes.run(0.5)
    assert follower.data == [b"1"]
    assert follower.node.failure is None


def test_a_read_waits_until_a_majority_confirms_that_the_leader_still_leads() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1")
    leader = nodes.lead()
    ticket = leader.node.read()
    leader.tick()
    assert not ticket.is_done
    nodes.run(0.03)
    assert ticket.index == 2


def test_reads_of_one_tick_share_a_round() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    nodes.run(0.3)
    before = leader.node._replication.round
    tickets = [leader.node.read() for _ in range(50)]
    nodes.run(0.05)
    assert all(ticket.index == 1 for ticket in tickets)
    assert leader.node._replication.round == before + 1


def test_a_leader_at_rest_awaits_nothing_until_it_is_asked_for_something() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    nodes.run(0.3)
    assert [host.name for host in nodes.hosts.values() if host.node.awaits_nothing] == [leader.name]
    for ask in (leader.node.read, lambda: leader.node.propose(b"1", leader.node.term), leader.node.transfer_leadership):
        assert leader.node.awaits_nothing
        ticket = ask()
        leader.tick()
        assert not leader.node.awaits_nothing
        nodes.run_until(lambda ticket=ticket: ticket.is_done)
        nodes.run(0.3)


def test_a_leader_awaits_those_who_are_behind_but_nobody_who_is_away() -> None:
    nodes = Nodes("abc")
    leader, away = nodes.lead(), nodes.followers()[0]
    nodes.isolate(away.name)
    nodes.run(0.3)
    nodes.write(b"1")
    nodes.run(0.3)
    assert leader.node.awaits_nothing
    nodes.isolate()
    nodes.run(0.01)
    assert not leader.node.awaits_nothing
    nodes.run(0.3)
    assert leader.node.awaits_nothing


def test_entries_go_out_in_batches_without_waiting_for_each_answer() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    nodes.run(0.3)
    leader.sent.clear()
    for number in range(500):
        leader.node.propose(b"%d" % number, leader.node.term)
    leader.tick()
    appends = [message for message in map(decode_message, leader.sent) if isinstance(message, Append)]
    assert [len(message.entries) for message in appends] == [500, 500]


def test_a_slow_follower_is_sent_no_more_than_a_window() -> None:
    nodes = Nodes("abc")
    leader, slow = nodes.lead(), nodes.followers()[0]
    nodes.run(0.3)
    nodes.in_flight.clear()
    del nodes.hosts[slow.name]
    for _ in range(40):
        leader.node.propose(b"x" * 500_000, leader.node.term)
    leader.tick()
    to_slow = sum(len(message) for _, receiver, message in nodes.in_flight if receiver == slow.name)
    assert 4_000_000 < to_slow < 6_000_000


def test_a_node_of_an_older_term_is_told_so() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    nodes.run(0.2)
    stale = Append(epoch=0, term=0, previous_index=0, previous_term=0, commit=0, round=0)
    leader.sent.clear()
    leader.events.append(Received(nodes.followers()[0].name, encode_message(stale)))
    leader.tick()
    assert Behind(epoch=0, term=1) in map(decode_message, leader.sent)


def test_messages_of_another_epoch_are_not_heard() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    nodes.run(0.2)
    leader.events.append(Received(nodes.followers()[0].name, encode_message(Behind(epoch=1, term=99))))
    leader.tick()
    assert leader.node.term == 1


@pytest.mark.parametrize("garbage", [b"", b"\x00", b"\xc1" * 100, b"\x93\x05\x00\x00"])
def test_garbage_is_dropped_and_changes_nothing(garbage: bytes) -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    nodes.run(0.2)
    leader.events.append(Received(nodes.followers()[0].name, garbage))
    nodes.write(b"1")
    assert leader.node.failure is None


def test_a_leader_that_contradicts_what_is_committed_ends_the_node() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1", b"2")
    nodes.run(0.3)
    victim, other = nodes.followers()
    lie = Append(epoch=0, term=9, previous_index=1, previous_term=1, commit=0, round=0, entries=((b"x", 2, 9),))  # type: ignore[arg-type]
    victim.events.append(Received(other.name, encode_message(lie)))
    victim.tick()
    assert victim.node.failure is not None
    assert victim.node.failure.code == "raft.log.contradicted"


def test_a_closed_node_answers_what_is_under_way() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    ticket = leader.node.propose(b"1", leader.node.term)
    leader.node.close()
    assert isinstance(ticket.error, OutcomeUnknown)
