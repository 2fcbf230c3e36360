"""Start-first where both tasks never fit: the slot is updated stop-first instead, and people are told.

With a host port on every node, one task per node, or a full cluster, a start-first task would wait for ever for what only the
task that it replaces will free. It gives way when nothing else is about to free anything: neither a task that is stopping, nor
another slot of the same update.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from stackd.engine.accounts import discount_of
from stackd.engine.draft import Draft
from stackd.engine.model import Task
from stackd.engine.orchestrate.slots import is_live
from stackd.engine.parts import NodeState
from stackd.engine.rollout import config_of
from stackd.engine.schedule.placement import Group, Placements, place
from stackd.engine.schedule.spread import Nodes
from stackd.engine.tasks import task_name
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import UpdateOrder


def give_way(draft: Draft, group: Group, nodes: Nodes, placements: Placements) -> None:
    """Place what has found no node where it can take the place of the task that it replaces; `placements` tells the rest."""
    if _something_frees_room(draft, group, nodes, placements):
        return
    tasks = [_stop_first(task) for task in group.tasks if _may_give_way(draft, group, task)]
    discounts = {task.id: found for task in tasks if (found := discount_of(draft, group.service, task)) is not None}
    second = place(replace(group, tasks=tasks), nodes, discounts)
    for task in tasks:
        if task.id in second.assigned:
            draft.put(_stop_first(draft.tasks.get(task.id) or task), "fits nowhere beside the task that it replaces")
            name, why = task_name(group.service, task), placements.unplaced.pop(task.id).sentence
            draft.event("rollout.gave_way", name, f"the old task has to stop first: {why}", stack=group.service.stack)
    placements.assigned |= second.assigned
    placements.given |= second.given


def _something_frees_room(view: View, group: Group, nodes: Nodes, placements: Placements) -> bool:
    """Whether a task is stopping, or one of the service has a place (or is given one now) and will have another one stopped."""
    if any(info.stopping and info.status.state is NodeState.READY for info in nodes.all()):
        return True
    placed = [task for task in view.tasks_in_flux(group.service.id) if task.node_id or task.id in placements.assigned]
    return any(is_live(task) and _runs_beside(view, group, task) for task in placed)


def _may_give_way(view: View, group: Group, task: Task) -> bool:
    return task.desired is TaskState.READY and task.order is None and _runs_beside(view, group, task)


def _runs_beside(view: View, group: Group, task: Task) -> bool:
    """Whether the task is to run before the one that it replaces is told to stop."""
    order = task.order or config_of(group.service, view.rollouts.get(group.service.id)).order
    old = view.tasks.get(task.replaces)
    return order is UpdateOrder.START_FIRST and old is not None and is_live(old)


def _stop_first(task: Task) -> Task:
    return msgspec.structs.replace(task, order=UpdateOrder.STOP_FIRST)
