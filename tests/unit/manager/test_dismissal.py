"""Whether the managers that stay can go on without one of them."""

from __future__ import annotations

import pytest
from stackd.base.errors import Refused
from stackd.base.ids import NodeId
from stackd.manager.membership import check_dismissal
from stackd.raft.consensus import Member


def members(reachable: int, away: int, learners: int = 0) -> list[Member]:
    """The one that is to go, `reachable` and `away` others with a vote, and some without."""
    others = [*[(True, True)] * reachable, *[(True, False)] * away, *[(False, True)] * learners]
    return [
        Member(
            node=f"node{number}",
            address=f"10.0.0.{number}:2378",
            is_voter=voter,
            is_leader=number == 1,
            is_connected=connected,
        )
        for number, (voter, connected) in enumerate([(True, True), *others], start=1)
    ]


@pytest.mark.parametrize(("reachable", "away"), [(1, 0), (2, 0), (2, 1), (3, 2), (4, 0)])
def test_a_manager_may_go_where_a_majority_of_the_others_is_reachable(reachable: int, away: int) -> None:
    check_dismissal(members(reachable, away), NodeId("node1"), "east")


@pytest.mark.parametrize(("reachable", "away"), [(0, 1), (1, 1), (0, 2), (2, 2), (1, 3)])
def test_a_manager_stays_where_half_of_the_others_or_more_are_away(reachable: int, away: int) -> None:
    with pytest.raises(Refused) as refusal:
        check_dismissal(members(reachable, away), NodeId("node1"), "east")
    assert refusal.value.code == "node.demote.quorum"
    assert f"only {reachable} of the {reachable + away}" in refusal.value.message


def test_the_only_manager_with_a_vote_stays() -> None:
    with pytest.raises(Refused) as refusal:
        check_dismissal(members(0, 0, learners=2), NodeId("node1"), "east")
    assert refusal.value.code == "node.demote.last"


def test_whoever_has_no_vote_may_go_at_any_time() -> None:
    check_dismissal(members(0, 2, learners=1), NodeId("node4"), "west")
