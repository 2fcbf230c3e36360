from __future__ import annotations

import pytest
from stackd.engine.parts import Role
from stackd.engine.schedule.constraints import matches

from schedule_builders import a_node

NODE = a_node(
    "abc123",
    role=Role.MANAGER,
    labels={"disk": "SSD", "Zone": "a"},
    engine_labels={"storage": "zfs"},
    address="10.1.2.3",
)


@pytest.mark.parametrize(
    ("constraint", "satisfied"),
    [
        ("node.id == abc123", True),
        ("node.id==ABC123", True),
        ("node.id != abc123", False),
        ("NODE.HOSTNAME == ABC123.example", True),
        ("node.hostname == abc123", False),
        ("node.role == manager", True),
        ("node.role != manager", False),
        ("node.role == worker", False),
        ("node.platform.os == Linux", True),
        ("node.platform.arch == x86_64", False),  # not normalised, as in SwarmKit
        ("node.platform.arch == amd64", True),
        ("node.labels.disk == ssd", True),
        ("Node.Labels.disk == ssd", True),
        ("node.labels.Disk == ssd", False),  # the name of a label has its case
        ("node.labels.Zone != b", True),
        ("node.labels.rack == r1", False),
        ("node.labels.rack != r1", True),  # a missing label is the empty string
        ("engine.labels.storage == zfs", True),
        ("engine.labels.storage != ZFS", False),
        ("node.ip == 10.1.2.3", True),
        ("node.ip != 10.1.2.3", False),
        ("node.ip == 10.1.0.0/16", True),
        ("node.ip == 10.1.9.9/16", True),
        ("node.ip == 10.2.0.0/16", False),
        ("node.ip != 10.2.0.0/16", True),
        ("node.ip == fd00::/8", False),
    ],
)
def test_a_constraint_is_decided_as_swarmkit_does(constraint: str, satisfied: bool) -> None:
    assert matches([constraint], NODE.node, NODE.status) is satisfied


def test_all_constraints_must_hold() -> None:
    assert matches(["node.role == manager", "node.labels.disk == ssd"], NODE.node, NODE.status)
    assert not matches(["node.role == manager", "node.labels.disk == hdd"], NODE.node, NODE.status)


def test_no_constraints_match_every_node() -> None:
    assert matches([], NODE.node, NODE.status)


@pytest.mark.parametrize("nonsense", ["node.labels.disk", "node.color == red", "node.ip == everywhere", ""])
def test_a_constraint_that_does_not_parse_is_satisfied_by_no_node(nonsense: str) -> None:
    assert not matches([nonsense], NODE.node, NODE.status)


def test_a_node_without_an_address_lies_in_no_network() -> None:
    nowhere = a_node(address="")
    assert not matches(["node.ip == 0.0.0.0/0"], nowhere.node, nowhere.status)
    assert matches(["node.ip != 0.0.0.0/0"], nowhere.node, nowhere.status)
