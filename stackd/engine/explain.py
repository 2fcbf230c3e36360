"""Says in one sentence why a task doesn't run, or why a service has not converged. Reads only.

Health is one word: `healthy` (all is as wanted), `progressing` (on the way, nothing has gone wrong), `degraded` (something
fails or can't be placed, and is tried again), `failed` (nothing more happens without a person).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stackd.base.ids import NodeId
from stackd.engine.dirty import Scope, SlotKey
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.dependencies import waits_for
from stackd.engine.orchestrate.runs import runs_of, wanted_completions
from stackd.engine.orchestrate.slots import (
    Slot,
    Wanted,
    is_finished,
    is_live,
    is_lost,
    is_paused,
    node_suits,
    slots_of,
    takes_tasks,
    why_evicting,
)
from stackd.engine.parts import RolloutState
from stackd.engine.restart_policy import may_restart
from stackd.engine.tasks import task_name
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode

HEALTHY = "healthy"
PROGRESSING = "progressing"
DEGRADED = "degraded"
FAILED = "failed"

_STOPPED_ROLLOUTS = (RolloutState.PAUSED, RolloutState.ROLLBACK_PAUSED)
_ACTIVE_ROLLOUTS = (RolloutState.UPDATING, RolloutState.ROLLBACK_STARTED)


class ServiceHealth(NamedTuple):
    """`converged`: every wanted slot runs the wanted spec (or is done with it), nothing is left over, no rollout is open."""

    health: str
    converged: bool
    message: str


class _Trouble(NamedTuple):
    """One thing that keeps a service from being converged. Of thousands one is told, so the others are not put into words."""

    health: str
    words: Callable[[], str]


def service_health(view: View, service: Service, scope: Scope = None) -> ServiceHealth:
    """The health of a service, and the first reason why it isn't converged; with a `scope`, as far as those slots go."""
    if service.frozen:
        return ServiceHealth(FAILED, False, f"frozen: {service.frozen}")
    if service.removing:
        left = len(view.tasks_of_service(service.id))
        return ServiceHealth(PROGRESSING, False, f"being removed, {_are(left)} left")
    if service.spec not in view.specs:
        return ServiceHealth(FAILED, False, f"its spec {service.spec} is missing")
    rollout = view.rollouts.get(service.id)
    if rollout is not None and rollout.state in _STOPPED_ROLLOUTS:
        return ServiceHealth(FAILED, False, rollout.message)
    troubles = _job_troubles(view, service, scope) if service.iteration else _troubles(view, service, scope)
    worst = next((trouble for trouble in troubles if trouble.health == FAILED), None)
    worst = worst or next((trouble for trouble in troubles if trouble.health == DEGRADED), None)
    if worst is None and rollout is not None and rollout.state in _ACTIVE_ROLLOUTS:
        return ServiceHealth(PROGRESSING, False, rollout.message)
    worst = worst or next(iter(troubles), None)
    return ServiceHealth(HEALTHY, True, "") if worst is None else ServiceHealth(worst.health, False, worst.words())


def _job_troubles(view: View, service: Service, scope: Scope) -> list[_Trouble]:
    """What keeps a job from being completed, and how far it has come as a whole."""
    runs = runs_of(view, service, scope)
    done, wanted = (len(runs.completed), wanted_completions(view, service)) if scope is None else (0, 0)
    troubles = [_trouble_of_given_up(view, service, slot.latest) for slot in runs.given_up.values()]
    failures = [failed for slot in runs.active.values() if (failed := _last_failure(view, slot)) is not None]
    troubles += [_degraded_by(view, service, failed) for failed in failures]
    if why := waits_for(view, service):
        troubles.append(_Trouble(PROGRESSING, lambda: why))
    if done < wanted:
        troubles.append(_Trouble(PROGRESSING, lambda: f"{done} of {wanted} runs have completed"))
    return troubles


def _trouble_of_given_up(view: View, service: Service, task: Task) -> _Trouble:
    status = view.status_of(task.id)
    name, why = task_name(service, task), status.error or status.message
    return _Trouble(FAILED, lambda: f"{name} {status.state.word} and is not restarted: {why}")


def _degraded_by(view: View, service: Service, failed: Task) -> _Trouble:
    status = view.status_of(failed.id)
    name, why = task_name(service, failed), status.error or status.message
    return _Trouble(DEGRADED, lambda: f"{name} {status.state.word}: {why}")


def _troubles(view: View, service: Service, scope: Scope) -> list[_Trouble]:
    """Everything that keeps the service from being converged, slot by slot."""
    slots = slots_of(view, service, scope)
    wanted = Wanted(view, service)
    filled = [slot for slot in slots.values() if slot.live or _counts_as_done(view, service, wanted, slot)]
    troubles = [trouble for slot in filled if (trouble := _trouble_in(view, service, wanted, slot)) is not None]
    missing, surplus = _difference(view, service, wanted, {slot.key for slot in filled}) if scope is None else (0, 0)
    if missing and (why := waits_for(view, service)):
        troubles.append(_Trouble(PROGRESSING, lambda: why))
    elif missing:
        troubles.append(_Trouble(PROGRESSING, lambda: f"{_are(missing)} still to be created"))
    if surplus:
        troubles.append(_Trouble(PROGRESSING, lambda: f"{_are(surplus)} still to be removed"))
    stopping = sum(_still_stops(view, task) for slot in slots.values() for task in slot.tasks)
    if stopping:
        troubles.append(_Trouble(PROGRESSING, lambda: f"{_are(stopping, 'old task')} still stopping"))
    return troubles


