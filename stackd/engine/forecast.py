"""Runs the real engine forward on a copy of the state: what would happen, in which order, how long it would take.

There is no second implementation of anything here: `step` decides, `apply` applies, and tasks walk the state machine of
`taskstate` with the durations of a `Pace` in place of real machines. Failures are not forecast: every image starts.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from stackd.base.ids import ServiceId, TaskId
from stackd.base.records import encode
from stackd.base.time import HOUR, MILLISECOND, SECOND, Duration, Instant, after
from stackd.engine.inputs import Input, Reply, ReportTasks, Wake
from stackd.engine.model import Task
from stackd.engine.parts import NodeState
from stackd.engine.rollout import ACTIVE
from stackd.engine.status import TaskStatus
from stackd.engine.step import step
from stackd.engine.store import Store, Transaction, View
from stackd.engine.taskstate import Step, TaskState, is_terminal, next_step

EVENTS_MAX = 50_000
"""Steps of the engine after which a forecast gives up: a plan must end, whatever the stack file says."""

LOOKS_MAX = 20_000_000
"""Task records looked at after which it gives up as well: a step looks at all tasks of the jobs it is about, so a job costs the
square of its runs. About a minute's work, as are the steps above."""

LOOKS_PER_REPORT = 20
"""Task records looked at for a report of a service that is no job: those of its slot and of what else is in flux."""

HORIZON = Duration(24 * HOUR)
"""How far ahead a forecast looks."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a node takes for one operation; images are taken to be there already. `run_ns` is how long a run of a job takes
    until it completes, which nobody can know."""

    prepare_ns: Duration = Duration(300 * MILLISECOND)
    start_ns: Duration = Duration(400 * MILLISECOND)
    stop_ns: Duration = Duration(300 * MILLISECOND)
    run_ns: Duration = Duration(5 * SECOND)

    def of(self, operation: Step) -> Duration:
        """The time of one operation; what isn't named above takes none."""
        taken = {Step.PREPARE: self.prepare_ns, Step.START: self.start_ns, Step.STOP: self.stop_ns, Step.WAIT: self.run_ns}
        return taken.get(operation, Duration(0))


