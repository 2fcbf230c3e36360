"""The record of a rolling update: beginning one, counting its failures, watching that it gets on, pausing it, turning it
back (semantics 8.3, 8.5).

`update.py` moves the tasks; this module moves the state. Every change of state has a message and is an event.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from stackd.base.ids import SpecDigest
from stackd.base.time import SECOND, Instant, after
from stackd.engine.dirty import Scope, key_of
from stackd.engine.draft import Draft
from stackd.engine.explain import explain_task
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.slots import is_live, slots_of
from stackd.engine.parts import PreviousSpec, RolloutState
from stackd.engine.restart_policy import may_restart
from stackd.engine.status import Rollout
from stackd.engine.tasks import task_name
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.stack import FailureAction, UpdateConfig

ACTIVE = frozenset({RolloutState.UPDATING, RolloutState.ROLLBACK_STARTED})
PAUSED = frozenset({RolloutState.PAUSED, RolloutState.ROLLBACK_PAUSED})


def config_of(service: Service, rollout: Rollout | None) -> UpdateConfig:
    """The settings that govern the service's rollout: those for rollbacks while it is one."""
    if rollout is not None and rollout.state is RolloutState.ROLLBACK_STARTED:
        return service.settings.rollback
    return service.settings.update


def active_rollout(view: View, service: Service) -> Rollout | None:
    """The rollout under way to what the service is now, if there is one."""
    rollout = view.rollouts.get(service.id)
    current = rollout is not None and rollout.state in ACTIVE and rollout.spec_version == service.spec_version
    return rollout if current else None


def put_rollout(draft: Draft, rollout: Rollout, **fields: Any) -> Rollout:
    """Store `rollout` with `fields` changed; a change of state becomes an event."""
    changed = msgspec.structs.replace(rollout, **fields)
    draft.put(changed)
    if changed.state is not rollout.state:
        _announce(draft, changed)
    return changed


def _announce(draft: Draft, rollout: Rollout) -> None:
    service = draft.services.get(rollout.service_id)
    name, stack = (service.name, service.stack) if service else (rollout.service_id, "")
    draft.event(f"rollout.{rollout.state}", name, rollout.message, stack=stack)


def start_rollout(draft: Draft, service: Service, state: RolloutState, message: str, *, total: int, cause: str = "") -> Rollout:
    """Begin another rollout of the service, to the spec it has now."""
    previous = draft.rollouts.get(service.id)
    rollout = Rollout(
        service_id=service.id,
        generation=previous.generation + 1 if previous else 1,
        state=state,
        target=service.spec,
        started_at=draft.now,
        total=total,
        message=f"{message}: {cause}" if cause else message,
        spec_version=service.spec_version,
        cause=cause,
        progress_at=draft.now,
    )
    draft.put(rollout)
    _announce(draft, rollout)
    return rollout


def open_rollout(draft: Draft, service: Service, todo: int, moving: int) -> Rollout | None:
    """The rollout that applies to the service as submitted, begun if slots are to be replaced; None if there is none. `todo`
    counts the slots to replace, `moving` those that are being replaced already.

    A paused one waits for the next submission. One that a newer submission has overtaken ends here."""
    rollout = draft.rollouts.get(service.id)
    current = rollout is not None and rollout.spec_version == service.spec_version
    if rollout is not None and current and (rollout.state in ACTIVE or rollout.state in PAUSED):
        return put_rollout(draft, rollout, total=rollout.total or todo + moving)
    if todo:
        return start_rollout(draft, service, RolloutState.UPDATING, "update in progress", total=todo + moving)
    if rollout is not None and not current and rollout.completed_at == 0:
        return put_rollout(
            draft,
            rollout,
            state=RolloutState.COMPLETED,
            completed_at=draft.now,
            message="overtaken by a change that has nothing left to replace",
        )
    return None


def account_failures(draft: Draft, service: Service, scope: Scope) -> None:
    """Count the tasks of the present rollout that failed, and pause or roll back when they are too many (semantics 8.3), or
    when the rollout has not got on for too long."""
    rollout = active_rollout(draft, service)
    if rollout is None:
        return
    config = config_of(service, rollout)
    failed = [
        task
        for slot in slots_of(draft, service, scope).values()
        if slot.key not in rollout.failed_slots
        for task in [task for task in slot.tasks if _counts_as_failure(draft, rollout, config, task)][:1]
    ]
    if failed:
        rollout = put_rollout(
            draft,
            rollout,
            failed=(*rollout.failed, *(task.id for task in failed)),
            failed_slots=(*rollout.failed_slots, *map(key_of, failed)),
        )
    # Divided, as the ratio was by whoever wrote it: 0.58 * 50 is less than 29.
    if failed and len(rollout.failed) / max(1, rollout.total) > config.max_failure_ratio:
        _act_on_failure(draft, service, rollout, config.failure_action, _describe(draft, service, failed[0]))
    elif 0 < progress_due(rollout, config) <= draft.now:
        _act_on_standstill(draft, service, rollout, config)


