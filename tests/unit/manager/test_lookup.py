"""Nodes by what people call them."""

from __future__ import annotations

import pytest
from stackd.base.errors import NotFound, Refused
from stackd.base.ids import NodeId
from stackd.engine.model import Node, Row
from stackd.engine.parts import NodeDescription, NodeState
from stackd.engine.status import NodeStatus
from stackd.manager.lookup import node_of

from manager_builders import NOW, Desk


def a_node(node_id: str, hostname: str) -> tuple[Row, Row]:
    description = NodeDescription(hostname=hostname)
    status = NodeStatus(id=NodeId(node_id), state=NodeState.READY, at=NOW, description=description)
    return Node(id=NodeId(node_id), created_at=NOW), status


def desk() -> Desk:
    nodes = (a_node("abcd1", "box"), a_node("abcd2", "twin"), a_node("abce3", "twin"), a_node("twin", "other"))
    return Desk(*(row for rows in nodes for row in rows), Node(id=NodeId("silent"), created_at=NOW))


@pytest.mark.parametrize(
    ("name", "found"), [("box", "abcd1"), ("abcd2", "abcd2"), ("abce", "abce3"), ("silent", "silent"), ("twin", "twin")]
)
def test_a_node_is_called_by_id_hostname_or_the_beginning_of_its_id(name: str, found: str) -> None:
    assert node_of(desk().store.view, name).id == found


@pytest.mark.parametrize("name", ["", "ab", "stranger"])
def test_what_no_node_is_called_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        node_of(desk().store.view, name)


def test_a_name_of_several_nodes_names_none() -> None:
    rows = (*a_node("n1", "twin"), *a_node("n2", "twin"))
    with pytest.raises(Refused) as caught:
        node_of(Desk(*rows).store.view, "twin")
    assert caught.value.code == "node.ambiguous"


def test_the_beginning_of_several_ids_names_none() -> None:
    with pytest.raises(Refused):
        node_of(desk().store.view, "abcd")
