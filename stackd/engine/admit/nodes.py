"""Reports of nodes and their agents, and what people say of nodes."""

from __future__ import annotations

import msgspec

from stackd.base.ids import NodeId
from stackd.base.time import Instant
from stackd.engine.admit.refusal import Refusal
from stackd.engine.dirty import Dirty, key_of
from stackd.engine.draft import Draft
from stackd.engine.inputs import Applied, RegisterNode, RemoveNode, ReportNode, ReportTasks
from stackd.engine.model import Node, Service, Task
from stackd.engine.parts import NodeState, Role
from stackd.engine.status import NodeStatus, TaskStatus
from stackd.engine.tasks import task_name
from stackd.engine.taskstate import TaskState, is_terminal, may_move


def register_node(draft: Draft, dirty: Dirty, given: RegisterNode) -> Applied:
    """An agent has connected: the node is ready, and is what its agent says."""
    if given.id not in draft.nodes:
        if given.node is None:
            raise Refusal("node.unknown", f"node {given.id} is not a member of this cluster")
        draft.put(msgspec.structs.replace(given.node, created_at=draft.now, version=draft.next_version))
        draft.event("node.joined", given.description.hostname, "joined the cluster")
    before = draft.node_statuses.get(given.id)
    status = NodeStatus(
        id=given.id,
        state=NodeState.READY,
        at=draft.now if before is None or before.state is not NodeState.READY else before.at,
        address=given.address,
        description=given.description,
        certificate=given.certificate or (before.certificate if before is not None else None),
        manager=before.manager if before is not None else None,
    )
    return _put_status(draft, dirty, before, status)


def report_node(draft: Draft, dirty: Dirty, given: ReportNode) -> Applied:
    before = draft.node_statuses.get(given.id)
    if before is None:
        raise Refusal("node.unknown", f"node {given.id} is not a member of this cluster")
    at = before.at if before.state is given.state else draft.now
    status = msgspec.structs.replace(before, state=given.state, message=given.message, at=at)
    return _put_status(draft, dirty, before, status)


def _put_status(draft: Draft, dirty: Dirty, before: NodeStatus | None, status: NodeStatus) -> Applied:
    if status == before:
        return Applied(changed=False)
    draft.put(status)
    dirty.mark_node(draft, status.id)
    sighted = before is not None and before.state is NodeState.UNKNOWN and status.state is NodeState.READY
    if not sighted and (before is None or before.state is not status.state):
        name = status.description.hostname or status.id
        draft.event(f"node.{status.state}", name, status.message or f"the node is {status.state}")
    return Applied(changed=True, version=draft.next_version)


def lose_sight(draft: Draft) -> None:
    """A new leader hasn't heard of any node: until they have registered nothing is known of those that aren't down. Since
    when a node is down stays as it is."""
    for status in list(draft.node_statuses.values()):
        if status.state not in (NodeState.DOWN, NodeState.UNKNOWN):
            draft.put(msgspec.structs.replace(status, state=NodeState.UNKNOWN, at=draft.now, message=""))


def remove_node(draft: Draft, dirty: Dirty, given: RemoveNode) -> Applied:
    """Forget a node that people take out."""
    node = draft.nodes.get(given.id)
    if node is None:
        raise Refusal("node.unknown", f"node {given.id} is not a member of this cluster", "`stackd node ls` lists them")
    status = draft.node_statuses.get(given.id)
    name = status.description.hostname if status is not None and status.description.hostname else given.id
    if node.role is Role.MANAGER or (status is not None and status.manager is not None):
        raise Refusal("node.remove.manager", f"{name} is a manager", "demote it first: `stackd node demote`")
    if status is not None and status.state is not NodeState.DOWN and not given.force:
        raise Refusal("node.remove.up", f"{name} is not down", "stop stackd on that node first, or use --force")
    forget(draft, dirty, node)
    draft.event("node.removed", name, "removed from the cluster", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def forget(draft: Draft, dirty: Dirty, node: Node) -> None:
    """Delete a node with all that is known of it; what it was given and has not ended is orphaned (semantics 23)."""
    dirty.mark_node(draft, node.id)
    for task in draft.tasks_of_node(node.id):
        present = draft.status_of(task.id)
        if present.state < TaskState.COMPLETE:
            orphaned = msgspec.structs.replace(
                present, state=TaskState.ORPHANED, at=draft.now, message="orphaned", error="its node was removed", reason=""
            )
            draft.put(orphaned)
    draft.delete(NodeStatus, node.id)
    draft.delete(Node, node.id)


def report_tasks(draft: Draft, dirty: Dirty, given: ReportTasks) -> Applied:
    """Take over what a node says of its tasks: forward only, and only of tasks that are its own."""
    changed = False
    for reported in given.statuses:
        task = draft.tasks.get(reported.id)
        if task is not None and task.node_id == given.node_id:
            changed = _report_task(draft, dirty, given.node_id, task, reported) or changed
    return Applied(changed=changed)


def _report_task(draft: Draft, dirty: Dirty, node_id: NodeId, task: Task, reported: TaskStatus) -> bool:
    before = draft.status_of(task.id)
    if before.state < TaskState.ASSIGNED:
        return False  # a report of something this node was not given yet
    if reported.state is before.state:
        return _refresh(draft, before, reported)
    if not may_move(before.state, reported.state) or reported.state is TaskState.REMOVE:
        return False
    ran = reported.state in (TaskState.RUNNING, TaskState.COMPLETE)
    status = msgspec.structs.replace(
        reported,
        at=draft.now,
        running_at=before.running_at or (draft.now if ran else Instant(0)),
        container_id=reported.container_id or before.container_id,
        reason="",
    )
    draft.put(status)
    dirty.mark_slot(task.service_id, key_of(task))
    if is_terminal(status.state):
        dirty.room = True
        _announce_failure(draft, task, status)
    return True


def _refresh(draft: Draft, before: TaskStatus, reported: TaskStatus) -> bool:
    """More detail on a known state; nothing has to be decided on it."""
    status = msgspec.structs.replace(
        before,
        message=reported.message,
        error=reported.error,
        exit_code=reported.exit_code,
        container_id=reported.container_id or before.container_id,
        pid=reported.pid,
    )
    draft.put(status)
    return status != before


def _announce_failure(draft: Draft, task: Task, status: TaskStatus) -> None:
    """A task that ended by itself and not well is news; one that was told to stop is not."""
    if task.desired > TaskState.COMPLETE or status.state not in (TaskState.FAILED, TaskState.REJECTED):
        return
    service: Service | None = draft.services.get(task.service_id)
    if service is not None:
        draft.event(f"task.{status.state.word}", task_name(service, task), status.error or status.message, stack=service.stack)
