"""Moves tasks off nodes they may not stay on: drained, down or gone, or no longer satisfying the task's own constraints
(semantics sections 5, 6 and 14). Paused, unknown and disconnected nodes keep their tasks.
"""

from __future__ import annotations

from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.slots import Wanted, node_suits, slots_of, spec_of, why_evicting
from stackd.engine.restart import replace_task
from stackd.engine.tasks import remove_task, stop_task
from stackd.spec.stack import ServiceMode


def evict(draft: Draft, service: Service) -> None:
    """Replace what has to leave its node. Tasks of global services are only stopped: their place is that node."""
    wanted = Wanted(draft, service)
    for slot in draft.budgeted(service.id, list(slots_of(draft, service).values())):
        for task in slot.live:
            reason = _why_leave(draft, task)
            if not reason:
                continue
            if service.settings.mode is ServiceMode.GLOBAL:
                stop_task(draft, task, reason)
            elif slot.is_held(task) and task.replaces:
                remove_task(draft, task, reason)
            else:
                replace_task(draft, service, wanted, slot, task, reason, evicted=True)


def _why_leave(draft: Draft, task: Task) -> str:
    """The reason, or "" if the task may stay."""
    if not task.node_id:
        return ""
    if reason := why_evicting(draft, task.node_id):
        return reason
    if not node_suits(draft, spec_of(draft, task.spec), task.node_id):
        return "the node no longer satisfies the task's constraints"
    return ""
