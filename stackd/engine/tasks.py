"""The writes on tasks that all stages share: making one, stopping it, removing it, letting it start.

The desired state only ever rises. A task that must not start yet is made with desired state READY: the node prepares it
and holds it there. What releases it is its gate (a stored time and the task it waits for), or the updater, if it has none.
Tasks of jobs are to come to COMPLETE, all others to RUNNING.
"""

from __future__ import annotations

import msgspec

from stackd.base.ids import TaskId
from stackd.base.time import SECOND, Duration, Instant, after
from stackd.engine.dirty import SlotKey
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.fence import fence_end
from stackd.engine.orchestrate.slots import is_down, spec_of
from stackd.engine.parts import StartGate
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import UpdateOrder

OLD_TASK_TIMEOUT = Duration(60 * SECOND)
"""How long a successor waits for its predecessor to stop (SwarmKit's value)."""


def make_task(
    draft: Draft,
    service: Service,
    key: SlotKey,
    *,
    reason: str,
    held: bool = False,
    rollout: int = 0,
    replaces: TaskId | None = None,
    restarts: tuple[Instant, ...] = (),
    order: UpdateOrder | None = None,
    overlap_until: Instant | None = None,
) -> Task:
    """A new task of the service's present spec, not yet placed. One that is `held` is only prepared for now."""
    number, node_id = key
    task = Task(
        id=TaskId(draft.new_id()),
        service_id=service.id,
        slot=number,
        node_id=node_id,
        spec=service.spec,
        desired=TaskState.READY if held else _goal(service.iteration),
        created_at=draft.now,
        spec_version=service.spec_version,
        rollout=rollout,
        replaces=replaces or TaskId(""),
        restarts=restarts,
        revision=service.revision,
        version=draft.next_version,
        iteration=service.iteration,
        order=order,
        overlap_until=overlap_until or Instant(0),
    )
    draft.put(task, reason)
    draft.put(TaskStatus(id=task.id, state=TaskState.NEW, at=draft.now, message="created"))
    return task


def _goal(iteration: int) -> TaskState:
    return TaskState.COMPLETE if iteration else TaskState.RUNNING


def stop_task(draft: Draft, task: Task, reason: str) -> None:
    """Stop the task and keep its record."""
    _raise_desired(draft, task, TaskState.SHUTDOWN, reason)


def remove_task(draft: Draft, task: Task, reason: str) -> None:
    """Stop the task; its record goes once it has stopped."""
    _raise_desired(draft, task, TaskState.REMOVE, reason)


def release_task(draft: Draft, task: Task, reason: str) -> Task:
    """Let a held task run."""
    return _change(draft, task, reason, desired=_goal(task.iteration), gate=None)


def start_after(draft: Draft, task: Task, predecessor: Task | None, not_before: Instant, reason: str) -> Task:
    """Let a task held at READY run at `not_before` and once `predecessor` has stopped (or didn't in time; a fenced one gets
    all the time it needs). If neither is in the way, it runs at once."""
    waits = predecessor is not None and not is_down(draft, predecessor)
    if not waits and not_before <= draft.now:
        return release_task(draft, task, reason)
    gate = StartGate(not_before=not_before)
    if predecessor is not None and waits:
        fenced = spec_of(draft, predecessor.spec).fence
        give_up_at = Instant(0) if fenced else after(draft.now, OLD_TASK_TIMEOUT)
        gate = StartGate(not_before=not_before, after=predecessor.id, give_up_at=give_up_at)
        draft.wake(give_up_at, task.service_id)
        draft.wake(fence_end(draft, predecessor), task.service_id)
    draft.wake(not_before, task.service_id)
    return _change(draft, task, reason, gate=gate)


def _raise_desired(draft: Draft, task: Task, desired: TaskState, reason: str) -> None:
    present = draft.tasks.get(task.id) or task
    if present.desired < desired:
        _change(draft, present, reason, desired=desired, gate=None)


def _change(draft: Draft, task: Task, reason: str, **fields: object) -> Task:
    changed = msgspec.structs.replace(task, **fields)
    draft.put(changed, reason)
    return changed


def task_name(service: Service, task: Task) -> str:
    """A task as people know it: `shop_web.3`, for a global service `shop_web.<node>`."""
    return f"{service.name}.{task.slot or task.node_id}"
