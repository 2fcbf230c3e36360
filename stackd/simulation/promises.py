"""What must hold over time, and can't be seen in one state or in one step of the engine: watched over a whole history.

Everything here is counted anew from the records, by other means than the engine's own. Each finding is a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stackd.base.ids import ServiceId, SpecDigest, TaskId
from stackd.base.time import SECOND, Instant
from stackd.engine.model import Revision, Service, Task
from stackd.engine.parts import Availability, NodeState, RevisionState
from stackd.engine.status import Rollout, TaskStatus
from stackd.engine.store import Changes
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.stack import RestartCondition, ServiceMode

EVICTION_SECONDS = 20
"""A task has to be told to leave a node that is drained or down within this: it takes one decision, and a leader to make it."""

_Attempts = tuple[ServiceId, int, int, SpecDigest, int]
"""What a restart policy counts: the attempts of a slot under one spec of one submission."""

_ENDED_BY_ITSELF = (TaskState.FAILED, TaskState.REJECTED, TaskState.COMPLETE)


class Promises:
    """An observer of a history (see `Checker`) that hands what it finds to `report`."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._overdue: dict[TaskId, Instant] = {}
        self._failures: dict[_Attempts, set[TaskId]] = {}

    def observe(self, past: View, present: View, changes: Changes) -> None:
        for row in changes.puts:
            match row:
                case Task():
                    self._tell(_broken_by_task(past, present, row))
                    if row.id not in past.tasks:
                        self._begin_anew(past, present, row)
                        self._tell(self._too_many_attempts(present, row))
                case TaskStatus() if row.state in _ENDED_BY_ITSELF and (task := past.tasks.get(row.id)):
                    self._count_failure(past, task)
                case Service() if (before := past.services.get(row.key)) is not None and before.spec != row.spec:
                    self._forget_failures(row)
                case Rollout():
                    self._tell(_broken_by_rollout(past.rollouts.get(row.key), row))
                case Revision():
                    self._tell(_broken_by_revision(past.revisions.get(row.key), present, row))
                case _:
                    pass
        self._tell(self._late_evictions(present))

    def _tell(self, findings: Iterator[str]) -> None:
        for finding in findings:
            self._report(finding)

    def _late_evictions(self, view: View) -> Iterator[str]:
        """Tasks that should have been told to leave their node."""
        leaving = {task.id: task for node in view.nodes.values() if (tasks := _has_to_leave(view, node.id)) for task in tasks}
        self._overdue = {task_id: self._overdue.get(task_id, view.now) for task_id in leaving}
        for task_id, since in self._overdue.items():
            if view.now - since > EVICTION_SECONDS * SECOND:
                yield f"task {task_id} should have left node {leaving[task_id].node_id} long ago"

    def _count_failure(self, past: View, task: Task) -> None:
        """A task has ended by itself; one that was told to stop hasn't."""
        service = past.services.get(task.service_id)
        if service is not None and task.desired <= TaskState.COMPLETE:
            self._failures.setdefault(_attempts_of(service, task), set()).add(task.id)

    def _begin_anew(self, past: View, view: View, task: Task) -> None:
        """A slot that was empty, because its node and with it all record of it was removed, is filled as for the first time."""
        service = view.services.get(task.service_id)
        if service is not None and not any(one.slot == task.slot for one in past.tasks_of_service(service.id)):
            self._failures.pop(_attempts_of(service, task), None)

    def _forget_failures(self, service: Service) -> None:
        """The service has another spec, be it one that it had before: its tries are counted anew."""
        self._failures = {attempts: failed for attempts, failed in self._failures.items() if attempts[0] != service.id}

    def _too_many_attempts(self, view: View, task: Task) -> Iterator[str]:
        """A slot of a replicated service is not tried more often than its restart policy says, from one submission to the
        next."""
        service, spec = view.services.get(task.service_id), view.specs.get(task.spec)
        if service is None or spec is None or service.settings.mode is not ServiceMode.REPLICATED:
            return
        policy = spec.spec.restart
        if policy.condition is not RestartCondition.NONE and (not policy.max_attempts or policy.window_ns):
            return
        allowed = 0 if policy.condition is RestartCondition.NONE else policy.max_attempts
        failed = len(self._failures.get(_attempts_of(service, task), ()))
        if failed > allowed:
            yield f"slot {task.slot} of {service.name} is tried again after {failed} failures, {allowed} restarts are allowed"


