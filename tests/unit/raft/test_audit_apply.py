"""Defects of the stock library in what it tells proposers and how it applies: each shows there, and not on our members."""

from __future__ import annotations

import pytest
from audit_members import NewCluster, both


@both
def test_only_stock_applies_an_entry_again_when_its_proposer_raises(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch, "A")
    cluster.elect("A")
    cluster.pass_time(2)
    raised = []

    def raise_once() -> None:
        if not raised:
            raised.append(True)
            raise ValueError("the proposer's own mistake")

    cluster.propose("A", b"once", raise_once)
    cluster.pass_time()
    assert raised
    assert (cluster.applied("A").count(b"once") > 1) == cluster.is_stock


@both
def test_only_stock_stops_for_ever_at_an_entry_that_cannot_be_applied(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch, "A")
    cluster.elect("A")
    cluster.pass_time(2)
    cluster.poison(b"bad")
    cluster.propose("A", b"bad")
    cluster.propose("A", b"good")
    cluster.pass_time(10)
    assert (b"good" not in cluster.applied("A")) == cluster.is_stock


@both
def test_only_stock_never_answers_a_proposer_whose_leader_stepped_down(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.isolate("A")
    outcome = cluster.propose("A", b"lost")
    cluster.pass_time(250)
    assert not cluster.leads("A")
    assert (outcome.state == "") == cluster.is_stock
