"""Which managers a member of consensus hears: by certificate, state and the order in time of the two."""

from __future__ import annotations

from typing import Any

import pytest
from stackd.base.ids import NodeId
from stackd.base.records import encode
from stackd.base.time import HOUR, SECOND, Instant
from stackd.engine.model import Node, Row
from stackd.engine.parts import ManagerStatus, NodeState, Role
from stackd.engine.status import NodeStatus
from stackd.engine.store import Store, Transaction
from stackd.manager.fellows import Fellows

NOW = Instant(10 * HOUR)
EARLIER, LATER = "Jan  1 08:00:00 1970 GMT", "Jan  1 09:00:01 1970 GMT"
"""When certificates begin that were issued, an hour later, before NOW and after it."""


def certificate(name: str, unit: str = "stackd-manager", cluster: str = "c1", begins: str = EARLIER) -> dict[str, Any]:
    subject = (
        (("organizationName", cluster),),
        (("organizationalUnitName", unit),),
        (("commonName", name),),
    )
    return {"subject": subject, "serialNumber": "0A", "notBefore": begins, "notAfter": "Jan  1 00:00:00 1980 GMT"}


def fellows(*rows: Row) -> Fellows:
    store = Store()
    store.apply(1, encode(Transaction(now=NOW, puts=rows, deletes=())))
    return Fellows(lambda: store.view, "c1")


def a_node(name: str, role: Role) -> Node:
    return Node(id=NodeId(name), created_at=Instant(0), role=role)


def test_a_manager_of_the_state_is_heard() -> None:
    assert fellows(a_node("m1", Role.MANAGER)).name_of(certificate("m1")) == "m1"


def test_who_was_demoted_is_heard_until_consensus_has_let_go_of_it_and_then_no_more() -> None:
    demoted = a_node("m1", Role.WORKER)
    status = NodeStatus(id=NodeId("m1"), state=NodeState.READY, at=NOW, manager=ManagerStatus(address="10.0.0.1:2378"))
    assert fellows(demoted, status).name_of(certificate("m1")) == "m1"
    with pytest.raises(ValueError, match="any more"):
        fellows(demoted).name_of(certificate("m1"))


def test_a_manager_that_came_while_we_were_away_is_heard_and_one_that_was_removed_is_not() -> None:
    assert fellows().name_of(certificate("m2", begins=LATER)) == "m2"
    with pytest.raises(ValueError, match="any more"):
        fellows().name_of(certificate("m2"))


def test_a_member_that_knows_nothing_yet_hears_whoever_leads() -> None:
    store = Store()
    assert Fellows(lambda: store.view, "c1").name_of(certificate("m2")) == "m2"


@pytest.mark.parametrize(
    "shown",
    [
        certificate("m1", unit="stackd-worker"),
        certificate("m1", unit="stackd-admin"),
        certificate("m1", cluster="c2"),
        certificate("m1", unit="something"),
        {**certificate("m1"), "subject": ()},
    ],
)
def test_a_worker_a_person_and_a_stranger_are_not_heard(shown: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"certificate|cluster"):
        fellows(a_node("m1", Role.MANAGER)).name_of(shown)


def test_the_moment_of_issue_counts_to_the_second() -> None:
    assert NOW % SECOND == 0
    exact = "Jan  1 09:00:00 1970 GMT"
    with pytest.raises(ValueError, match="any more"):
        fellows().name_of(certificate("m2", begins=exact))
