"""Replaces tasks that have ended or must leave their node, and starts those whose time has come (semantics 9).

A replacement is made at once and prepared while the restart delay runs. Delays, attempts and what a task waits for are
stored, so a new leader goes on where the old one stopped. A replacement gets the service's present spec.
"""

from __future__ import annotations

import msgspec

from stackd.base.ids import TaskId
from stackd.base.time import Instant, after
from stackd.engine.dirty import Scope, SlotKey
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.fence import fence_end
from stackd.engine.orchestrate.move import is_mover
from stackd.engine.orchestrate.slots import (
    Slot,
    Wanted,
    has_completed,
    in_flux,
    is_down,
    refreshed,
    slots_of,
    still_stopping,
    takes_tasks,
)
from stackd.engine.parts import Availability, StartGate
from stackd.engine.restart_policy import counted, may_restart, policy_of
from stackd.engine.rollout import PAUSED, active_rollout
from stackd.engine.status import Rollout
from stackd.engine.tasks import make_task, release_task, start_after, stop_task, task_name
from stackd.engine.taskstate import BY_ITSELF, TaskState, is_terminal
from stackd.engine.view import View


def restart_ended(draft: Draft, service: Service, scope: Scope) -> set[SlotKey]:
    """Replace every task that has ended although it should run. Returns the slots in which nothing follows: whether they are
    over, or are to be filled as if they had never been, isn't for the policy of the last task alone to say."""
    wanted = Wanted(draft, service)
    left: set[SlotKey] = set()
    for slot in draft.budgeted(service.id, list(slots_of(draft, service, in_flux(draft, service, scope)).values())):
        for task in slot.live:
            status = draft.status_of(task.id)
            if not is_terminal(status.state) or has_completed(draft, task):
                continue
            if takes_tasks(draft, service, wanted.spec, slot.key):
                reason = f"the task has ended: {status.error or status.state.word}"
                replace_task(draft, service, wanted, refreshed(draft, service, slot), task, reason)
                if not refreshed(draft, service, slot).live:
                    left.add(slot.key)
            else:
                stop_task(draft, task, "the node takes no new task of this service")
    return left


def replace_task(
    draft: Draft, service: Service, wanted: Wanted, slot: Slot, task: Task, reason: str, *, evicted: bool = False
) -> None:
    """Stop `task` for good and, if its restart policy allows, make a successor for its slot, which is given as it is by now:
    of several tasks that end together the last one to be looked at leaves a slot in which nothing stands."""
    if task.gate is not None and task.gate.not_before > draft.now and not evicted:
        draft.wake(task.gate.not_before, service.id)  # failed before its start was due: no faster than the delay
        return
    allowed = _may_be_followed(draft, service, wanted, slot, task)
    stop_task(draft, task, reason)
    if task.iteration != service.iteration:
        return  # a run of a job that has been started anew: what comes next is not its successor
    others = [other for other in slot.live if other.id != task.id]
    standing = [other for other in others if not (slot.is_held(other) or is_terminal(draft.status_of(other.id).state))]
    if any(is_mover(other) and other.replaces == task.id for other in others):
        return  # what takes over from it does so now
    if standing and wanted.is_clean(task):
        if allowed and not evicted and not _is_paused(draft, service):
            _prepare_again(draft, service, slot, task, reason)
        return
    if standing or any(wanted.is_clean(other) for other in others):
        return  # the slot has a successor already
    if allowed and not wanted.is_clean(task) and (rollout := active_rollout(draft, service)) is not None:
        _update_early(draft, service, rollout, slot, task, reason)
    elif allowed:
        _make_successor(draft, service, slot, task, reason)
    else:
        message = f"not restarted, the restart policy says no: {reason}"
        draft.event("task.given_up", task_name(service, task), message, stack=service.stack)


def _may_be_followed(view: View, service: Service, wanted: Wanted, slot: Slot, task: Task) -> bool:
    """Whether the restart policy allows a successor. That of a task of an earlier spec is one more try of the present one."""
    last = None if wanted.is_clean(task) else _last_try(view, service, slot)
    return may_restart(view, task) and (last is None or may_restart(view, last))


def _is_paused(draft: Draft, service: Service) -> bool:
    rollout = draft.rollouts.get(service.id)
    return rollout is not None and rollout.state in PAUSED


