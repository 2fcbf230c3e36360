"""Defects of the stock library in replication: each shows there, and not on our members."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from audit_cluster import TICK_SECONDS, Cluster, Flight
from audit_members import NewCluster, both


def link(kind: str, sender: str, receiver: str) -> Callable[[Flight], bool]:
    return lambda flight: (flight.kind, flight.sender, flight.receiver) == (kind, sender, receiver)


def lose_leadership(cluster: Cluster, name: str) -> None:
    """Cut `name` off until it gives up."""
    cluster.isolate(name)
    cluster.pass_time(210, lambda flight: False)
    assert not cluster.leads(name)
    cluster.rejoin(name)


@both
def test_only_stock_counts_a_late_acknowledgement_of_another_term(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    is_late = link("ack", "B", "A")
    for value in (b"x1", b"x2"):
        cluster.propose("A", value)
    late = [flight for flight in cluster.pass_time(3, lambda flight: not is_late(flight)) if is_late(flight)]
    assert late
    lose_leadership(cluster, "A")
    cluster.elect("A", lambda flight: flight.sender != "B")
    assert cluster.counted("A", "B") == 0
    for flight in late:
        cluster.hand_over(flight)
    assert (cluster.counted("A", "B") > 0) == cluster.is_stock


@both
def test_only_stock_truncates_its_log_for_a_late_copy(new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    sent = []

    def noted(flight: Flight) -> bool:
        if link("append", "A", "B")(flight):
            sent.append(flight)
        return True

    cluster.propose("A", b"a")
    cluster.pass_time(2, noted)
    for value in (b"b", b"c"):
        cluster.propose("A", value)
    cluster.pass_time(4)
    last = cluster.last_index("B")
    assert cluster.counted("A", "B") == last == cluster.commit_index("A")
    assert sent
    for flight in sent:
        cluster.hand_over(flight)
    assert (cluster.last_index("B") < last) == cluster.is_stock


@both
def test_only_stock_acknowledges_writes_that_the_cluster_never_had_while_a_snapshot_arrives(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.isolate("A")
    lost = [cluster.propose("A", value) for value in (b"lost1", b"lost2")]
    cluster.pass_time(4)
    cluster.elect("B")
    for number in range(8):
        cluster.propose("B", b"w%d" % number)
    cluster.pass_time(4)
    cluster.compact("B")
    cluster.rejoin("A")
    kinds = set()
    for _ in range(10):
        cluster.now += TICK_SECONDS
        cluster.tick("B")
        while cluster.in_flight:
            kinds.add(cluster.in_flight[0].kind)
            cluster.carry(rounds=1)
            cluster.tick("A")
    assert "snapshot" in kinds
    assert ([outcome.state for outcome in lost] == ["committed", "committed"]) == cluster.is_stock
    assert not {b"lost1", b"lost2"} & set(cluster.applied("B"))


@pytest.mark.parametrize("size", [100_000, 2 * 65536 - 64, 16 * 65536 - 64])
@both
def test_only_stock_stumbles_over_entries_that_barely_fill_its_chunks(
    size: int, new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.propose("A", b"x" * size)
    cluster.pass_time(10)
    assert cluster.applied("A") == cluster.applied("B") == [b"x" * size]
    assert bool(cluster.errors) == (cluster.is_stock and size != 100_000)


@both
def test_only_stock_sends_again_what_is_under_way_when_an_earlier_entry_is_acknowledged(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    for value in (b"first", b"second"):
        cluster.propose("A", value)
        cluster.now += TICK_SECONDS
        cluster.tick("A")
    sent = [flight for flight in cluster.in_flight if link("append", "A", "B")(flight)]
    first = next(flight for flight in sent if "first" in repr(flight.message))
    assert [flight for flight in sent if "second" in repr(flight.message)] != [first]
    cluster.in_flight.clear()
    cluster.hand_over(first)
    cluster.carry(link("ack", "B", "A"))
    cluster.now += TICK_SECONDS
    cluster.tick("A")
    sent = [flight for flight in cluster.in_flight if link("append", "A", "B")(flight)]
    assert any("second" in repr(flight.message) for flight in sent) == cluster.is_stock
