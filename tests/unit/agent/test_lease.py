"""How long a node may count on the cluster counting on it, and what of that a restart of its agent leaves."""

from __future__ import annotations

from stackd.agent.lease import FOR_EVER, Lease, LeaseNote
from stackd.base.time import SECOND, Duration


def at(seconds: float) -> Duration:
    return Duration(round(seconds * SECOND))


def a_lease(since: float, lasts: float, boot: str = "boot-1") -> Lease:
    lease = Lease(boot)
    lease.grant(lease.ask(at(since)), at(lasts))
    return lease


def test_before_any_answer_a_node_has_no_lease() -> None:
    lease = Lease("boot-1")
    lease.ask(at(0))
    assert lease.left(at(0)) == 0


def test_a_lease_begins_when_the_heartbeat_was_sent_not_when_its_answer_came() -> None:
    lease = a_lease(since=10, lasts=20)
    assert lease.left(at(25)) == at(5)
    assert lease.left(at(30)) == lease.left(at(31)) == 0


def test_later_answers_need_not_say_how_long_it_lasts() -> None:
    lease = a_lease(since=10, lasts=20)
    lease.grant(lease.ask(at(15)))
    assert lease.left(at(15)) == at(20)


def test_an_answer_that_comes_late_takes_nothing_away() -> None:
    lease = a_lease(since=0, lasts=20)
    first, second = lease.ask(at(10)), lease.ask(at(15))
    lease.grant(second)
    lease.grant(first)
    assert lease.left(at(15)) == at(20)


def test_an_answer_to_nothing_grants_nothing() -> None:
    lease = Lease("boot-1")
    lease.grant(7, at(1000))
    assert lease.left(at(0)) == 0


def test_a_cluster_without_leases_grants_one_for_ever() -> None:
    assert a_lease(since=0, lasts=0).left(at(1e9)) == FOR_EVER


def test_a_restart_of_the_agent_makes_a_lease_neither_longer_nor_shorter() -> None:
    noted = a_lease(since=10, lasts=20).note
    assert Lease("boot-1", noted).left(at(25)) == at(5)
    assert Lease("boot-1", noted).left(at(40)) == 0


def test_an_answer_after_a_restart_renews_it() -> None:
    lease = Lease("boot-1", a_lease(since=10, lasts=20).note)
    lease.grant(lease.ask(at(40)), at(15))
    assert lease.left(at(40)) == at(15)


def test_a_reboot_ends_every_lease() -> None:
    assert Lease("boot-2", a_lease(since=10, lasts=20).note).left(at(1)) == 0


def test_where_nobody_knows_whether_the_machine_was_rebooted_it_is_taken_for_rebooted() -> None:
    assert Lease("", LeaseNote("", at(10), at(20))).left(at(11)) == 0
