"""The order in which the services of a stack come up: what a service waits for before it has its first tasks.

Only a service of which nothing runs waits (a new one, one that was scaled up from nothing, another iteration of a job). Later
restarts and updates of what it depends on don't touch it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from stackd.base.time import Instant
from stackd.engine.draft import Draft
from stackd.engine.model import Service
from stackd.engine.orchestrate.runs import runs_of, wanted_completions
from stackd.engine.orchestrate.slots import is_live, slots_of, spec_of, takes_tasks
from stackd.engine.tally import running_of
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import Dependency, DependencyCondition, ServiceMode


def is_held_back(draft: Draft, service: Service) -> bool:
    """Whether the service, which has not begun, may not have its first tasks yet; comes back when time alone will have
    changed that."""
    for dependency in service.settings.depends_on:
        draft.wake(_settled_at(draft, service, dependency), service.id)
    return any(obstacles(draft, service))


def waits_for(view: View, service: Service) -> str:
    """What the service waits for before it has tasks, "" for nothing."""
    if has_begun(view, service):
        return ""
    return next(obstacles(view, service), "")


def obstacles(view: View, service: Service) -> Iterator[str]:
    """The conditions of the service that don't hold, each as what it waits for."""
    return (why for one in service.settings.depends_on if (why := _obstacle(view, service, one)))


def needed_by(view: View, service: Service) -> Iterator[Service]:
    """The services there are that the service depends on."""
    rows = (view.service_named(_full_name(service, one)) for one in service.settings.depends_on)
    return (row for row in rows if row is not None)


def has_begun(view: View, service: Service) -> bool:
    """Whether anything of the service runs, or is to run; of a job, anything of its present iteration."""
    if service.iteration:
        return any(task.iteration == service.iteration for task in view.each_task_of_service(service.id))
    return any(is_live(task) for task in view.each_task_of_service(service.id))


def _full_name(service: Service, dependency: Dependency) -> str:
    return f"{service.stack}_{dependency.service}"


def _obstacle(view: View, service: Service, dependency: Dependency) -> str:
    name = _full_name(service, dependency)
    other = view.service_named(name)
    if other is None:
        return f"waits for {name}, which does not exist" if dependency.required else ""
    wanted = _wanted(view, other)
    match dependency.condition:
        case DependencyCondition.COMPLETED:
            done, word = _completed(view, other), "has completed"
        case DependencyCondition.STARTED:
            wanted = min(wanted, 1)
            done, word = _number_running(view, other), "runs"
        case DependencyCondition.HEALTHY if (running := _number_running(view, other)) < wanted:
            done, word = running, "runs"
        case DependencyCondition.HEALTHY:
            done, word = sum(at <= view.now for at in _healthy_at(view, other)), "is healthy"
        case other_condition:
            assert_never(other_condition)
    return "" if done >= wanted else f"waits until {name} {word} ({done} of {wanted})"


def _wanted(view: View, service: Service) -> int:
    """How many tasks of the service are to run, or to complete."""
    match service.settings.mode:
        case ServiceMode.REPLICATED:
            return service.settings.replicas
        case ServiceMode.REPLICATED_JOB | ServiceMode.GLOBAL_JOB:
            return wanted_completions(view, service)
        case ServiceMode.GLOBAL:
            spec = spec_of(view, service.spec)
            return sum(takes_tasks(view, service, spec, (0, node.id)) for node in view.nodes.values())


def _completed(view: View, service: Service) -> int:
    if service.iteration:
        return runs_of(view, service, set()).number_completed
    slots = slots_of(view, service).values()
    return sum(view.status_of(slot.latest.id).state is TaskState.COMPLETE for slot in slots)


def _number_running(view: View, service: Service) -> int:
    """How many tasks of the service run as they should; nobody looks at those that this decision doesn't change."""
    running = view.ledger.running
    changed = ((key, running_of(view.tasks.get(key), view.statuses.get(key))) for key in view.changed_tasks())
    return running.count(service.id) + running.difference(changed)[service.id]


def _healthy_at(view: View, service: Service) -> Iterator[Instant]:
    """Since when each task that runs can be relied on: one with a health check runs only when it is healthy; one without has
    to have stood the monitor window."""
    for task in view.each_task_of_service(service.id):
        status = view.status_of(task.id)
        if running_of(task, status) is not None:
            has_check = spec_of(view, task.spec).container.healthcheck is not None
            yield Instant(status.running_at + (0 if has_check else service.settings.update.monitor_ns))


def _settled_at(view: View, service: Service, dependency: Dependency) -> Instant:
    """When the next task that runs will count as healthy; 0 if none will by time alone, or others have to run first."""
    other = view.service_named(_full_name(service, dependency))
    if other is None or dependency.condition is not DependencyCondition.HEALTHY:
        return Instant(0)
    if _number_running(view, other) < _wanted(view, other):
        return Instant(0)
    return min((at for at in _healthy_at(view, other) if at > view.now), default=Instant(0))
