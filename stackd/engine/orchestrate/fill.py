"""Filling and emptying one slot: what all orchestrators do."""

from __future__ import annotations

from stackd.base.ids import TaskId
from stackd.base.time import Instant
from stackd.engine.dirty import SlotKey
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.slots import Slot, still_stopping
from stackd.engine.restart import attempts_after
from stackd.engine.rollout import active_rollout
from stackd.engine.tasks import make_task, remove_task, start_after
from stackd.engine.taskstate import BY_ITSELF


def fill_slot(draft: Draft, service: Service, key: SlotKey, dead: Slot | None) -> None:
    """Make a task for a slot that has none. `dead` is what is left of the slot: its attempts count on under the same spec, a
    task that is still stopping there is waited for, and if what was there had another spec than the one that is being rolled
    out, the slot is part of that rollout."""
    if dead is None:
        make_task(draft, service, key, reason="the slot is empty")
        return
    reason = "the slot has no task that should run"
    same = dead.latest.spec == service.spec and dead.latest.iteration == service.iteration
    rollout = None if same else active_rollout(draft, service)
    stopping = still_stopping(draft, dead)
    task = make_task(
        draft,
        service,
        key,
        reason=reason,
        held=stopping is not None,
        restarts=_attempts(draft, service, dead.latest) if same else (),
        rollout=rollout.generation if rollout is not None else 0,
        replaces=dead.latest.id if rollout is not None else TaskId(""),
    )
    if stopping is not None:
        start_after(draft, task, stopping, draft.now, reason)


def _attempts(draft: Draft, service: Service, before: Task) -> tuple[Instant, ...]:
    """The restarts that count; to follow a task that has ended by itself is one more."""
    ended = draft.status_of(before.id).state in BY_ITSELF
    return attempts_after(draft, service, before) if ended else before.restarts


def empty_slot(draft: Draft, slot: Slot, reason: str) -> None:
    """Remove all tasks of a slot that is not wanted, with their records."""
    for task in slot.tasks:
        remove_task(draft, task, reason)
