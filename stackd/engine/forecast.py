"""Runs the real engine forward on a copy of the state: what would happen, in which order, how long it would take.

There is no second implementation of anything here: `step` decides, `apply` applies, and tasks walk the state machine of
`taskstate` with the durations of a `Pace` in place of real machines. Failures are not forecast: every image starts.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from stackd.base.ids import ServiceId, TaskId
from stackd.base.records import encode
from stackd.base.time import HOUR, MILLISECOND, Duration, Instant
from stackd.engine.inputs import Input, Reply, ReportTasks, Wake
from stackd.engine.model import Task, TaskStatus
from stackd.engine.step import step
from stackd.engine.store import Changes, Store, View
from stackd.engine.taskstate import Step, TaskState, next_step

EVENTS_MAX = 50_000
"""Steps of the engine after which a forecast gives up: a plan must end, whatever the stack file says."""

HORIZON = Duration(24 * HOUR)
"""How far ahead a forecast looks."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a node takes for one operation; images are taken to be there already."""

    prepare_ns: Duration = Duration(300 * MILLISECOND)
    start_ns: Duration = Duration(400 * MILLISECOND)
    stop_ns: Duration = Duration(300 * MILLISECOND)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that a person would notice: a task is created, placed, starts, runs, stops."""

    after: Duration
    service_id: ServiceId
    task: Task
    action: str
    reason: str = ""


@dataclass(slots=True)
class Forecast:
    """The outcome. `view` is the state at the end; `lowest` the lowest number of running tasks each service came to."""

    replies: tuple[Reply, ...]
    view: View
    moments: list[Moment] = field(default_factory=list)
    lowest: dict[ServiceId, int] = field(default_factory=dict)
    settled_after: dict[ServiceId, Duration] = field(default_factory=dict)
    complete: bool = True


class _CountedEntropy:
    """Reproducible ids for tasks that will never exist."""

    def __init__(self) -> None:
        self._count = 0

    def getrandbits(self, k: int, /) -> int:
        self._count += 1
        number = int.from_bytes(hashlib.sha256(b"forecast %d" % self._count).digest(), "big")
        return number & ((1 << k) - 1)


_OPERATION = {
    Step.ACCEPT: (TaskState.PREPARING, ""),
    Step.PREPARE: (TaskState.READY, "prepare_ns"),
    Step.START: (TaskState.RUNNING, "start_ns"),
    Step.STOP: (TaskState.SHUTDOWN, "stop_ns"),
}
"""Where each operation of an agent leads, and which duration of the pace it takes."""

_NOTICED = {TaskState.RUNNING: "running", TaskState.SHUTDOWN: "stopped"}


class _Run:
    """One forecast under way: the copy of the state, the future events, what has been noticed."""

    def __init__(self, store: Store, start: Instant, pace: Pace) -> None:
        self._store = store
        self._start = start
        self._pace = pace
        self._entropy = _CountedEntropy()
        self._events: list[tuple[Instant, int, Input]] = []
        self._order = 0
        self._due: dict[TaskId, tuple[TaskState, Instant]] = {}
        self._reasons: dict[str, str] = {}
        self.result = Forecast(replies=(), view=store.view)

    def run(self, inputs: Sequence[Input]) -> Forecast:
        now = self._start
        for task in list(self._store.view.tasks.values()):
            self._plan_task(task, now)
        self.result.replies = self._decide(inputs, now)
        for _ in range(EVENTS_MAX):
            if not self._events:
                return self.result
            now = self._events[0][0]
            if now - self._start > HORIZON:
                break
            self._decide(self._take_due(now), now)
        self.result.complete = False
        return self.result

    def _take_due(self, now: Instant) -> list[Input]:
        inputs: list[Input] = []
        while self._events and self._events[0][0] <= now:
            inputs.append(heapq.heappop(self._events)[2])
        return inputs

    def _decide(self, inputs: Sequence[Input], now: Instant) -> tuple[Reply, ...]:
        decision = step(self._store.view, inputs, now, self._entropy)
        self._reasons.update(decision.reasons)
        if decision.transaction is not None:
            running = self._running_of(decision.transaction.puts)
            self._notice_removed(decision.transaction.deletes, now)
            changes = self._store.apply(self._store.index + 1, encode(decision.transaction))
            self._notice(changes, running, now)
        for at, service in decision.wakeups:
            self._push(max(at, now), Wake(services=(service,)))
        if decision.more:
            self._push(now, Wake(services=decision.more))
        return decision.replies

    def _push(self, at: Instant, event: Input) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, event))

    def _running_of(self, rows: Iterable[object]) -> dict[ServiceId, int]:
        """How many tasks of the services whose statuses are about to change run now."""
        view = self._store.view
        services = {
            task.service_id for row in rows if isinstance(row, TaskStatus) and (task := view.tasks.get(row.id)) is not None
        }
        return {service: _running(view, service) for service in services}

    def _notice(self, changes: Changes, before: dict[ServiceId, int], now: Instant) -> None:
        for row in changes.puts:
            if isinstance(row, Task):
                self._notice_task(row, now)
            elif isinstance(row, TaskStatus) and (task := self._store.view.tasks.get(row.id)) is not None:
                self._notice_status(task, row, now)
        for service, count in before.items():
            lowest = min(self.result.lowest.get(service, count), _running(self._store.view, service))
            self.result.lowest[service] = lowest

    def _notice_task(self, task: Task, now: Instant) -> None:
        if task.created_at == now and task.id not in self._due:
            self._record(task, "created", now)
        self._plan_task(task, now)

    def _notice_removed(self, deletes: Iterable[tuple[str, str]], now: Instant) -> None:
        """Tasks whose records go: one that was told to be removed ends together with its record."""
        for table, key in deletes:
            task = self._store.view.tasks.get(key) if table == "tasks" else None
            if task is not None and self._store.view.status_of(task.id).state == TaskState.RUNNING:
                self._record(task, "stopped", now)

    def _notice_status(self, task: Task, status: TaskStatus, now: Instant) -> None:
        if action := _NOTICED.get(status.state):
            self._record(task, action, now)
        self._plan_task(task, now)

    def _record(self, task: Task, action: str, now: Instant) -> None:
        after = Duration(now - self._start)
        self.result.moments.append(Moment(after, task.service_id, task, action, self._reasons.get(task.id, "")))
        self.result.settled_after[task.service_id] = after

    def _plan_task(self, task: Task, now: Instant) -> None:
        """Queue the report with which the task's node will end its next operation."""
        status = self._store.view.status_of(task.id)
        if not task.node_id or status.state < TaskState.ASSIGNED:
            return
        operation = next_step(status.state, task.desired)
        if operation not in _OPERATION:
            return
        state, duration = _OPERATION[operation]
        if self._due.get(task.id, (None, 0))[0] == state:
            return
        at = Instant(now + (getattr(self._pace, duration) if duration else 0))
        self._due[task.id] = (state, at)
        report = msgspec.structs.replace(status, state=state, message="forecast")
        self._push(at, ReportTasks(node_id=task.node_id, statuses=(report,)))


def _running(view: View, service: ServiceId) -> int:
    return sum(view.status_of(task.id).state == TaskState.RUNNING for task in view.tasks_of_service(service))


def forecast(store: Store, inputs: Sequence[Input], now: Instant, pace: Pace | None = None) -> Forecast:
    """What follows if `inputs` are decided at `now`. Works on `store` itself: hand in a fork of the live one."""
    return _Run(store, now, pace or Pace()).run(inputs)