CREATED = "created"
RUNNING = "running"
STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that a person would notice. `action` is created | running | stopped."""

    after: Duration
    service_id: ServiceId
    task: Task
    action: str
    reason: str = ""


@dataclass(slots=True)
class Forecast:
    """The outcome. `view` is the state at the end; `lowest` the lowest number of running tasks each service came to (those
    of which a task started or ended). Not `complete`: a limit was reached before everything had come to rest."""

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


_LEADS_TO = {
    Step.ACCEPT: TaskState.PREPARING,
    Step.PREPARE: TaskState.READY,
    Step.START: TaskState.RUNNING,
    Step.STOP: TaskState.SHUTDOWN,
    Step.WAIT: TaskState.COMPLETE,
}
"""Where each operation of an agent leads. Only runs of jobs are waited for: everything else runs on."""


class _Run:
    """One forecast under way: the copy of the state, the future events, what has been noticed.

    `_expected` is the report with which each task's node will end its present operation. A queued report that isn't the
    expected one any more (the task was told to stop meanwhile) is passed over."""

    def __init__(self, store: Store, start: Instant, pace: Pace) -> None:
        self._store = store
        self._start = start
        self._pace = pace
        self._entropy = _CountedEntropy()
        self._events: list[tuple[Instant, int, Wake | TaskStatus]] = []
        self._order = 0
        self._expected: dict[TaskId, TaskStatus] = {}
        self._reasons: dict[str, str] = {}
        self._records: Counter[ServiceId] = Counter()
        self._running: Counter[ServiceId] = Counter()
        self._looks = 0
        self.result = Forecast(replies=(), view=store.view)

    def run(self, inputs: Sequence[Input], abandoned: Callable[[], bool]) -> Forecast:
        now = self._start
        for task in self._store.view.tasks.values():
            self._records[task.service_id] += 1
            self._running[task.service_id] += self._store.view.status_of(task.id).state is TaskState.RUNNING
            self._expect_report(task, now)
        _, *replies = self._decide((Wake(services=tuple(_under_way(self._store.view))), *inputs), now)
        self.result.replies = tuple(replies)
        for _ in range(EVENTS_MAX):
            if not self._events:
                return self.result
            now = self._events[0][0]
            if now - self._start > HORIZON or self._looks > LOOKS_MAX or abandoned():
                break
            self._decide(self._take_due(now), now)
        self.result.complete = False
        return self.result

    def _take_due(self, now: Instant) -> list[Input]:
        inputs: list[Input] = []
        services: set[ServiceId] = set()
        while self._events and self._events[0][0] <= now:
            event = heapq.heappop(self._events)[2]
            if isinstance(event, Wake):
                inputs.append(event)
                services.update(event.services, event.unfilled)
            elif self._expected.get(event.id) is event and (task := self._store.view.tasks.get(event.id)) is not None:
                inputs.append(ReportTasks(node_id=task.node_id, statuses=(event,)))
                services.add(task.service_id)
        self._looks += sum(self._looks_at(service) for service in services)
        return inputs

    def _looks_at(self, service_id: ServiceId) -> int:
        service = self._store.view.services.get(service_id)
        return self._records[service_id] if service is not None and service.iteration else LOOKS_PER_REPORT

    def _decide(self, inputs: Sequence[Input], now: Instant) -> tuple[Reply, ...]:
        decision = step(self._store.view, inputs, now, self._entropy)
        self._reasons.update(decision.reasons)
        if decision.transaction is not None:
            self._apply(decision.transaction, now)
        for at, service in decision.wakeups:
            self._push(at, Wake(services=(service,), whole=False))
        if decision.rest is not None:
            self._push(now, decision.rest)
        return decision.replies

    def _push(self, at: Instant, event: Wake | TaskStatus) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, event))

    def _apply(self, transaction: Transaction, now: Instant) -> None:
        """Apply what was decided, note what people would notice of it, and queue what the nodes will make of it."""
        view = self._store.view
        noticed = list(_noticed(view, transaction))
        self._store.apply(self._store.index + 1, encode(transaction))
        for task, action in noticed:
            passed = Duration(now - self._start)
            self.result.moments.append(Moment(passed, task.service_id, task, action, self._reasons.get(task.id, "")))
            self.result.settled_after[task.service_id] = passed
        self._count(noticed)
        for row in transaction.puts:
            task_id = row.id if isinstance(row, Task | TaskStatus) else None
            if task_id is not None and (present := view.tasks.get(task_id)) is not None:
                self._expect_report(present, now)

    def _count(self, noticed: Sequence[tuple[Task, str]]) -> None:
        """How many run is of interest after the whole entry only: what it changes, it changes at once."""
        before = {task.service_id: self._running[task.service_id] for task, _ in noticed}
        for task, action in noticed:
            self._records[task.service_id] += action == CREATED
            self._running[task.service_id] += (action == RUNNING) - (action == STOPPED)
        for service, count in before.items():
            self.result.lowest[service] = min(self.result.lowest.get(service, count), self._running[service])

    def _expect_report(self, task: Task, now: Instant) -> None:
        """Queue the report with which the task's node will end its next operation, if it has anything to do."""
        view = self._store.view
        status, node = view.status_of(task.id), view.node_statuses.get(task.node_id)
        operation = next_step(status.state, task.desired)
        answers = node is not None and node.state is NodeState.READY
        runs_on = operation is Step.WAIT and not task.iteration
        if not answers or status.state < TaskState.ASSIGNED or operation not in _LEADS_TO or runs_on:
            self._expected.pop(task.id, None)
            return
        state, expected = _LEADS_TO[operation], self._expected.get(task.id)
        if expected is None or expected.state is not state:
            report = self._expected[task.id] = msgspec.structs.replace(status, state=state, message="forecast")
            self._push(after(now, self._pace.of(operation)), report)


def _under_way(view: View) -> Iterator[ServiceId]:
    """The services that wait for a deadline: looked at, they name it again."""
    yield from (rollout.service_id for rollout in view.rollouts.values() if rollout.state in ACTIVE)
    yield from {task.service_id: None for task in view.succeeding_tasks()}
    yield from (service.id for service in view.services.values() if service.settings.depends_on)


def _noticed(before: View, transaction: Transaction) -> Iterator[tuple[Task, str]]:
    """The tasks that the transaction creates, and those that it says have begun or ceased to run."""
    tasks = {row.id: row for row in transaction.puts if isinstance(row, Task)}
    for row in transaction.puts:
        if isinstance(row, Task) and row.id not in before.tasks:
            yield row, CREATED
        elif isinstance(row, TaskStatus) and (task := tasks.get(row.id) or before.tasks.get(row.id)) is not None:
            ran = before.status_of(row.id).state is TaskState.RUNNING
            if row.state is TaskState.RUNNING and not ran:
                yield task, RUNNING
            elif is_terminal(row.state) and ran:
                yield task, STOPPED
    for table, key in transaction.deletes:
        gone = before.tasks.get(key) if table == "tasks" else None
        if gone is not None and before.status_of(gone.id).state is TaskState.RUNNING:
            yield gone, STOPPED


def forecast(
    store: Store,
    inputs: Sequence[Input],
    now: Instant,
    pace: Pace | None = None,
    abandoned: Callable[[], bool] = lambda: False,
) -> Forecast:
    """What follows if `inputs` are decided at `now`. Works on `store` itself: hand in a fork of the live one. `abandoned` is
    asked at every step; when it says so nobody wants to know any more, and the forecast ends where it is."""
    return _Run(store, now, pace or Pace()).run(inputs, abandoned)
