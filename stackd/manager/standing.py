"""What a node has to know of how it stands in the cluster: where managers are, what it shall trust, whether its certificate is
the right one. Pure; the dispatcher tells each node whenever this changes."""

from __future__ import annotations

from stackd.api.dispatch import Standing
from stackd.base.ids import NodeId
from stackd.base.time import SECOND, Duration
from stackd.engine.model import Authority
from stackd.engine.view import View
from stackd.manager.authority import role_now, roots_of

RENEWALS_PER_SECOND = 20
"""During a rotation of the root each node renews within as much time as this rate takes for all of them."""


def standing_of(view: View, node_id: NodeId, managers: tuple[str, ...]) -> Standing:
    """How the node stands; `managers` is what `managers_of` says."""
    authority = view.authority
    if authority is None:
        return Standing(managers=managers)
    return Standing(managers=managers, roots=roots_of(authority), renew_within_ns=_renew_within(view, authority, node_id))


def managers_of(view: View) -> tuple[str, ...]:
    """Where managers serve nodes, the leader first."""
    found = [status.manager for status in view.node_statuses.values() if status.manager is not None and status.manager.address]
    return tuple(one.address for one in sorted(found, key=lambda one: (not one.leader, one.address)))


def _renew_within(view: View, authority: Authority, node_id: NodeId) -> Duration | None:
    """None if the node's certificate is as it should be, or if it has none that it could renew."""
    status = view.node_statuses.get(node_id)
    if status is None or status.certificate is None:
        return None
    if status.certificate.role is not role_now(view, node_id):
        return Duration(0)
    newest = authority.rotation.issuer if authority.rotation is not None else authority.issuer
    if status.certificate.issuer != newest:
        return Duration(len(view.nodes) * SECOND // RENEWALS_PER_SECOND)
    return None
