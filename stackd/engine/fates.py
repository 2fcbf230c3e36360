"""What has become of the runs of jobs, slot by slot: kept up to date with every task, so that a report on one run of thousands
need not look at the others to know how far the job has come.

Derived, never stored. It knows no restart policy: of a slot in which nothing is open and nothing is done somebody has to look
at the tasks to tell whether it was given up or is to be filled again.
"""

from __future__ import annotations

import enum
from collections.abc import Set
from dataclasses import dataclass

from stackd.base.ids import ServiceId
from stackd.engine.model import Service, Task
from stackd.engine.status import TaskStatus
from stackd.engine.tables import Counts, Table
from stackd.engine.taskstate import TaskState, is_terminal


class Fate(enum.StrEnum):
    """Of one run: it has completed, it is on its way to that, or it has ended otherwise or was told to. One that was taken back
    has not completed, even if it came to its end."""

    DONE = "done"
    OPEN = "open"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job's iteration. `slot` is the slot's number, or its node."""

    service_id: ServiceId
    iteration: int
    slot: str
    fate: Fate


def run_of(task: Task | None, status: TaskStatus | None) -> Run | None:
    """The run that the task is, if it is one of a job."""
    if task is None or not task.iteration:
        return None
    state = status.state if status is not None else TaskState.NEW
    if state is TaskState.COMPLETE and task.desired is not TaskState.REMOVE:
        fate = Fate.DONE
    else:
        fate = Fate.OPEN if task.desired <= TaskState.COMPLETE and not is_terminal(state) else Fate.OVER
    return Run(task.service_id, task.iteration, str(task.slot or task.node_id), fate)


class Fates:
    """The runs on record, and the slots of each fate by iteration."""

    def __init__(self) -> None:
        self._of: Table[Run] = Table()
        self._slots = Counts()

    def fork(self) -> Fates:
        other = Fates()
        other._of = self._of.fork()
        other._slots = self._slots.fork()
        return other

    def slots(self, service: Service, fate: Fate) -> Set[str]:
        """The slots of the present iteration in which a run has that fate."""
        return self._slots.of(_bucket(service.id, service.iteration, fate)).keys()

    def settle(self, task_id: str, run: Run | None) -> None:
        """Let the task be `run`, in place of what it was before."""
        before = self._of.get(task_id)
        if before == run:
            return
        if before is not None:
            self._of.pop(task_id)
            self._count(before, -1)
        if run is not None:
            self._of.put(task_id, run)
            self._count(run, 1)

    def _count(self, run: Run, by: int) -> None:
        self._slots.add(_bucket(run.service_id, run.iteration, run.fate), run.slot, by)


def _bucket(service_id: ServiceId, iteration: int, fate: Fate) -> str:
    return f"{service_id}/{iteration}/{fate}"
