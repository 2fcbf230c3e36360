"""Nodes by what people call them."""

from __future__ import annotations

from stackd.base.errors import NotFound, Refused
from stackd.engine.model import Node
from stackd.engine.view import View

PREFIX_LENGTH = 4
"""Characters of an id that are enough, if no other node's id begins so."""


def node_of(view: View, name: str) -> Node:
    """The node with this id, this hostname, or an id that begins so. Raises NotFound("node.unknown"), or
    Refused("node.ambiguous") if there are several."""
    if (node := view.nodes.get(name)) is not None:
        return node
    named = [node for node in view.nodes.values() if _hostname(view, node) == name]
    if not named and len(name) >= PREFIX_LENGTH:
        named = [node for node in view.nodes.values() if node.id.startswith(name)]
    if not named:
        raise NotFound("node.unknown", f'no node named "{name}"', hint="`stackd node ls` lists them")
    if len(named) > 1:
        raise Refused("node.ambiguous", f'{len(named)} nodes are called "{name}"', hint="name it by its id (`stackd node ls`)")
    return named[0]


def _hostname(view: View, node: Node) -> str:
    status = view.node_statuses.get(node.id)
    return status.description.hostname if status is not None else node.id