def _are(number: int, what: str = "task") -> str:
    return f"1 {what} is" if number == 1 else f"{number} {what}s are"


def _counts_as_done(view: View, service: Service, wanted: Wanted, slot: Slot) -> bool:
    return is_finished(view, slot) and takes_tasks(view, service, wanted.spec, slot.key)


def _difference(view: View, service: Service, wanted: Wanted, filled: set[SlotKey]) -> tuple[int, int]:
    """How many slots are not filled but should be, and the other way round."""
    if service.settings.mode is ServiceMode.REPLICATED:
        return max(0, service.settings.replicas - len(filled)), max(0, len(filled) - service.settings.replicas)
    due: set[SlotKey] = {(0, node.id) for node in view.nodes.values()}
    due = {key for key in due if takes_tasks(view, service, wanted.spec, key)}
    return len(due - filled), sum(not _may_hold(view, wanted, node_id) for _, node_id in filled)


def _may_hold(view: View, wanted: Wanted, node_id: NodeId) -> bool:
    """Whether the node may have a task of a global service."""
    return not why_evicting(view, node_id) and (is_paused(view, node_id) or node_suits(view, wanted.spec, node_id))


def _still_stops(view: View, task: Task) -> bool:
    if is_live(task):
        return False
    state = view.status_of(task.id).state
    return TaskState.ASSIGNED <= state <= TaskState.RUNNING and not is_lost(view, task)


def _trouble_in(view: View, service: Service, wanted: Wanted, slot: Slot) -> _Trouble | None:
    """What keeps one filled slot from being as wanted; None if it is."""
    live = slot.live
    if not live:
        return _trouble_of_finished(view, service, wanted, slot.latest)
    clean = [task for task in live if wanted.is_clean(task)]
    running = [task for task in clean if view.status_of(task.id).state is TaskState.RUNNING]
    if running and len(live) == 1:
        return None
    if running:
        return _Trouble(PROGRESSING, lambda: f"{task_name(service, running[0])} has taken over, the old one is still there")
    failed = _last_failure(view, slot)
    if failed is not None and not any(_runs(view, task) and wanted.is_clean(task) for task in live):
        return _degraded_by(view, service, failed)
    task = clean[0] if clean else live[0]
    health = DEGRADED if view.status_of(task.id).reason else PROGRESSING
    return _Trouble(health, lambda: f"{task_name(service, task)}: {explain_task(view, task)}")


def _trouble_of_finished(view: View, service: Service, wanted: Wanted, task: Task) -> _Trouble | None:
    status = view.status_of(task.id)
    if not wanted.is_clean(task):
        return _Trouble(PROGRESSING, lambda: f"{task_name(service, task)} is to be replaced")
    if status.state is TaskState.COMPLETE:
        return None
    return _trouble_of_given_up(view, service, task)


def _runs(view: View, task: Task) -> bool:
    return view.status_of(task.id).state is TaskState.RUNNING


def _last_failure(view: View, slot: Slot) -> Task | None:
    """The latest task of the slot that has ended, if it ended badly."""
    over = [task for task in slot.tasks if is_terminal(view.status_of(task.id).state)]
    bad = over and view.status_of(over[-1].id).state in (TaskState.FAILED, TaskState.REJECTED)
    return over[-1] if bad else None


def explain_task(view: View, task: Task) -> str:
    """Why a task isn't running, in one sentence; "running" if it is."""
    status = view.status_of(task.id)
    if is_terminal(status.state):
        words = status.error or status.message or "no reason given"
        again = "" if may_restart(view, task) or not is_live(task) else ", and its restart policy allows no further attempt"
        return f"{status.state.word}: {words}{again}"
    if not is_live(task):
        return "told to stop" + (", but its node does not answer" if is_lost(view, task) else "")
    if status.state is TaskState.RUNNING:
        return "running"
    if status.state < TaskState.ASSIGNED:
        return status.error or "waits for a node"
    if is_lost(view, task):
        return "its node does not answer"
    if status.state is TaskState.READY and task.desired is TaskState.READY:
        return _explain_hold(view, task)
    return status.error or status.message or status.state.word


def _explain_hold(view: View, task: Task) -> str:
    gate = task.gate
    if gate is None:
        return "prepared, waits for its turn in the update"
    if gate.not_before > view.now:
        return "prepared, waits for the restart delay"
    return f"prepared, waits for task {gate.after} to stop" if gate.after else "prepared, about to start"
