from __future__ import annotations

import pytest
from stackd.base.errors import StackdError
from stackd.spec.constraints import Attribute, Constraint, parse


@pytest.mark.parametrize(
    ("text", "constraint"),
    [
        ("node.role==manager", Constraint(Attribute.ROLE, "manager")),
        ("  node.role  !=  manager  ", Constraint(Attribute.ROLE, "manager", equal=False)),
        ("node.labels.disk == ssd", Constraint(Attribute.NODE_LABEL, "ssd", label="disk")),
        ("node.labels.com.example.Rack == r-1", Constraint(Attribute.NODE_LABEL, "r-1", label="com.example.Rack")),
        ("Engine.Labels.os == ubuntu 22.04", Constraint(Attribute.ENGINE_LABEL, "ubuntu 22.04", label="os")),
        ("node.ip == 10.0.0.0/24", Constraint(Attribute.IP, "10.0.0.0/24")),
        ("node.ip != 2001:db8::2", Constraint(Attribute.IP, "2001:db8::2", equal=False)),
        ("node.platform.arch == arm64", Constraint(Attribute.PLATFORM_ARCH, "arm64")),
    ],
)
def test_a_constraint_is_read(text: str, constraint: Constraint) -> None:
    assert parse(text) == constraint


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no operator"),
        ("node.role = manager", "no operator"),
        ("node.role ==", "no value"),
        ("== manager", "not a key"),
        ("node role == manager", "not a key"),
        ("node.role == manager == worker", "not a value"),
        ('node.labels.disk == "ssd"', "not a value"),
        ("node.color == red", "not something a node has"),
        ("node.labels. == red", "not something a node has"),
        ("node.role == boss", 'no role "boss"'),
        ("node.ip == 10.0.0", "neither an address nor a network"),
    ],
)
def test_a_constraint_that_no_node_could_ever_match_is_an_error(text: str, part: str) -> None:
    with pytest.raises(StackdError) as caught:
        parse(text)
    assert caught.value.code == "spec.constraint.bad"
    assert part in caught.value.message


def test_a_misspelt_key_is_answered_with_the_right_one() -> None:
    with pytest.raises(StackdError) as caught:
        parse("node.hostnam == w1")
    assert caught.value.hint == "did you mean node.hostname?"
