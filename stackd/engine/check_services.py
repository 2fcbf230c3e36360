"""Checks of what services ask for beyond numbers: jobs, moves off drained nodes, fences, the order of coming up.

As in `check`, a finding is a sentence, and only what the engine decides is judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.dependencies import has_begun, needed_by, obstacles
from stackd.engine.orchestrate.move import is_mover
from stackd.engine.orchestrate.runs import runs_of
from stackd.engine.orchestrate.slots import Slot, is_down, is_live, is_lost, slots_of, spec_of
from stackd.engine.parts import Availability
from stackd.engine.rollout import config_of
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode, UpdateOrder


def check_services(old: View, new: View) -> Iterator[str]:
    """What is wrong with the step from one state to the next."""
    for service in new.services.values():
        if service.removing or service.frozen or service.spec not in new.specs:
            continue
        yield from _check_job(old, new, service)
        yield from _check_moves(old, new, service)
        yield from _check_fences(old, new, service)
        yield from _check_order(old, new, service)


def _check_job(old: View, new: View, service: Service) -> Iterator[str]:
    """A job neither begins more runs than it is to complete, nor more than may run at once."""
    if service.settings.mode is not ServiceMode.REPLICATED_JOB:
        return
    runs, before = runs_of(new, service), runs_of(old, service)
    if not runs.active.keys() - before.active.keys():
        return
    begun = len(runs.active) + len(runs.completed)
    if begun > service.settings.replicas:
        yield f"{service.name} has begun {begun} runs, {service.settings.replicas} are to complete"
    width = service.settings.max_concurrent or service.settings.replicas
    if len(runs.active) > width:
        yield f"{len(runs.active)} runs of {service.name} are under way at once, {width} may be"


def _check_moves(old: View, new: View, service: Service) -> Iterator[str]:
    """A task that is taken over from runs until the other one does, or has had its time."""
    if not service.settings.drain_start_first:
        return
    for slot in slots_of(new, service).values():
        for mover in slot.tasks:
            left = new.tasks.get(mover.replaces) if is_mover(mover) else None
            if left is None or not _was_told_to_stop(old, left) or not is_live(mover) or left.spec != service.spec:
                continue
            in_time = not mover.overlap_until or new.now < mover.overlap_until
            if in_time and _drains(new, left) and new.status_of(left.id).state is TaskState.RUNNING:
                yield f"task {left.id} was told to stop before {mover.id} had taken over from it"


def _was_told_to_stop(old: View, task: Task) -> bool:
    before = old.tasks.get(task.id)
    return before is not None and is_live(before) and not is_live(task)


def _drains(view: View, task: Task) -> bool:
    node = view.nodes.get(task.node_id)
    return node is not None and node.availability is Availability.DRAIN and not is_lost(view, task)


def _check_fences(old: View, new: View, service: Service) -> Iterator[str]:
    """Nothing is let go in a slot while a fenced task may still run there."""
    if config_of(service, new.rollouts.get(service.id)).order is UpdateOrder.START_FIRST:
        return
    for key, slot in slots_of(new, service).items():
        for task in slot.tasks:
            if not _was_let_go(old, task):
                continue
            for other in _that_may_run(new, slot, task):
                yield f"task {task.id} was let go in slot {key} of {service.name}, where {other.id} may still run"


def _was_let_go(old: View, task: Task) -> bool:
    before = old.tasks.get(task.id)
    goes = TaskState.READY < task.desired <= TaskState.COMPLETE
    return goes and (before is None or before.desired is TaskState.READY)


def _that_may_run(view: View, slot: Slot, task: Task) -> list[Task]:
    """Other tasks of the slot, fenced ones, that nobody can be sure have stopped."""
    started = [one for one in slot.tasks if one.id != task.id and view.status_of(one.id).running_at]
    return [one for one in started if one.spec in view.specs and spec_of(view, one.spec).fence and not is_down(view, one)]


def _check_order(old: View, new: View, service: Service) -> Iterator[str]:
    """A service has its first tasks only when it may have them. What it waited for may be told to stop in the same step,
    because its node is drained for example: whoever looked at it before that saw it run."""
    before = old.services.get(service.id)
    begins = has_begun(new, service) and not (before is not None and has_begun(old, before))
    needed = [task for other in needed_by(new, service) for task in new.tasks_of_service(other.id)] if begins else []
    if begins and not any(_was_told_to_stop(old, task) for task in needed):
        for why in obstacles(new, service):
            yield f"{service.name} has its first tasks although it {why}"
