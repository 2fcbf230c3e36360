"""Moves tasks off nodes they may not stay on: drained, down or gone, or active and no longer satisfying the task's own
constraints, or too small for it (semantics 5, 6 and 14). Paused, unknown and disconnected nodes keep their tasks.

Tasks of a node that has been down for a day are given up as well: nobody waits for their end any longer.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from stackd.base.time import DAY, Duration, after
from stackd.engine.dirty import DEADLINE, EVERYWHERE, Scope
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.move import failed_mover, finish_moves, is_mover, may_move, move_task
from stackd.engine.orchestrate.slots import Slot, Wanted, has_completed, in_flux, is_lost, refreshed, slots_of, why_leaving
from stackd.engine.parts import NodeState
from stackd.engine.restart import attempts_after, replace_task
from stackd.engine.status import NodeStatus
from stackd.engine.tasks import remove_task, stop_task
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode

ORPHANED_AFTER = Duration(DAY)
"""How long a node may be down before its tasks are given up (SwarmKit's value)."""


def evict(draft: Draft, service: Service, scope: Scope) -> None:
    """Replace what has to leave its node. Tasks of global services are only stopped: their place is that node."""
    wanted = Wanted(draft, service)
    for slot in draft.budgeted(service.id, list(slots_of(draft, service, in_flux(draft, service, scope)).values())):
        if service.settings.mode is ServiceMode.REPLICATED:
            _drop_prepared(draft, slot)
            finish_moves(draft, service, slot)
        _leave(draft, service, wanted, slot)
    _orphan_lost(draft, service, scope)


def _leave(draft: Draft, service: Service, wanted: Wanted, slot: Slot) -> None:
    """What takes over from another task goes first, so that a slot is looked at that has what it will have."""
    for task in sorted(refreshed(draft, service, slot).live, key=lambda task: not is_mover(task)):
        reason = "" if has_completed(draft, task) else why_leaving(draft, task)
        if not reason:
            continue
        now = refreshed(draft, service, slot)
        if service.settings.mode in EVERYWHERE:
            stop_task(draft, task, reason)
        elif any(is_mover(other) and other.replaces == task.id for other in now.live) and not is_lost(draft, task):
            continue  # it goes when the other one runs
        elif (failed := failed_mover(draft, now, task)) is not None and not is_lost(draft, task):
            draft.wake(failed.overlap_until, service.id)
        elif may_move(draft, service, wanted, now, task):
            move_task(draft, service, now, task, attempts_after(draft, service, task), reason)
        else:
            replace_task(draft, service, wanted, now, task, reason, evicted=True)


def _drop_prepared(draft: Draft, slot: Slot) -> None:
    """Remove what the updater prepared on a node it has to leave; it makes another one in time. It goes first: it is no
    successor for a task that has to leave as well. One that has failed stays, as a try that counts."""
    for task in slot.live:
        if is_terminal(draft.status_of(task.id).state):
            continue
        if task.replaces and slot.is_held(task) and (reason := why_leaving(draft, task)):
            remove_task(draft, task, reason)
            slot.tasks.remove(task)


def _orphan_lost(draft: Draft, service: Service, scope: Scope) -> None:
    """Give up the tasks of nodes that have been down for long, and come back when others will have been."""
    for task, node in list(_lost_tasks(draft, service, scope)):
        due = after(node.at, ORPHANED_AFTER)
        if due > draft.now:
            draft.wake(due, service.id)
            continue
        orphaned = msgspec.structs.replace(
            draft.status_of(task.id),
            state=TaskState.ORPHANED,
            at=draft.now,
            message="orphaned",
            error="its node has been down for too long",
        )
        draft.put(orphaned)


def _lost_tasks(view: View, service: Service, scope: Scope) -> Iterator[tuple[Task, NodeStatus]]:
    """The tasks on nodes that are down: those in `scope`, or all of them when a deadline has come."""
    if scope is not None and DEADLINE not in scope:
        tasks = [task for slot in slots_of(view, service, scope).values() for task in slot.tasks]
    else:
        tasks = [task for node in view.nodes_in(NodeState.DOWN) for task in view.tasks_of_node(node.id)]
    for task in tasks:
        node = view.node_statuses.get(task.node_id)
        if node is None or node.state is not NodeState.DOWN or task.service_id != service.id:
            continue
        if TaskState.ASSIGNED <= view.status_of(task.id).state <= TaskState.RUNNING:
            yield task, node
