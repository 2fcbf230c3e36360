"""How long a node may count on the cluster counting on it."""

from __future__ import annotations

from stackd.agent.lease import UNTOLD_SECONDS, Lease


def test_before_any_answer_a_node_has_the_usual_lease() -> None:
    lease = Lease(100.0)
    assert lease.left(100.0) == UNTOLD_SECONDS
    assert lease.left(100.0 + UNTOLD_SECONDS + 1) == 0


def test_a_lease_begins_when_the_heartbeat_was_sent_not_when_its_answer_came() -> None:
    lease = Lease(0.0)
    number = lease.ask(10.0)
    lease.grant(number, 20.0)
    assert lease.left(25.0) == 5.0


def test_an_answer_that_comes_late_takes_nothing_away() -> None:
    lease = Lease(0.0)
    first, second = lease.ask(10.0), lease.ask(15.0)
    lease.grant(second, 20.0)
    lease.grant(first)
    assert lease.left(15.0) == 20.0


def test_an_answer_to_nothing_grants_nothing() -> None:
    lease = Lease(0.0)
    lease.grant(7, 1000.0)
    assert lease.left(0.0) == UNTOLD_SECONDS


def test_a_cluster_without_leases_grants_one_for_ever() -> None:
    lease = Lease(0.0)
    lease.grant(lease.ask(0.0), 0.0)
    assert lease.left(1e9) > 1e9