def progress_due(rollout: Rollout, config: UpdateConfig) -> Instant:
    """When the next slot has to be done; 0 if it may take any time. Pauses between slots don't count, nor does watching
    when all are done."""
    if not config.progress_deadline_ns or rollout.monitor_until:
        return Instant(0)
    began = max(rollout.progress_at or rollout.started_at, *rollout.not_before, 0)
    return after(Instant(began), config.progress_deadline_ns)


def grant_time(draft: Draft) -> None:
    """Nothing gets on while nobody leads: the deadlines of all rollouts under way begin anew."""
    for rollout in list(draft.rollouts.values()):
        if rollout.state in ACTIVE and not rollout.monitor_until:
            draft.put(msgspec.structs.replace(rollout, progress_at=draft.now))


def _act_on_standstill(draft: Draft, service: Service, rollout: Rollout, config: UpdateConfig) -> None:
    seconds = config.progress_deadline_ns / SECOND
    cause = f"no task was replaced for {seconds:g} s: {what_it_waits_for(draft, service)}"
    draft.event("rollout.stalled", service.name, cause, stack=service.stack)
    rollout = put_rollout(draft, rollout, progress_at=draft.now)
    _act_on_failure(draft, service, rollout, config.failure_action, cause)


def what_it_waits_for(view: View, service: Service) -> str:
    """Why the rollout does not get on: a task of it that finds no node, or else the first that doesn't run."""
    slots = slots_of(view, service, {key_of(task) for task in view.tasks_in_flux(service.id)}).values()
    tasks = [task for slot in slots for task in slot.tasks if is_live(task) and task.spec == service.spec]
    for task in tasks:
        status = view.status_of(task.id)
        if status.reason and status.state < TaskState.ASSIGNED:
            return f"a node for {task_name(service, task)}: {status.error}"
    for task in tasks:
        if view.status_of(task.id).state is not TaskState.RUNNING:
            return f"{task_name(service, task)}: {explain_task(view, task)}"
    return "nothing that is known"


def _counts_as_failure(view: View, rollout: Rollout, config: UpdateConfig, task: Task) -> bool:
    """Only tasks of this rollout that ended by themselves, before they ran or within the monitor window. Unlike in SwarmKit
    a task that completed and need not run again has not failed."""
    if task.rollout != rollout.generation or task.desired > TaskState.COMPLETE or task.id in rollout.failed:
        return False
    status = view.status_of(task.id)
    if not is_terminal(status.state):
        return False
    if status.state is TaskState.COMPLETE and not may_restart(view, task):
        return False
    return not status.running_at or status.at - status.running_at <= config.monitor_ns


def _describe(view: View, service: Service, task: Task) -> str:
    status = view.status_of(task.id)
    return f"{task_name(service, task)} {status.state.word}: {status.error or status.message or 'no reason given'}"


def _act_on_failure(draft: Draft, service: Service, rollout: Rollout, action: FailureAction, cause: str) -> None:
    if action is FailureAction.CONTINUE:
        return
    if rollout.state is RolloutState.ROLLBACK_STARTED:  # a rollback is never rolled back
        put_rollout(draft, rollout, state=RolloutState.ROLLBACK_PAUSED, message=f"rollback paused: {cause}", cause=cause)
        return
    match action:
        case FailureAction.PAUSE:
            put_rollout(draft, rollout, state=RolloutState.PAUSED, message=f"update paused: {cause}", cause=cause)
        case FailureAction.ROLLBACK if service.previous is None:
            message = f"update paused, there is no previous spec to go back to: {cause}"
            put_rollout(draft, rollout, state=RolloutState.PAUSED, message=message, cause=cause)
        case FailureAction.ROLLBACK:
            roll_back(draft, service, "rollback started", cause)
        case other:
            assert_never(other)


def roll_back(draft: Draft, service: Service, message: str, cause: str = "", *, keep_present: bool = False) -> None:
    """Make the previous spec and settings the wanted ones. With `keep_present` (asked for by hand) the present ones become
    the previous, so that it can be undone; `cause` is the failure otherwise. Raises LookupError without a previous spec."""
    previous = service.previous
    if previous is None:
        raise LookupError(f"{service.name} has no previous spec")
    restored = msgspec.structs.replace(
        service,
        iteration=next_iteration(service, previous.spec),
        spec=previous.spec,
        settings=previous.settings,
        spec_version=previous.spec_version,
        previous=present_as_previous(service) if keep_present else None,
        version=draft.next_version,
        updated_at=draft.now,
        frozen="",
    )
    draft.put(restored, message)
    if not restored.iteration:
        start_rollout(draft, restored, RolloutState.ROLLBACK_STARTED, message, total=0, cause=cause)


def next_iteration(service: Service, spec: SpecDigest) -> int:
    """The iteration of a job that is submitted with `spec`: another spec is another run (semantics 7). 0 for what is none."""
    return service.iteration + (spec != service.spec) if service.iteration else 0


def present_as_previous(service: Service) -> PreviousSpec:
    """What a change of the service keeps for a rollback: one level deep."""
    return PreviousSpec(spec=service.spec, settings=service.settings, spec_version=service.spec_version)
