"""Replaces tasks that have ended or must leave their node, and starts those whose time has come (semantics 9).

A replacement is made at once and prepared while the restart delay runs. Delays, attempts and what a task waits for are
stored, so a new leader goes on where the old one stopped. A replacement gets the service's present spec.
"""

from __future__ import annotations

import msgspec

from stackd.base.time import Instant, after
from stackd.engine.draft import Draft
from stackd.engine.model import Availability, Rollout, Service, StartGate, Task
from stackd.engine.orchestrate.slots import Slot, Wanted, is_down, is_lost, slots_of, still_stopping, takes_tasks
from stackd.engine.restart_policy import counted, may_restart, policy_of
from stackd.engine.rollout import ACTIVE, PAUSED
from stackd.engine.tasks import make_task, release_task, start_after, stop_task, task_name
from stackd.engine.taskstate import TaskState, is_terminal


def restart_ended(draft: Draft, service: Service) -> None:
    """Replace every task that has ended although it should run."""
    wanted = Wanted(draft, service)
    for slot in draft.budgeted(service.id, list(slots_of(draft, service).values())):
        for task in slot.live:
            status = draft.status_of(task.id)
            if not is_terminal(status.state):
                continue
            if takes_tasks(draft, service, wanted.spec, slot.key):
                replace_task(draft, service, wanted, slot, task, f"the task has ended: {status.error or status.state.word}")
            else:
                stop_task(draft, task, "the node takes no new task of this service")


def replace_task(
    draft: Draft, service: Service, wanted: Wanted, slot: Slot, task: Task, reason: str, *, evicted: bool = False
) -> None:
    """Stop `task` for good and, if its restart policy allows, make a successor for its slot."""
    if task.gate is not None and task.gate.not_before > draft.now and not evicted:
        draft.wake(task.gate.not_before, service.id)  # failed before its start was due: no faster than the delay
        return
    allowed = may_restart(draft, task)
    stop_task(draft, task, reason)
    others = [other for other in slot.live if other.id != task.id]
    standing = [other for other in others if not slot.is_held(other)]
    if standing and wanted.is_clean(task):
        if allowed and not evicted and not _is_paused(draft, service):
            _prepare_again(draft, service, slot, task, reason)
        return
    if standing or any(wanted.is_clean(other) for other in others):
        return  # the slot has a successor already
    if allowed and not wanted.is_clean(task) and (rollout := _active_rollout(draft, service)) is not None:
        _update_early(draft, service, rollout, slot, task, reason)
    elif allowed:
        _make_successor(draft, service, slot, task, reason)
    else:
        message = f"not restarted, the restart policy says no: {reason}"
        draft.event("task.given_up", task_name(service, task), message, stack=service.stack)


def _is_paused(draft: Draft, service: Service) -> bool:
    rollout = draft.rollouts.get(service.id)
    return rollout is not None and rollout.state in PAUSED


def _prepare_again(draft: Draft, service: Service, slot: Slot, failed: Task, reason: str) -> None:
    """The updater's new task failed while the old one still runs: try again, without hurry, leaving the start to the
    updater."""
    task = make_task(
        draft,
        service,
        slot.key,
        desired=TaskState.READY,
        reason=reason,
        replaces=failed.replaces,
        restarts=_attempts(draft, service, failed),
    )
    due = after(draft.now, policy_of(draft, failed).delay_ns)
    draft.put(msgspec.structs.replace(task, gate=StartGate(not_before=due)), reason)
    draft.wake(due, service.id)


def _active_rollout(draft: Draft, service: Service) -> Rollout | None:
    rollout = draft.rollouts.get(service.id)
    current = rollout is not None and rollout.state in ACTIVE and rollout.spec_version == service.spec_version
    return rollout if current else None


def _update_early(draft: Draft, service: Service, rollout: Rollout, slot: Slot, task: Task, reason: str) -> None:
    """A task of the old spec is lost during an update: its slot is updated now, out of turn, and is part of the rollout.
    The restart delay is for tasks that fail again and again; this is another spec."""
    successor = make_task(
        draft,
        service,
        slot.key,
        desired=TaskState.READY,
        reason=reason,
        rollout=rollout.generation,
        replaces=task.id,
    )
    start_after(draft, successor, None if is_lost(draft, task) else task, draft.now, reason)


def _make_successor(draft: Draft, service: Service, slot: Slot, task: Task, reason: str) -> None:
    delay = 0 if _is_draining(draft, task) else policy_of(draft, task).delay_ns
    successor = make_task(
        draft,
        service,
        slot.key,
        desired=TaskState.READY,
        reason=reason,
        restarts=_attempts(draft, service, task),
    )
    start_after(draft, successor, None if is_lost(draft, task) else task, after(draft.now, delay), reason)
    draft.event("task.restarted", task_name(service, task), f"restarting in {delay / 1e9:g} s: {reason}", stack=service.stack)


def _attempts(draft: Draft, service: Service, task: Task) -> tuple[Instant, ...]:
    """The restarts that count for the successor: none after a change of spec."""
    if task.spec != service.spec:
        return ()
    return counted(policy_of(draft, task), (*task.restarts, draft.now), draft.now)


def _is_draining(draft: Draft, task: Task) -> bool:
    node = draft.nodes.get(task.node_id)
    return node is not None and node.availability is Availability.DRAIN


def release_due(draft: Draft, service: Service) -> None:
    """Start every held task whose gate has opened, or whose predecessor is gone without the updater's doing."""
    for slot in slots_of(draft, service).values():
        for task in slot.live:
            if task.desired is not TaskState.READY:
                continue
            if task.gate is not None and task.gate.not_before > draft.now:
                draft.wake(task.gate.not_before, service.id)
            elif not slot.is_held(task):
                _release_at_gate(draft, task)
            elif task is slot.live[-1] and all(slot.is_held(other) for other in slot.live):
                start_after(draft, task, still_stopping(draft, slot), draft.now, "the task it replaces is gone")


def _release_at_gate(draft: Draft, task: Task) -> None:
    gate = task.gate
    predecessor = draft.tasks.get(gate.after) if gate is not None and gate.after else None
    if gate is None or predecessor is None or is_down(draft, predecessor):
        release_task(draft, task, "its time has come")
    elif gate.give_up_at <= draft.now:
        release_task(draft, task, f"task {predecessor.id} did not stop in time")
    else:
        draft.wake(gate.give_up_at, task.service_id)
