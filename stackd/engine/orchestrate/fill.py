"""Filling and emptying one slot: what both orchestrators do."""

from __future__ import annotations

from stackd.engine.draft import Draft
from stackd.engine.model import Service
from stackd.engine.orchestrate.slots import Slot, SlotKey, still_stopping
from stackd.engine.tasks import make_task, remove_task, start_after
from stackd.engine.taskstate import TaskState


def fill_slot(draft: Draft, service: Service, key: SlotKey, dead: Slot | None) -> None:
    """Make a task for a slot that has none. `dead` is what is left of the slot: its attempts count on under the same spec,
    and a task that is still stopping there is waited for."""
    reason = "the slot is empty" if dead is None else "the slot has no task that should run"
    attempts = dead.latest.restarts if dead is not None and dead.latest.spec == service.spec else ()
    stopping = still_stopping(draft, dead) if dead is not None else None
    if stopping is None:
        make_task(draft, service, key, desired=TaskState.RUNNING, reason=reason, restarts=attempts)
    else:
        task = make_task(draft, service, key, desired=TaskState.READY, reason=reason, restarts=attempts)
        start_after(draft, task, stopping, draft.now, reason)


def empty_slot(draft: Draft, slot: Slot, reason: str) -> None:
    """Remove all tasks of a slot that is not wanted, with their records."""
    for task in slot.tasks:
        remove_task(draft, task, reason)
