"""Moves tasks off nodes they may not stay on: drained, down or gone, or active and no longer satisfying the task's own
constraints (semantics 5, 6 and 14). Paused, unknown and disconnected nodes keep their tasks.
"""

from __future__ import annotations

from stackd.engine.draft import Draft
from stackd.engine.model import Service
from stackd.engine.orchestrate.slots import Slot, Wanted, slots_of, why_leaving
from stackd.engine.restart import replace_task
from stackd.engine.tasks import remove_task, stop_task
from stackd.spec.stack import ServiceMode


def evict(draft: Draft, service: Service) -> None:
    """Replace what has to leave its node. Tasks of global services are only stopped: their place is that node."""
    wanted = Wanted(draft, service)
    for slot in draft.budgeted(service.id, list(slots_of(draft, service).values())):
        if service.settings.mode is ServiceMode.REPLICATED:
            _drop_prepared(draft, slot)
        for task in slot.live:
            reason = why_leaving(draft, task)
            if not reason:
                continue
            if service.settings.mode is ServiceMode.GLOBAL:
                stop_task(draft, task, reason)
            else:
                replace_task(draft, service, wanted, slot, task, reason, evicted=True)


def _drop_prepared(draft: Draft, slot: Slot) -> None:
    """Remove what the updater prepared on a node it has to leave; it makes another one in time. It goes first: it is no
    successor for a task that has to leave as well."""
    for task in slot.live:
        if task.replaces and slot.is_held(task) and (reason := why_leaving(draft, task)):
            remove_task(draft, task, reason)
            slot.tasks.remove(task)
