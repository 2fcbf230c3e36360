"""A node that has shrunk: which of its tasks no longer have room there (semantics 14).

The youngest go first: what has been there longest stays, as far as it fits. Tasks that wait to take another one's place
count for nothing, since they use what that one holds. Who waits is told by what has been observed, not by what is wanted:
what the rest of a decision does to a task doesn't change whether it has room.
"""

from __future__ import annotations

from stackd.engine.ledger import Charge, charge_of
from stackd.engine.model import Task
from stackd.engine.schedule.resources import covers, minus
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import Resources


def has_room(view: View, task: Task) -> bool:
    """Whether what the task has reserved is still there, next to what the older tasks have that are to stay. Of one that has
    been told to stop: whether it could have stayed."""
    status = view.node_statuses.get(task.node_id)
    if status is None or _fits(status.description.resources, view.ledger.usage(task.node_id).reserved):
        return True
    left = status.description.resources
    for other in sorted(view.tasks_of_node(task.node_id), key=lambda one: (one.created_at, one.version, one.slot, one.id)):
        charge = _charge_of(view, other)
        if charge is None or _waits(view, other) or (other.desired > TaskState.COMPLETE and other.id != task.id):
            continue
        if _fits(left, charge.reserved):
            left = minus(left, charge.reserved)
        elif other.id == task.id:
            return False
    return True


def _waits(view: View, task: Task) -> bool:
    """Whether the task has not been started, and the one that it follows still holds something on the same node."""
    if view.status_of(task.id).state >= TaskState.STARTING:
        return False
    followed = view.tasks.get(task.gate.after if task.gate is not None and task.gate.after else task.replaces)
    return followed is not None and followed.node_id == task.node_id and _charge_of(view, followed) is not None


def _charge_of(view: View, task: Task) -> Charge | None:
    return charge_of(task, view.statuses.get(task.id), view.specs)


def _fits(available: Resources, reserved: Resources) -> bool:
    """Whether the amounts are there, and the names: a resource by name is that one and no other."""
    names = {one.kind: set(one.names) for one in available.generic}
    return covers(available, reserved) and all(names.get(one.kind, set()).issuperset(one.names) for one in reserved.generic)
