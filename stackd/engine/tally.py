"""Tasks counted by service: those on their way, which should run and don't yet or complete and haven't, and those that run as
they should. Kept up to date with every task, so that a report on one of thousands need not look at the others to know how far
the service has come.

Derived, never stored. That nothing is on its way doesn't say that the service has converged: tasks may be missing, too many,
or told to stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from stackd.base.ids import ServiceId
from stackd.engine.model import Task
from stackd.engine.status import TaskStatus
from stackd.engine.tables import Table
from stackd.engine.taskstate import TaskState


def underway_of(task: Task | None, status: TaskStatus | None) -> ServiceId | None:
    """The service that the task is on its way for. A run of a job is so until it has completed."""
    if task is None or task.desired > TaskState.COMPLETE:
        return None
    if status is None or status.state < TaskState.RUNNING:
        return task.service_id
    return task.service_id if task.iteration and status.state is not TaskState.COMPLETE else None


def running_of(task: Task | None, status: TaskStatus | None) -> ServiceId | None:
    """The service that the task runs for; a task that is to stop runs for none."""
    if task is None or status is None or task.desired > TaskState.COMPLETE:
        return None
    return task.service_id if status.state is TaskState.RUNNING else None


class Tally:
    """The tasks that count, and their number by service."""

    def __init__(self) -> None:
        self._of: Table[ServiceId] = Table()
        self._counts: Table[int] = Table()

    def fork(self) -> Tally:
        other = Tally()
        other._of = self._of.fork()
        other._counts = self._counts.fork()
        return other

    def service_of(self, task_id: str) -> ServiceId | None:
        """The service that the task is counted for."""
        return self._of.get(task_id)

    def count(self, service_id: ServiceId) -> int:
        return self._counts.get(service_id) or 0

    def settle(self, task_id: str, service_id: ServiceId | None) -> None:
        """Let the task count for the service, or for none."""
        before = self._of.get(task_id)
        if before == service_id:
            return
        if before is not None:
            self._of.pop(task_id)
            self._counts.put(before, self.count(before) - 1)
            if not self.count(before):
                self._counts.pop(before)
        if service_id is not None:
            self._of.put(task_id, service_id)
            self._counts.put(service_id, self.count(service_id) + 1)

    def difference(self, changes: Iterable[tuple[str, ServiceId | None]]) -> Counter[ServiceId]:
        """By how much settling these tasks would change the counts."""
        counts: Counter[ServiceId] = Counter()
        for task_id, after in changes:
            before = self.service_of(task_id)
            if before is not None:
                counts[before] -= 1
            if after is not None:
                counts[after] += 1
        return counts
