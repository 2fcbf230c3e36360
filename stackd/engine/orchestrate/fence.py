"""Fencing: when a task on a node that nobody can reach has certainly stopped.

A service may ask that its tasks never run twice (`TaskSpec.fence`). An agent that has heard nothing from a manager for the
length of its lease begins to stop them by itself. So a successor may start once the lease has run out and the task had its
time to stop; before that the lost task counts as running. The lease ends at the latest `lease_ns` after the node was
declared down, since it was last heard before that.
"""

from __future__ import annotations

from stackd.base.time import SECOND, Duration, Instant
from stackd.engine.model import Task
from stackd.engine.parts import NodeState
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View

MARGIN = Duration(5 * SECOND)
"""Added to lease and grace: for a node's clock that goes slow (a tenth of a lease of 15 s, and far more than real clocks are
off), for the kill after the grace, and for the agent to notice."""

DEFAULT_LEASE = Duration(15 * SECOND)
"""While there is no cluster record yet."""


def fence_end(view: View, task: Task) -> Instant:
    """When a fenced task that is out of reach has certainly stopped; 0 if it isn't fenced, or within reach, or has ended."""
    row = view.specs.get(task.spec)
    if row is None or not row.spec.fence or not task.node_id:
        return Instant(0)
    out_of_reach_at = _out_of_reach_at(view, task)
    if not out_of_reach_at:
        return Instant(0)
    lease = view.cluster.lease_ns if view.cluster is not None else DEFAULT_LEASE
    return Instant(out_of_reach_at + lease + row.spec.container.stop_grace_ns + MARGIN)


def _out_of_reach_at(view: View, task: Task) -> Instant:
    """When the node was given up. The task of a removed node is orphaned in that moment."""
    status = view.status_of(task.id)
    if status.state is TaskState.ORPHANED:
        return status.at
    if is_terminal(status.state) or status.state < TaskState.ASSIGNED:
        return Instant(0)
    node = view.node_statuses.get(task.node_id)
    if node is None:
        return view.now
    return node.at if node.state is NodeState.DOWN else Instant(0)
