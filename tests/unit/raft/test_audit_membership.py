"""Defects of the stock library in changes of the membership: each shows there, and not on our members."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_members import NewCluster, both
from audit_ours import OurCluster


@both
def test_only_stock_takes_in_many_members_at_once_without_a_commit(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    committed = cluster.commit_index("A")
    for name in "DEFG":
        cluster.add_member("A", name)
    for _ in range(2):
        cluster.tick("A")
    assert cluster.commit_index("A") == committed
    assert (len(cluster.voters("A")) > 4) == cluster.is_stock


@both
def test_only_stock_takes_in_a_member_because_a_follower_says_so(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.hand_over(cluster.request_to_add("C", "A", "X"))
    cluster.pass_time()
    assert ("X" in cluster.voters("A")) == cluster.is_stock


@both
def test_only_stock_begins_again_with_members_that_were_removed_long_ago(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It takes up each change anew when it applies it again, and until then counts with those that it was told at first."""
    cluster = new_cluster(monkeypatch, "ABCD", directory=tmp_path)
    cluster.elect("A")
    cluster.pass_time()
    for name in "DC":
        cluster.remove_member("A", name)
        cluster.pass_time()
    assert cluster.voters("A") == {"A", "B"}
    cluster.restart("A")
    assert (cluster.voters("A") != {"A", "B"}) == cluster.is_stock


@both
def test_only_stock_does_not_say_why_it_does_not_remove_the_leader(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither can remove it: the rest would have to go on without the one that counts their votes."""
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    itself, stranger = cluster.remove_member("A", "A"), cluster.remove_member("A", "X")
    cluster.pass_time()
    assert (itself.state, stranger.state) == ("failed", "failed")
    assert (itself.why == stranger.why) == cluster.is_stock
    assert cluster.voters("A") == set("ABC")


@both
def test_only_stock_leaves_a_former_leader_that_was_removed_in_the_belief_that_it_is_a_member(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.transfer("A", "B")
    cluster.pass_time()
    assert cluster.leads("B")
    cluster.remove_member("B", "A")
    cluster.pass_time()
    assert cluster.voters("B") == {"B", "C"}
    assert ("A" in cluster.voters("A")) == cluster.is_stock


def test_a_member_of_ours_that_was_removed_ends_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = OurCluster(monkeypatch)
    cluster.elect("B")
    cluster.pass_time()
    cluster.remove_member("B", "A")
    cluster.pass_time(10)
    failure = cluster.node("A").failure
    assert failure is not None
    assert failure.code == "raft.member.removed"
