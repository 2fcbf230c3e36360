"""Defects of the stock library in what it tells proposers and how it applies: each shows there, and not on our members."""

from __future__ import annotations

import pytest
from audit_cluster import TICK_SECONDS
from audit_members import NewCluster, both
from audit_ours import OurCluster
from audit_stock import EarlyValues, StockCluster


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


@both
def test_only_stock_applies_twice_what_follows_a_version_that_it_does_not_know(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours goes to a higher feature level when every member knows it: `test_node_members.py`."""
    cluster = new_cluster(monkeypatch, newer="A")
    cluster.elect("A")
    cluster.pass_time()
    cluster.use_newest_version("A")
    cluster.propose("A", b"once")
    cluster.pass_time()
    assert cluster.applied("A") == [b"once"]
    assert (cluster.applied("B").count(b"once") > 1) == cluster.is_stock


class EarlyCluster(StockCluster):
    """Its members have the state before they are initialised."""

    member_class = EarlyValues


@pytest.mark.parametrize("new_cluster", [EarlyCluster, OurCluster], ids=["stock", "ours"])
def test_only_a_stock_snapshot_lacks_what_was_set_before_the_library_was_initialised(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot is whatever attributes came later. Ours is what its consumer writes."""
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.isolate("C")
    for value in (b"a", b"b", b"c"):
        cluster.propose("A", value)
    cluster.pass_time()
    cluster.compact("A")
    cluster.rejoin("C")
    cluster.pass_time()
    assert cluster.last_index("C") == cluster.last_index("A")
    assert (b"a" not in cluster.applied("C")) == cluster.is_stock


def test_a_snapshot_of_the_next_leader_does_not_answer_for_an_entry_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of our own, once: the leader that was cut off learns in one tick that it leads no longer, and what is at the
    index that its proposer waits for."""
    cluster = OurCluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.isolate("A")
    lost = cluster.propose("A", b"lost")
    cluster.pass_time(4)
    index = cluster.last_index("A")
    cluster.elect("B")
    assert cluster.commit_index("B") == index
    cluster.compact("B")
    assert cluster.leads("A")
    cluster.rejoin("A")
    cluster.now += TICK_SECONDS
    cluster.tick("B")
    to_a = [flight for flight in cluster.in_flight if flight.receiver == "A"]
    assert "snapshot" in {flight.kind for flight in to_a}
    cluster.hand_over_at_once(to_a)
    assert cluster.members["A"].node.applied_index == index
    assert lost.state == "failed"
