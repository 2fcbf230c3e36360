"""A node that has shrunk: which of its tasks no longer have room there (semantics 14).

The youngest go first: what has been there longest stays, as far as it fits. Tasks that wait to take another one's place
count for nothing, since they use what that one holds.
"""

from __future__ import annotations

from stackd.engine.model import Task
from stackd.engine.schedule.resources import covers, minus
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import Resources


def has_room(view: View, task: Task) -> bool:
    """Whether what the task has reserved is still there, next to what older tasks have."""
    status = view.node_statuses.get(task.node_id)
    if status is None or _fits(status.description.resources, view.ledger.usage(task.node_id).reserved):
        return True
    left = status.description.resources
    for other in sorted(view.tasks_of_node(task.node_id), key=lambda one: (one.created_at, one.version, one.slot, one.id)):
        charge = view.ledger.charge(other.id)
        if charge is None or other.desired > TaskState.COMPLETE or other.replaces or other.gate is not None:
            continue
        if _fits(left, charge.reserved):
            left = minus(left, charge.reserved)
        elif other.id == task.id:
            return False
    return True


def _fits(available: Resources, reserved: Resources) -> bool:
    """Whether the amounts are there, and the names: a resource by name is that one and no other."""
    names = {one.kind: set(one.names) for one in available.generic}
    return covers(available, reserved) and all(names.get(one.kind, set()).issuperset(one.names) for one in reserved.generic)
