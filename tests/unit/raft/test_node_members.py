"""Members come, get a vote, hand over and go; each only in a way that the others can live with."""

from __future__ import annotations

from dataclasses import replace as changed

import pytest
from msgspec.structs import replace
from stackd.base.errors import NotFound, Refused, StackdError
from stackd.raft.consensus import Leadership, NotLeader
from stackd.raft.membership import MAX_VOTERS, Membership

from raft_nodes import Host, Nodes, membership_of


def joined(nodes: Nodes, name: str, **settings: float) -> Host:
    """Another member, which the leader has added as a learner."""
    leader = nodes.lead()
    ticket = leader.node.add(name, f"{name}:1")
    nodes.run_until(lambda: ticket.is_done)
    assert ticket.error is None
    return nodes.host(name, leader.node.membership, **settings)


def test_a_new_member_is_a_learner_until_it_has_what_is_committed() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1", b"2")
    leader = nodes.lead()
    new = joined(nodes, "d")
    assert leader.node.membership.learner_ids == {"d"}
    nodes.run_until(lambda: "d" in leader.node.membership.voter_ids)
    assert new.node.last.index >= 4
    nodes.run(0.3)
    assert new.data == [b"1", b"2"]
    assert {host.node.membership for host in nodes.hosts.values()} == {leader.node.membership}


def test_a_learner_that_is_always_a_little_behind_gets_its_vote_too() -> None:
    """Its leader commits by itself, and more with each step, before an answer can come."""
    nodes = Nodes("a")
    leader = nodes.lead()
    joined(nodes, "b")
    for _ in range(100):
        leader.node.propose(b"more", leader.node.term)
        nodes.run(0.01)
    assert "b" in leader.node.membership.voter_ids


def test_a_learner_that_is_away_delays_nobody_and_never_campaigns() -> None:
    nodes = Nodes("abc")
    learner = joined(nodes, "d")
    nodes.isolate("d")
    nodes.write(b"1")
    nodes.run(5.0)
    assert learner.node.term == 0
    assert nodes.lead().node.membership.learner_ids == {"d"}


def test_a_cluster_grows_from_one_and_shrinks_again() -> None:
    nodes = Nodes("a")
    nodes.write(b"1")
    for name in "bc":
        joined(nodes, name)
        nodes.run(0.3)
        assert name in nodes.lead().node.membership.voter_ids
    nodes.write(b"2")
    leader = nodes.lead()
    for name in [host.name for host in nodes.followers()]:
        ticket = leader.node.remove(name)
        nodes.run(0.3)
        assert ticket.is_done
        assert ticket.error is None
    nodes.write(b"3")
    assert leader.data == [b"1", b"2", b"3"]
    assert leader.node.membership.voter_ids == {leader.name}


def test_a_second_change_waits_until_the_first_is_committed() -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    first, second = leader.node.add("d", "d:1"), leader.node.add("e", "e:1")
    assert isinstance(second.error, StackdError)
    assert second.error.code == "raft.member.change_pending"
    nodes.run_until(lambda: first.is_done)
    assert leader.node.membership.learner_ids == {"d"}


def test_an_uncommitted_change_goes_with_the_entry_that_made_it() -> None:
    nodes = Nodes("abc")
    old = nodes.lead()
    nodes.run(0.2)
    nodes.isolate(old.name)
    old.node.add("d", "d:1")
    assert old.node.membership.learner_ids == {"d"}
    nodes.run_until(lambda: not old.node.leads)
    nodes.write(b"1")
    nodes.isolate()
    nodes.run(0.5)
    assert old.node.membership == membership_of("abc")


def test_a_member_that_is_removed_learns_of_it_and_ends() -> None:
    nodes = Nodes("abc")
    leader, gone = nodes.lead(), nodes.followers()[0]
    ticket = leader.node.remove(gone.name)
    nodes.run_until(lambda: gone.node.failure is not None, seconds=1.0)
    assert ticket.error is None
    assert gone.node.failure is not None
    assert gone.node.failure.code == "raft.member.removed"
    nodes.run_until(lambda: gone.name not in leader.wanted, seconds=2.0)
    nodes.write(b"1")


def test_a_removed_member_that_comes_back_deposes_nobody() -> None:
    nodes = Nodes("abc")
    leader, gone = nodes.lead(), nodes.followers()[0]
    nodes.isolate(gone.name)
    leader.node.remove(gone.name)
    nodes.run(2.0)
    nodes.isolate()
    nodes.run(3.0)
    assert leader.node.leads
    assert leader.node.term == 1


def refusal_of_removal(nodes: Nodes, name: str) -> StackdError:
    error = nodes.lead().node.remove(name).error
    assert error is not None
    return error


