"""Whether a task that ended is to be replaced (semantics 9): the policy, and the attempts it counts."""

from __future__ import annotations

from stackd.base.time import Instant
from stackd.engine.model import Task
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import RestartCondition, RestartPolicy


def policy_of(view: View, task: Task) -> RestartPolicy:
    """The policy the task was started with: that of its own spec, not of the service's present one."""
    row = view.specs.get(task.spec)
    return row.spec.restart if row is not None else RestartPolicy()


def may_restart(view: View, task: Task) -> bool:
    """Whether the task's policy allows a replacement now that it has ended or been evicted. Every restart counts as an
    attempt, also one after an eviction; restarts after the end of the task don't. A run of a job that has completed is never
    repeated, whatever the policy says (semantics 7)."""
    policy = policy_of(view, task)
    status = view.status_of(task.id)
    if policy.condition is RestartCondition.NONE:
        return False
    only_on_failure = policy.condition is RestartCondition.ON_FAILURE or task.iteration
    if only_on_failure and status.state is TaskState.COMPLETE:
        return False
    return policy.max_attempts == 0 or len(counted(policy, task.restarts, status.at)) < policy.max_attempts


def counted(policy: RestartPolicy, restarts: tuple[Instant, ...], ended_at: Instant) -> tuple[Instant, ...]:
    """The restarts that count against `max_attempts` at `ended_at`; none are kept when attempts are unlimited."""
    if policy.max_attempts == 0:
        return ()
    if policy.window_ns:
        restarts = tuple(at for at in restarts if at > ended_at - policy.window_ns)
    return restarts[-policy.max_attempts :]
