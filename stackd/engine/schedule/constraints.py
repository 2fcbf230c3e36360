"""Whether a node satisfies placement constraints (semantics 12.4). The grammar is `spec/constraints.py`.

Values are compared as a whole and without regard to case; an attribute a node doesn't have is the empty string, so `==`
fails on it and `!=` succeeds. All constraints must hold.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import assert_never

from stackd.base.errors import StackdError
from stackd.base.records import Pairs
from stackd.engine.model import Node
from stackd.engine.status import NodeStatus
from stackd.spec.constraints import Attribute, Constraint, parse


def matches(constraints: Iterable[str], node: Node, status: NodeStatus) -> bool:
    """Whether the node satisfies every one of `constraints`. A text that doesn't parse is satisfied by no node."""
    for text in constraints:
        constraint = _parsed(text)
        if constraint is None or not satisfies(constraint, node, status):
            return False
    return True


def satisfies(constraint: Constraint, node: Node, status: NodeStatus) -> bool:
    """Whether the node satisfies one constraint."""
    if constraint.attribute is Attribute.IP:
        return _address_within(status.address, constraint.value) is constraint.equal
    return (_value(constraint, node, status).lower() == constraint.value.lower()) is constraint.equal


@functools.lru_cache(maxsize=4096)  # a few per service, asked for once per node
def _parsed(text: str) -> Constraint | None:
    try:
        return parse(text)
    except StackdError:
        return None


def _value(constraint: Constraint, node: Node, status: NodeStatus) -> str:
    match constraint.attribute:
        case Attribute.NODE_ID:
            return node.id
        case Attribute.HOSTNAME:
            return status.description.hostname
        case Attribute.IP:
            return status.address
        case Attribute.ROLE:
            return node.role
        case Attribute.PLATFORM_OS:
            return status.description.os
        case Attribute.PLATFORM_ARCH:
            return status.description.arch
        case Attribute.NODE_LABEL:
            return _label(node.labels, constraint.label)
        case Attribute.ENGINE_LABEL:
            return _label(status.description.engine_labels, constraint.label)
        case other:
            assert_never(other)


def _label(labels: Pairs, name: str) -> str:
    return next((value for key, value in labels if key == name), "")


def _address_within(address: str, network: str) -> bool:
    """Whether `address` is, or lies in, `network`; a node without an address lies nowhere."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
