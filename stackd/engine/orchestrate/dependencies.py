"""The order in which the services of a stack come up: what a service waits for before it has its first tasks.

Only a service of which nothing runs waits (a new one, one that was scaled up from nothing, another iteration of a job). Later
restarts and updates of what it depends on don't touch it.
"""

from __future__ import annotations

from collections.abc import Iterator

from stackd.base.time import Instant
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.runs import runs_of, wanted_completions
from stackd.engine.orchestrate.slots import is_live, slots_of, spec_of, takes_tasks
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
    if dependency.condition is DependencyCondition.COMPLETED:
        done, wanted, word = _completed(view, other), _wanted(view, other), "has completed"
    else:
        done, wanted, word = len(_steady(view, other, dependency)), _wanted(view, other), "runs"
    if dependency.condition is DependencyCondition.STARTED:
        wanted = min(wanted, 1)
    if dependency.condition is DependencyCondition.HEALTHY:
        word = "is healthy"
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


def _running(view: View, service: Service) -> list[Task]:
    tasks = view.tasks_of_service(service.id)
    return [task for task in tasks if is_live(task) and view.status_of(task.id).state is TaskState.RUNNING]


def _steady(view: View, service: Service, dependency: Dependency) -> list[Task]:
    """The tasks that run, as far as the condition can rely on it: a task with a health check runs only when it is healthy; one
    without has to have stood the monitor window."""
    running = _running(view, service)
    if dependency.condition is DependencyCondition.STARTED:
        return running
    return [task for task in running if _healthy_at(view, service, task) <= view.now]


def _healthy_at(view: View, service: Service, task: Task) -> Instant:
    ran = view.status_of(task.id).running_at
    if spec_of(view, task.spec).container.healthcheck is not None:
        return ran
    return Instant(ran + service.settings.update.monitor_ns)


def _settled_at(view: View, service: Service, dependency: Dependency) -> Instant:
    """When the next task that runs will count as healthy; 0 if none will by time alone."""
    other = view.service_named(_full_name(service, dependency))
    if other is None or dependency.condition is not DependencyCondition.HEALTHY:
        return Instant(0)
    return min((at for task in _running(view, other) if (at := _healthy_at(view, other, task)) > view.now), default=Instant(0))
