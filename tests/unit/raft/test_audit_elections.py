"""Defects of the stock library in elections: each shows there, and not on our members."""

from __future__ import annotations

import pytest
from audit_members import NewCluster, both


@both
def test_only_stock_counts_the_vote_of_one_member_twice(new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = new_cluster(monkeypatch, "ABCDE")
    cluster.campaign("A")
    asked = cluster.carry(lambda flight: flight.kind != "vote")
    assert {flight.receiver for flight in asked} == set("BCDE")
    for _ in range(2):
        cluster.hand_over(cluster.granted_vote("B", "A", cluster.term("A")))
    assert cluster.leads("A") == cluster.is_stock


@both
def test_only_stock_lets_a_member_with_an_empty_log_depose_a_healthy_leader(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.hand_over(cluster.vote_request("C", "A", 99))
    assert cluster.leads("A") != cluster.is_stock


@both
def test_only_stock_lets_a_member_that_was_cut_off_depose_a_healthy_leader(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears from B, but not from the leader: it campaigns, and its term goes up each time."""
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.cut("A", "C")
    for _ in range(3):
        cluster.campaign("C")
        cluster.pass_time(2)
    cluster.connect("A", "C")
    term = cluster.term("A")
    cluster.campaign("C")
    cluster.pass_time(2)
    assert (cluster.leads("A") and cluster.term("A") == term) != cluster.is_stock


@both
def test_only_a_stock_leader_without_its_majority_goes_on_for_half_a_minute(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.isolate("A")
    cluster.pass_time(20)
    assert cluster.leads("A") == cluster.is_stock


@both
def test_only_stock_leaves_a_deposed_leader_without_an_answer_to_its_heartbeats(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the new leader reaches the old one, so only an answer from the others can tell it that its time is over."""
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.isolate("A")
    cluster.pass_time(3)
    cluster.elect("B")
    term = cluster.term("B")
    cluster.connect("A", "C")
    cluster.pass_time(2)
    assert (cluster.term("A") < term) == cluster.is_stock


@both
def test_only_stock_takes_proposals_while_it_hands_its_leadership_over(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes then is in the way of the next leader, or lost."""
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    last = cluster.last_index("A")
    cluster.transfer("A", "B")
    cluster.propose("A", b"late")
    cluster.tick("A")
    assert (cluster.last_index("A") > last) == cluster.is_stock
