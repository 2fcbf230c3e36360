"""The record of a rolling update: beginning one, counting its failures, pausing it, turning it back (semantics 8.3, 8.5).

`update.py` moves the tasks; this module moves the state. Every change of state has a message and is an event.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from stackd.engine.draft import Draft
from stackd.engine.model import PreviousSpec, Rollout, RolloutState, Service, Task
from stackd.engine.restart_policy import may_restart
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


def account_failures(draft: Draft, service: Service) -> None:
    """Count the tasks of the present rollout that failed, and pause or roll back when they are too many (semantics 8.3)."""
    rollout = draft.rollouts.get(service.id)
    if rollout is None or rollout.state not in ACTIVE or rollout.spec_version != service.spec_version:
        return
    config = config_of(service, rollout)
    failed = [task for task in draft.tasks_of_service(service.id) if _counts_as_failure(draft, rollout, config, task)]
    if not failed:
        return
    failed.sort(key=lambda task: (task.slot, task.id))
    rollout = put_rollout(draft, rollout, failed=(*rollout.failed, *(task.id for task in failed)))
    if len(rollout.failed) > config.max_failure_ratio * max(1, rollout.total):
        _act_on_failure(draft, service, rollout, config.failure_action, _describe(draft, service, failed[0]))


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
        spec=previous.spec,
        settings=previous.settings,
        spec_version=previous.spec_version,
        previous=present_as_previous(service) if keep_present else None,
        version=draft.next_version,
        updated_at=draft.now,
        frozen="",
    )
    draft.put(restored, message)
    start_rollout(draft, restored, RolloutState.ROLLBACK_STARTED, message, total=0, cause=cause)


def present_as_previous(service: Service) -> PreviousSpec:
    """What a change of the service keeps for a rollback: one level deep."""
    return PreviousSpec(spec=service.spec, settings=service.settings, spec_version=service.spec_version)
