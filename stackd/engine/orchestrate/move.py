"""Moves: a task that runs well gets its place taken over by one on another node, which has to run before it is stopped.

Draining does so where the service asks for it. The new task has `order` start-first and is let go at once; when it runs, or
when it has had its time, the old one is told to stop. Unlike in an update both have the same spec, and either is as good.
"""

from __future__ import annotations

import msgspec

from stackd.base.ids import TaskId
from stackd.base.time import Instant, after
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.slots import Slot, Wanted, is_live, is_lost, spec_of
from stackd.engine.parts import Availability
from stackd.engine.restart_policy import may_restart
from stackd.engine.rollout import config_of
from stackd.engine.tasks import make_task, stop_task
from stackd.engine.taskstate import BY_ITSELF, TaskState
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode, UpdateOrder


def is_mover(task: Task) -> bool:
    """Whether the task takes over from another one that is to run until then."""
    return task.order is UpdateOrder.START_FIRST and bool(task.replaces)


def may_move(view: View, service: Service, wanted: Wanted, slot: Slot, task: Task) -> bool:
    """Whether the task is to be moved off its drained node, and not just replaced. It has to run as wanted, alone in its slot
    and unfenced (a fenced one never runs twice)."""
    node = view.nodes.get(task.node_id)
    return (
        service.settings.drain_start_first
        and service.settings.mode is ServiceMode.REPLICATED
        and (node is not None and node.availability is Availability.DRAIN)
        and not is_lost(view, task)
        and view.status_of(task.id).state is TaskState.RUNNING
        and len(slot.live) == 1
        and wanted.is_clean(task)
        and may_restart(view, task)
        and not spec_of(view, task.spec).fence
        and not _is_out_of_time(view, slot, task)
    )


def _is_out_of_time(view: View, slot: Slot, task: Task) -> bool:
    before = earlier_mover(slot, task)
    return before is not None and 0 < before.overlap_until <= view.now


def failed_mover(view: View, slot: Slot, task: Task) -> Task | None:
    """What was to take over from the task and has failed, if its restart policy allows no further attempt. Then the task
    stays where it is for the time that is left."""
    before = earlier_mover(slot, task)
    if before is None or _is_out_of_time(view, slot, task) or may_restart(view, before):
        return None
    return before if view.status_of(before.id).state in BY_ITSELF else None


def earlier_mover(slot: Slot, task: Task) -> Task | None:
    """The last task that was to take over from `task` and has ended."""
    return next((one for one in reversed(slot.tasks) if is_mover(one) and one.replaces == task.id and not is_live(one)), None)


def move_task(draft: Draft, service: Service, slot: Slot, task: Task, restarts: tuple[Instant, ...], reason: str) -> Task:
    """Make the task that takes over from `task`. At the progress deadline of the service it has had its time, together with
    those that were to take over before it."""
    deadline = config_of(service, draft.rollouts.get(service.id)).progress_deadline_ns
    before = earlier_mover(slot, task)
    until = before.overlap_until if before is not None else after(draft.now, deadline) if deadline else Instant(0)
    draft.wake(until, service.id)
    return make_task(
        draft,
        service,
        slot.key,
        reason=f"takes over: {reason}",
        replaces=task.id,
        restarts=restarts,
        order=UpdateOrder.START_FIRST,
        overlap_until=until,
    )


def finish_moves(draft: Draft, service: Service, slot: Slot) -> None:
    """Stop what has been taken over from, and what was not in time."""
    live = {task.id: task for task in slot.live}
    for mover in list(live.values()):
        if not is_mover(mover):
            continue
        runs = draft.status_of(mover.id).state is TaskState.RUNNING
        left = live.get(mover.replaces)
        if left is not None and runs:
            stop_task(draft, left, "the task that takes over runs")
        elif left is not None and 0 < mover.overlap_until <= draft.now:
            stop_task(draft, left, "the task that takes over did not run in time")
        elif left is not None:
            draft.wake(mover.overlap_until, service.id)
        if runs:
            draft.put(msgspec.structs.replace(mover, replaces=TaskId(""), order=None, overlap_until=Instant(0)))
