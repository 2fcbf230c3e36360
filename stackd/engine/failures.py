"""Which tasks have failed where, and when: kept up to date with every task, so that no count of them scans a service.

Derived, never stored, and only of tasks that are still on record. A node on which a spec fails again and again is chosen
last (semantics 12.6), also by a new leader.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass

from stackd.base.ids import NodeId, SpecDigest
from stackd.base.time import Instant
from stackd.engine.model import Task
from stackd.engine.status import TaskStatus
from stackd.engine.tables import Index, Table
from stackd.engine.taskstate import TaskState


@dataclass(frozen=True, slots=True)
class Failure:
    """One task that has failed or was rejected."""

    spec: SpecDigest
    node_id: NodeId
    at: Instant


def failure_of(task: Task | None, status: TaskStatus | None) -> Failure | None:
    """The failure that the task is, if it is one."""
    if task is None or status is None or not task.node_id:
        return None
    failed = status.state in (TaskState.FAILED, TaskState.REJECTED)
    return Failure(task.spec, task.node_id, status.at) if failed else None


class Failures:
    """Failures by spec and node."""

    def __init__(self) -> None:
        self._of: Table[Failure] = Table()
        self._times: Table[tuple[Instant, ...]] = Table()
        self._nodes: Index = Index()

    def fork(self) -> Failures:
        other = Failures()
        other._of = self._of.fork()
        other._times = self._times.fork()
        other._nodes = self._nodes.fork()
        return other

    def knows(self, task_id: str) -> bool:
        """Whether the failure of this task is counted."""
        return task_id in self._of

    def nodes_of(self, spec: SpecDigest) -> Iterable[str]:
        """The nodes on which tasks of this spec have failed."""
        return self._nodes.keys(spec)

    def since(self, spec: SpecDigest, node_id: NodeId, begin: Instant) -> int:
        """How many tasks of the spec have failed on the node after `begin`."""
        times = self._times.get(f"{spec} {node_id}") or ()
        return len(times) - bisect_right(times, begin)

    def settle(self, task_id: str, failure: Failure | None) -> None:
        """Let the task be `failure`, in place of what it was before."""
        before = self._of.get(task_id)
        if before == failure:
            return
        if before is not None:
            self._of.pop(task_id)
            self._change(before, -1)
        if failure is not None:
            self._of.put(task_id, failure)
            self._change(failure, 1)

    def _change(self, failure: Failure, by: int) -> None:
        key = f"{failure.spec} {failure.node_id}"
        times = list(self._times.get(key) or ())
        if by > 0:
            insort(times, failure.at)
        else:
            times.remove(failure.at)
        if times:
            self._times.put(key, tuple(times))
            self._nodes.move(failure.node_id, (), (failure.spec,))
        else:
            self._times.pop(key)
            self._nodes.move(failure.node_id, (failure.spec,), ())