def _attempts_of(service: Service, task: Task) -> _Attempts:
    return service.id, service.spec_version, task.slot, task.spec, task.rollout


def _has_to_leave(view: View, node_id: str) -> list[Task]:
    """The tasks of a node that loses all of them, if it is one."""
    node, status = view.nodes.get(node_id), view.node_statuses.get(node_id)
    if node is None or status is None:
        return []
    if node.availability is not Availability.DRAIN and status.state is not NodeState.DOWN:
        return []
    return [task for task in view.tasks_of_node(node.id) if _may_be_moved(view, task)]


def _may_be_moved(view: View, task: Task) -> bool:
    service = view.services.get(task.service_id)
    if service is None or service.frozen or service.settings.drain_start_first:
        return False
    return task.desired <= TaskState.COMPLETE and TaskState.ASSIGNED <= view.status_of(task.id).state <= TaskState.RUNNING


def _broken_by_task(past: View, present: View, task: Task) -> Iterator[str]:
    before = past.tasks.get(task.id)
    if before is None:
        return
    if before.desired is TaskState.READY and task.desired is TaskState.RUNNING and before.gate is not None:
        if before.gate.not_before > present.now:
            yield f"task {task.id} was let go before its delay was over"
        if _still_waited_for(present, before):
            yield f"task {task.id} was let go before the task it follows had stopped"


def _still_waited_for(view: View, task: Task) -> bool:
    """Whether the predecessor that the task's gate names may still run, and there is time to wait for it."""
    gate = task.gate
    predecessor = view.tasks.get(gate.after) if gate is not None and gate.after else None
    if gate is None or predecessor is None or gate.give_up_at <= view.now:
        return False
    status = view.node_statuses.get(predecessor.node_id)
    is_there = status is not None and status.state is not NodeState.DOWN
    return is_there and TaskState.STARTING <= view.status_of(predecessor.id).state <= TaskState.RUNNING


def _broken_by_rollout(before: Rollout | None, after: Rollout) -> Iterator[str]:
    if before is None or before.generation != after.generation:
        return
    if not set(before.failed) <= set(after.failed):
        yield f"the update of service {after.service_id} has forgotten failures"
    if before.completed_at and before.state is not after.state:
        yield f"the update of service {after.service_id} went from {before.state} to {after.state}"


def _broken_by_revision(before: Revision | None, view: View, after: Revision) -> Iterator[str]:
    """A revision has converged only when everything it deployed, and that is still its own, runs."""
    if after.state is not RevisionState.CONVERGED or (before is not None and before.state is after.state):
        return
    for service_id in after.services:
        service = view.services.get(service_id)
        if service is not None and not service.removing and service.settings.mode is ServiceMode.REPLICATED:
            running = sum(_runs_as_wanted(view, service, task) for task in view.tasks_of_service(service_id))
            if running < service.settings.replicas and not _may_be_finished(view, service):
                yield f"revision {after.label} has converged with {running} of {service.settings.replicas} of {service.name}"


def _runs_as_wanted(view: View, service: Service, task: Task) -> bool:
    return task.desired is TaskState.RUNNING and view.status_of(task.id).state is TaskState.RUNNING


def _may_be_finished(view: View, service: Service) -> bool:
    """Whether tasks that have ended may count as done: the restart policy says that nothing follows."""
    spec = view.specs.get(service.spec)
    ended = any(is_terminal(view.status_of(task.id).state) for task in view.tasks_of_service(service.id))
    if not ended or spec is None:
        return False
    policy = spec.spec.restart
    return policy.condition is not RestartCondition.ANY or policy.max_attempts > 0