def _prepare_again(draft: Draft, service: Service, slot: Slot, failed: Task, reason: str) -> None:
    """What was to take over from a task that still runs has failed: try again, without hurry, and leave the start to
    whoever made it."""
    task = make_task(
        draft,
        service,
        slot.key,
        reason=reason,
        held=True,
        rollout=failed.rollout,
        replaces=failed.replaces,
        restarts=attempts_after(draft, service, failed),
        order=failed.order,
        overlap_until=failed.overlap_until,
    )
    due = after(draft.now, policy_of(draft, failed).delay_ns)
    draft.put(msgspec.structs.replace(task, gate=StartGate(not_before=due)), reason)
    draft.wake(due, service.id)


def _update_early(draft: Draft, service: Service, rollout: Rollout, slot: Slot, task: Task, reason: str) -> None:
    """A task of the old spec is lost during an update: its slot is updated now, out of turn, and is part of the rollout.
    The restart delay is for tasks that fail again and again; this is another spec."""
    successor = make_task(
        draft,
        service,
        slot.key,
        reason=reason,
        held=True,
        rollout=rollout.generation,
        replaces=task.id,
        restarts=attempts_so_far(draft, service, slot),
    )
    start_after(draft, successor, still_stopping(draft, slot), max(draft.now, fence_end(draft, task)), reason)


def _make_successor(draft: Draft, service: Service, slot: Slot, task: Task, reason: str) -> None:
    """The successor stays part of the rollout that the task was made for, unless that one has been counted."""
    delay = 0 if _is_draining(draft, task) else policy_of(draft, task).delay_ns
    rollout = active_rollout(draft, service)
    uncounted = rollout is not None and task.rollout == rollout.generation and task.id not in rollout.failed
    successor = make_task(
        draft,
        service,
        slot.key,
        reason=reason,
        held=True,
        rollout=task.rollout if task.spec == service.spec else 0,
        replaces=task.replaces if uncounted else TaskId(""),
        restarts=attempts_after(draft, service, task),
    )
    not_before = max(after(draft.now, delay), fence_end(draft, task))
    start_after(draft, successor, still_stopping(draft, slot), not_before, reason)
    draft.event("task.restarted", task_name(service, task), f"restarting in {delay / 1e9:g} s: {reason}", stack=service.stack)


def attempts_after(draft: Draft, service: Service, task: Task) -> tuple[Instant, ...]:
    """The restarts that count for the successor of `task`, this one included: none after a change of spec."""
    if task.spec != service.spec:
        return ()
    return counted(policy_of(draft, task), (*task.restarts, draft.now), draft.now)


def attempts_so_far(draft: Draft, service: Service, slot: Slot) -> tuple[Instant, ...]:
    """The restarts that count for a task of the present rollout that follows none of its tries: those of the last one."""
    last = _last_try(draft, service, slot)
    return attempts_after(draft, service, last) if last is not None else ()


def _last_try(view: View, service: Service, slot: Slot) -> Task | None:
    """The last task that the present rollout made for the slot and that has ended by itself."""
    rollout = view.rollouts.get(service.id)
    if rollout is None or rollout.spec_version != service.spec_version:
        return None
    ended = [task for task in slot.tasks if task.rollout == rollout.generation and task.desired is TaskState.SHUTDOWN]
    return next((task for task in reversed(ended) if view.status_of(task.id).state in BY_ITSELF), None)


def _is_draining(draft: Draft, task: Task) -> bool:
    node = draft.nodes.get(task.node_id)
    return node is not None and node.availability is Availability.DRAIN


def release_due(draft: Draft, service: Service, scope: Scope) -> None:
    """Start every held task whose gate has opened, or whose predecessor is gone without the updater's doing."""
    for slot in slots_of(draft, service, in_flux(draft, service, scope)).values():
        for task in slot.live:
            if task.desired is not TaskState.READY:
                continue
            if task.gate is not None and task.gate.not_before > draft.now:
                draft.wake(task.gate.not_before, service.id)
            elif not slot.is_held(task):
                _release_at_gate(draft, slot, task)
            elif task is slot.live[-1] and all(slot.is_held(other) for other in slot.live):
                start_after(draft, task, still_stopping(draft, slot), draft.now, "the task it replaces is gone")


def _release_at_gate(draft: Draft, slot: Slot, task: Task) -> None:
    gate = task.gate
    predecessor = draft.tasks.get(gate.after) if gate is not None and gate.after else None
    if gate is None or not gate.after:
        start_after(draft, task, still_stopping(draft, slot), draft.now, "its time has come")
    elif predecessor is None or is_down(draft, predecessor):
        start_after(draft, task, still_stopping(draft, slot), draft.now, "what it waited for has stopped")
    elif 0 < gate.give_up_at <= draft.now:
        release_task(draft, task, f"task {predecessor.id} did not stop in time")
    else:
        draft.wake(gate.give_up_at, task.service_id)
        draft.wake(fence_end(draft, predecessor), task.service_id)
