"""Nodes that join, change their role and leave; and who the managers are.

`Node.role` is what is wanted. A manager stays one until consensus has let go of it, which `ReportManagers` tells; only then is
a node that leaves forgotten.
"""

from __future__ import annotations

import msgspec

from stackd.base.ids import NodeId
from stackd.base.records import pairs
from stackd.engine.admit.nodes import forget
from stackd.engine.admit.refusal import Refusal
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import AdmitNode, Applied, LeaveCluster, ReportManagers, UpdateNode
from stackd.engine.model import Node
from stackd.engine.parts import Availability, ManagerStatus, Role
from stackd.engine.status import NodeStatus
from stackd.engine.view import View


def admit_node(draft: Draft, given: AdmitNode) -> Applied:
    """A node that has a valid token becomes a member. Its state is known once its agent has connected."""
    known = draft.nodes.get(given.node.id)
    if known is not None:
        if known.leaving:
            raise Refusal("node.leaving", f"{_name(draft, known.id)} is leaving the cluster", "try again when it is gone")
        return Applied(changed=False, version=known.version)
    draft.put(msgspec.structs.replace(given.node, created_at=draft.now, version=draft.next_version))
    draft.event("node.joined", given.hostname or given.node.id, f"joined the cluster as {given.node.role}")
    return Applied(changed=True, version=draft.next_version)


def update_node(draft: Draft, dirty: Dirty, given: UpdateNode) -> Applied:
    node = _node(draft, given.id)
    if node.leaving:
        raise Refusal("node.leaving", f"{_name(draft, node.id)} is leaving the cluster")
    changed = _with_labels(_with_availability(node, given.availability), given)
    if given.role is not None and given.role is not node.role:
        if given.role is Role.WORKER:
            _check_not_last(draft, node)
        changed = msgspec.structs.replace(changed, role=given.role)
    if changed == node:
        return Applied(changed=False, version=node.version)
    draft.put(msgspec.structs.replace(changed, version=draft.next_version))
    dirty.mark_node(draft, node.id)
    _announce(draft, node, changed, given)
    return Applied(changed=True, version=draft.next_version)


def leave_cluster(draft: Draft, dirty: Dirty, given: LeaveCluster) -> Applied:
    node = _node(draft, given.id)
    status = draft.node_statuses.get(node.id)
    if node.role is Role.MANAGER:
        _check_not_last(draft, node)
    name = _name(draft, node.id)
    draft.event("node.left", name, "leaves the cluster", principal=given.principal)
    if status is None or status.manager is None:
        forget(draft, dirty, node)
    else:
        left = msgspec.structs.replace(node, role=Role.WORKER, availability=Availability.DRAIN, leaving=True)
        draft.put(msgspec.structs.replace(left, version=draft.next_version))
        dirty.mark_node(draft, node.id)
    return Applied(changed=True, version=draft.next_version)


def report_managers(draft: Draft, dirty: Dirty, given: ReportManagers) -> Applied:
    """Store what has changed. A node without a status gets it with its agent's first word, and is reported then."""
    present = dict(given.managers)
    changed = False
    for status in list(draft.node_statuses.values()):
        now = present.get(status.id)
        if now == status.manager:
            continue
        changed = True
        draft.put(msgspec.structs.replace(status, manager=now))
        _announce_manager(draft, status, now)
        node = draft.nodes.get(status.id)
        if now is None and node is not None and node.leaving:
            forget(draft, dirty, node)
    return Applied(changed=changed)


def managers_wanted(view: View) -> set[NodeId]:
    """The nodes that are to be managers."""
    return {node.id for node in view.nodes.values() if node.role is Role.MANAGER}


def _check_not_last(view: View, node: Node) -> None:
    if managers_wanted(view) <= {node.id}:
        raise Refusal(
            "node.demote.last",
            f"{_name(view, node.id)} is the only manager",
            "promote another node first; to end the cluster, `stackd cluster leave --force` there",
        )


def _with_availability(node: Node, availability: Availability | None) -> Node:
    return node if availability is None else msgspec.structs.replace(node, availability=availability)


def _with_labels(node: Node, given: UpdateNode) -> Node:
    if any(not name for name, _ in given.labels):
        raise Refusal("node.label.bad", "a label needs a name", "write it as name=value")
    labels = {name: value for name, value in node.labels if name not in given.labels_removed} | dict(given.labels)
    return msgspec.structs.replace(node, labels=pairs(labels))


def _announce(draft: Draft, before: Node, after: Node, given: UpdateNode) -> None:
    name = _name(draft, before.id)
    if after.availability is not before.availability:
        draft.event("node.availability", name, f"set to {after.availability}", principal=given.principal)
    if after.role is not before.role:
        word = "promoted" if after.role is Role.MANAGER else "demoted"
        draft.event("node.role", name, f"{word} to {after.role}", principal=given.principal)
    if after.labels != before.labels:
        draft.event("node.labels", name, "labels changed", principal=given.principal)


def _announce_manager(draft: Draft, status: NodeStatus, reported: ManagerStatus | None) -> None:
    """Who leads and how addresses move is no news; a manager that comes, goes or can't be reached is. One comes with its vote:
    a member without one may never have been reached."""
    before, now, name = _with_vote(status.manager), _with_vote(reported), _name(draft, status.id)
    if before is None and now is not None:
        draft.event("node.manager", name, "is a manager now")
    elif before is not None and now is None:
        draft.event("node.manager", name, "is no manager any more")
    elif before is not None and now is not None and before.reachable is not now.reachable:
        draft.event("node.manager", name, "the manager is reachable again" if now.reachable else "the manager is unreachable")


def _with_vote(manager: ManagerStatus | None) -> ManagerStatus | None:
    return manager if manager is not None and manager.voter else None


def _node(view: View, node_id: NodeId) -> Node:
    node = view.nodes.get(node_id)
    if node is None:
        raise Refusal("node.unknown", f"node {node_id} is not a member of this cluster", "`stackd node ls` lists them")
    return node


def _name(view: View, node_id: NodeId) -> str:
    status = view.node_statuses.get(node_id)
    return status.description.hostname or node_id if status is not None else node_id