def test_removals_that_would_leave_no_majority_are_refused() -> None:
    nodes = Nodes("abc")
    leader, away = nodes.lead(), nodes.followers()[0]
    other = nodes.followers()[1]
    nodes.isolate(away.name)
    nodes.run(0.6)
    error = refusal_of_removal(nodes, other.name)
    assert isinstance(error, Refused)
    assert error.code == "raft.member.quorum"
    assert leader.node.remove(away.name).error is None


def test_the_leader_the_last_voter_and_strangers_are_not_removed() -> None:
    nodes = Nodes("abc")
    assert refusal_of_removal(nodes, nodes.lead().name).code == "raft.member.leads"
    assert isinstance(refusal_of_removal(nodes, "z"), NotFound)
    assert refusal_of_removal(Nodes("a"), "a").code == "raft.member.leads"
    with pytest.raises(Refused):
        Membership.sole("a").without("a")


def test_a_member_at_another_address_keeps_its_vote() -> None:
    nodes = Nodes("abc")
    leader, other = nodes.lead(), nodes.followers()[0]
    ticket = leader.node.add(other.name, "elsewhere:1")
    nodes.run_until(lambda: ticket.is_done)
    assert leader.node.membership.addresses[other.name] == "elsewhere:1"
    assert leader.node.membership.voter_ids == set("abc")


def test_a_membership_never_has_more_voters_than_the_limit() -> None:
    full = membership_of("abcdefghi").with_member("j", "j:1")
    assert len(full.voters) == MAX_VOTERS
    with pytest.raises(Refused):
        full.with_vote("j")


def test_leadership_goes_to_the_member_that_was_asked_for() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1")
    old, chosen = nodes.lead(), nodes.followers()[1]
    ticket = old.node.transfer_leadership(chosen.name)
    assert isinstance(old.node.propose(b"late", old.node.term).error, NotLeader)
    nodes.run_until(lambda: chosen.node.leads, seconds=0.5)
    assert ticket.error is None
    assert ticket.is_done
    nodes.write(b"2")
    assert old.roles[-1] == Leadership(1, is_leader=False)


def test_entries_under_way_at_a_transfer_are_committed_first() -> None:
    nodes = Nodes("abc")
    old = nodes.lead()
    tickets = [old.node.propose(b"%d" % number, old.node.term) for number in range(100)]
    old.node.transfer_leadership()
    nodes.run_until(lambda: nodes.lead() is not old)
    assert all(ticket.error is None and ticket.is_done for ticket in tickets)


def test_a_transfer_to_a_member_that_falls_silent_ends_and_the_leader_leads_on() -> None:
    nodes = Nodes("abc")
    old, chosen = nodes.lead(), nodes.followers()[0]
    nodes.run(0.2)
    ticket = old.node.transfer_leadership(chosen.name)
    nodes.isolate(chosen.name)
    nodes.run_until(lambda: ticket.is_done, seconds=3.0)
    assert ticket.error is not None
    assert ticket.error.code == "raft.transfer.failed"
    assert old.roles[-1] == Leadership(1, is_leader=True)
    nodes.write(b"1")


@pytest.mark.parametrize("target", ["z", "the leader"])
def test_leadership_goes_to_nobody_who_could_not_take_it(target: str) -> None:
    nodes = Nodes("abc")
    leader = nodes.lead()
    error = leader.node.transfer_leadership(leader.name if target == "the leader" else target).error
    assert error is not None
    assert error.code == "raft.transfer.impossible"
    assert leader.node.leads


def test_the_feature_level_rises_when_every_member_can_read_more() -> None:
    nodes = Nodes("ab", feature_level=2)
    old = nodes.host("c", membership_of("abc"), feature_level=1)
    for host in (nodes["a"], nodes["b"]):
        host._initial = membership_of("abc")
        host.restart()
    nodes.write(b"1")
    nodes.run(1.0)
    assert nodes.lead().node.membership.feature_level == 1
    old.settings = changed(old.settings, feature_level=2)
    old.restart()
    nodes.run_until(lambda: all(host.node.membership.feature_level == 2 for host in nodes.hosts.values()))


def test_a_member_below_the_cluster_s_feature_level_refuses_to_start_and_is_not_heard() -> None:
    nodes = Nodes("abc", feature_level=2)
    nodes.write(b"1")
    nodes.run_until(lambda: all(host.node.membership.feature_level == 2 for host in nodes.hosts.values()))
    late = nodes.followers()[0]
    nodes.run(0.3)
    late.settings = changed(late.settings, feature_level=1)
    with pytest.raises(StackdError) as refused:
        late.restart()
    assert refused.value.code == "raft.feature_level.newer"
    del nodes.hosts[late.name]
    ticket = nodes.lead().node.add("d", "d:1")
    nodes.run_until(lambda: ticket.is_done)
    told = replace(nodes.lead().node.membership, feature_level=1)
    too_old = nodes.host("d", told, feature_level=1)
    nodes.run(1.0)
    assert too_old.items == []
