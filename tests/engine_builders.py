"""Builders of engine state for tests, and `ToyCluster`: the real engine and store, with nodes that walk tasks through the
state machine one operation per round. No threads, no clock: time is what the test says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from stackd.base.ids import NodeId, ServiceId
from stackd.base.records import encode
from stackd.base.time import MILLISECOND, SECOND, Instant
from stackd.engine.check import check_state, check_transition
from stackd.engine.explain import ServiceHealth, service_health
from stackd.engine.inputs import (
    DeployRevision,
    FullPass,
    Input,
    RegisterNode,
    RemoveNode,
    Reply,
    ReportNode,
    ReportTasks,
    ServiceManifest,
    SetAvailability,
    StackManifest,
    StageContent,
    Wake,
)
from stackd.engine.model import Node, Row, Service, SpecRow, Task
from stackd.engine.parts import Availability, NodeDescription, NodeState, Owner, Principal, PrincipalKind
from stackd.engine.status import Rollout, TaskStatus
from stackd.engine.step import Decision, step
from stackd.engine.store import Changes, Store, Transaction
from stackd.engine.taskstate import Step, TaskState, fault_state, next_step
from stackd.engine.view import View
from stackd.spec.digest import spec_digest
from stackd.spec.stack import (
    ContainerSpec,
    Placement,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSettings,
    TaskSpec,
    UpdateConfig,
)

SOMEBODY = Principal(kind=PrincipalKind.LOCAL_USER, name="somebody")
START = Instant(1_700_000_000 * SECOND)

NO_WAIT = RestartPolicy(delay_ns=0)
QUICK = UpdateConfig(monitor_ns=1)

BAD = "bad"
"""An image that can't be prepared."""
CRASHING = "crashing"
"""An image whose container fails to start."""
ENDING = "ending"
"""An image whose container ends at once, with exit code 0."""
FLAPPING = "flapping"
"""An image whose container runs and then fails."""


def a_spec(image: str = "v1", **fields: Any) -> TaskSpec:
    fields.setdefault("restart", NO_WAIT)
    return TaskSpec(container=ContainerSpec(image=image), **fields)


def settings(replicas: int = 1, **fields: Any) -> ServiceSettings:
    fields.setdefault("update", QUICK)
    fields.setdefault("rollback", QUICK)
    if fields.get("mode") in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB):
        replicas = 0
    return ServiceSettings(replicas=replicas, **fields)


def a_node(number: int, *, availability: Availability = Availability.ACTIVE, labels: dict[str, str] | None = None) -> Node:
    return Node(
        id=NodeId(f"node{number}"),
        created_at=START,
        availability=availability,
        labels=tuple(sorted((labels or {}).items())),
    )


def a_description(number: int, *, cpus: int = 8) -> NodeDescription:
    return NodeDescription(
        hostname=f"host{number}",
        os="linux",
        resources=Resources(nano_cpus=cpus * 10**9, memory_bytes=32 << 30),
        executors=("fake",),
        features=("ports-map",),
    )


class ToyCluster:
    """A whole cluster in one object. After every entry the state is checked, and that the engine has nothing to add."""

    def __init__(self, nodes: int = 1, *, seed: int = 1, checked: bool = True, cpus: int = 8) -> None:
        self.store = Store()
        self.now = START
        self.entropy = random.Random(seed)
        self.checked = checked
        self.broken: set[str] = set()  # images that can't be prepared any more
        self.wakeups: dict[ServiceId, Instant] = {}
        self.alive: set[NodeId] = set()
        self.entries = 0
        self.history: list[Changes] = []
        self.submit(FullPass())
        for number in range(1, nodes + 1):
            self.join(number, cpus=cpus)

    @property
    def view(self) -> View:
        return self.store.view

    # Driving.

    def submit(self, *inputs: Input) -> Reply:
        """Decide, apply, and go on with what had no room; returns the last input's reply."""
        decision = self._decide(inputs)
        replies = decision.replies
        for _ in range(1000):
            if decision.rest is None:
                return replies[-1]
            decision = self._decide([decision.rest])
        raise AssertionError("the engine never finishes")

    def _decide(self, inputs: Sequence[Input]) -> Decision:
        decision = step(self.view, inputs, self.now, self.entropy)
        before = self.store.freeze().view if self.checked else None
        for at, service in decision.wakeups:
            assert at > self.now
            self.wakeups[service] = min(at, self.wakeups.get(service, at))
        if decision.transaction is not None:
            self.entries += 1
            self.history.append(self.store.apply(self.store.index + 1, encode(decision.transaction)))
        if before is not None:
            assert check_state(self.view) == []
            assert check_transition(before, self.view) == []
            if decision.rest is None:
                self._assert_nothing_to_add()
        return decision

    def _assert_nothing_to_add(self) -> None:
        """Looking at every service again decides nothing. Only the words why a task still waits for a node may be older than
        what has been placed since: they are looked up again when something could have got better, not worse."""
        again = step(self.view, [Wake(services=tuple(row.id for row in self.view.services.values()))], self.now, self.entropy)
        if again.transaction is not None:
            added = [row for row in again.transaction.puts if not self._only_words(row)]
            assert (added, again.transaction.deletes) == ([], ())

    def _only_words(self, row: object) -> bool:
        if isinstance(row, Rollout):
            before = self.view.rollouts.get(row.key)
            return before is not None and msgspec.structs.replace(before, message=row.message) == row
        return isinstance(row, TaskStatus) and row.state is TaskState.PENDING is self.view.status_of(row.id).state

    def round(self, after_ns: int = 100 * MILLISECOND) -> bool:
        """Time passes, timers fire, and every live node does one operation of each of its tasks. Returns whether anything
        happened."""
        self.now = Instant(self.now + after_ns)
        before = self.store.index
        due = tuple(service for service, at in self.wakeups.items() if at <= self.now)
        for service in due:
            del self.wakeups[service]
        if due:
            self.submit(Wake(services=due, whole=False))
        for node_id in sorted(self.alive):
            reports = [report for task in self.view.tasks_of_node(node_id) if (report := self._operate(task)) is not None]
            if reports:
                self.submit(ReportTasks(node_id=node_id, statuses=tuple(reports)))
        return self.store.index != before or bool(due)

    def rounds(self, number: int, after_ns: int = 100 * MILLISECOND) -> None:
        for _ in range(number):
            self.round(after_ns)

    def until(self, predicate: Callable[[], bool], *, limit: int = 300) -> None:
        """Rounds until the predicate holds."""
        for _ in range(limit):
            if predicate():
                return
            self.round()
        raise AssertionError(f"not reached in {limit} rounds: {self.describe()}")

    def settle(self, *, limit: int = 600) -> None:
        """Rounds until every service has converged."""
        self.until(lambda: all(self.health(row.name).converged for row in self.services()), limit=limit)

    def _operate(self, task: Task) -> TaskStatus | None:
        status = self.view.status_of(task.id)
        if status.state < TaskState.ASSIGNED:
            return None
        image = self._image(task)
        match next_step(status.state, task.desired):
            case Step.NOTHING | Step.HOLD_READY:
                return None
            case Step.ACCEPT:
                return self._report(status, TaskState.PREPARING, "preparing")
            case Step.PREPARE if image == BAD or image in self.broken:
                return self._fault(status, "no such image")
            case Step.PREPARE:
                return self._report(status, TaskState.READY, "prepared")
            case Step.START if image == CRASHING:
                return self._fault(self._report(status, TaskState.STARTING, "starting"), "can't be started")
            case Step.START:
                return self._report(status, TaskState.RUNNING, "started")
            case Step.WAIT if image == ENDING:
                return msgspec.structs.replace(self._report(status, TaskState.COMPLETE, "finished"), exit_code=0)
            case Step.WAIT if image == FLAPPING:
                return self._fault(status, "task: non-zero exit (1)")
            case Step.WAIT:
                return None
            case Step.STOP:
                return self._report(status, TaskState.SHUTDOWN, "shutdown")

    def _image(self, task: Task) -> str:
        row = self.view.specs.get(task.spec)
        return row.spec.container.image if row is not None else "unknown"

    @staticmethod
    def _report(status: TaskStatus, state: TaskState, message: str) -> TaskStatus:
        return msgspec.structs.replace(status, state=state, message=message, error="")

    @staticmethod
    def _fault(status: TaskStatus, error: str) -> TaskStatus:
        return msgspec.structs.replace(status, state=fault_state(status.state), error=error)

    def report(self, task: Task, state: TaskState, **fields: Any) -> None:
        """One report from the task's node."""
        status = msgspec.structs.replace(self.view.status_of(task.id), state=state, **fields)
        self.submit(ReportTasks(node_id=task.node_id, statuses=(status,)))

    # Nodes.

    def join(self, number: int, *, cpus: int = 8, labels: dict[str, str] | None = None, address: str = "") -> NodeId:
        node = a_node(number, labels=labels)
        self.alive.add(node.id)
        self.submit(RegisterNode(id=node.id, description=a_description(number, cpus=cpus), node=node, address=address))
        return node.id

    def crash(self, number: int) -> None:
        node_id = NodeId(f"node{number}")
        self.alive.discard(node_id)
        self.submit(ReportNode(id=node_id, state=NodeState.DOWN, message="heartbeat expired"))

    def new_leader(self) -> None:
        """Another manager takes over: timers are lost, everything is looked at, and the agents open new sessions."""
        self.wakeups.clear()
        self.submit(FullPass())
        for node_id in sorted(self.alive):
            status = self.view.node_statuses.get(node_id)
            assert status is not None
            self.submit(RegisterNode(id=node_id, description=status.description))

    def recover(self, number: int) -> None:
        self.join(number)

    def restore(self) -> None:
        """Another leader takes over, with the state as a snapshot tells it."""
        self.store = Store.restore(b"".join(self.store.freeze().chunks()))
        self.submit(FullPass())

    def put(self, *rows: Row) -> None:
        """Store rows without asking the engine: a setting that no command changes."""
        self.store.apply(self.store.index + 1, encode(Transaction(now=self.now, puts=rows)))

    def describe_node(self, number: int, **fields: Any) -> None:
        """The node says something else of itself."""
        node_id = NodeId(f"node{number}")
        described = msgspec.structs.replace(a_description(number), **fields)
        self.submit(RegisterNode(id=node_id, description=described, node=a_node(number)))

    def shrink(self, number: int, *, cpus: int = 1) -> None:
        """The node says that it has become smaller."""
        node_id = NodeId(f"node{number}")
        if node_id in self.alive:
            self.submit(RegisterNode(id=node_id, description=a_description(number, cpus=cpus), node=a_node(number)))

    def remove_node(self, number: int) -> None:
        """The node is taken out of the cluster, whatever it does; it may join again."""
        node_id = NodeId(f"node{number}")
        self.alive.discard(node_id)
        self.submit(RemoveNode(id=node_id, principal=SOMEBODY, force=True))

    def drain(self, number: int, availability: Availability = Availability.DRAIN) -> None:
        self.submit(SetAvailability(id=NodeId(f"node{number}"), availability=availability, principal=SOMEBODY))

    # Deploying.

    def deploy(
        self,
        *services: tuple[str, TaskSpec, ServiceSettings],
        stack: str = "shop",
        source: str = "",
        principal: Principal = SOMEBODY,
        objects: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Reply:
        """Stage and deploy one stack of (name, spec, settings). `objects` are further fields of its manifest: networks,
        configs, secrets, externals."""
        self.submit(StageContent(specs=tuple(SpecRow(digest=spec_digest(spec), spec=spec) for _, spec, _ in services)))
        manifest = StackManifest(
            name=stack,
            owner=Owner(source=source, file=f"{stack}.yaml"),
            services=tuple(
                ServiceManifest(name=name, spec=spec_digest(spec), settings=wanted) for name, spec, wanted in services
            ),
            **(objects or {}),
        )
        label = fields.pop("label", f"commit-{self.entries}")
        return self.submit(DeployRevision(label=label, source=source, stacks=(manifest,), principal=principal, **fields))

    def run(self, spec: TaskSpec | None = None, wanted: ServiceSettings | None = None, **fields: Any) -> None:
        """Deploy the service `shop_web`."""
        self.deploy(("web", spec or a_spec(), wanted or settings()), **fields)

    # Looking.

    def services(self) -> list[Service]:
        return sorted(self.view.services.values(), key=lambda row: row.name)

    def service(self, name: str = "shop_web") -> Service:
        service = self.view.service_named(name)
        assert service is not None
        return service

    def health(self, name: str = "shop_web") -> ServiceHealth:
        service = self.view.service_named(name)
        return service_health(self.view, service) if service else ServiceHealth("progressing", False, "gone")

    def tasks(self, name: str = "shop_web") -> list[Task]:
        """All tasks of the service by slot and age."""
        tasks = self.view.tasks_of_service(self.service(name).id)
        return sorted(tasks, key=lambda task: (task.slot, task.node_id if not task.slot else "", task.version))

    def live(self, name: str = "shop_web") -> list[Task]:
        return [task for task in self.tasks(name) if task.desired <= TaskState.COMPLETE]

    def running(self, name: str = "shop_web") -> list[Task]:
        return [task for task in self.tasks(name) if self.state(task) is TaskState.RUNNING]

    def state(self, task: Task) -> TaskState:
        return self.view.status_of(task.id).state

    def images(self, name: str = "shop_web") -> list[str]:
        """The images of the tasks that run, by slot."""
        return [self._image(task) for task in self.running(name)]

    def written_since(self, entry: int) -> set[type]:
        """The kinds of records that have changed since there were that many entries."""
        return {type(row) for changes in self.history[entry:] for row in changes.puts}

    def kinds(self) -> list[str]:
        """The kinds of all events, oldest first."""
        return [event.kind for event in self.view.events_after(0)]

    def describe(self) -> str:
        lines = [f"{row.name}: {self.health(row.name)}" for row in self.services() if not row.removing]
        lines += [
            f"  {task.slot or task.node_id} {self._image(task)} {task.desired.word} {self.state(task).word} "
            f"{self.view.status_of(task.id).error} gate={task.gate} rollout={task.rollout} replaces={task.replaces[:5]}"
            for row in self.view.services.values()
            for task in self.view.tasks_of_service(row.id)
        ]
        lines += [f"  {rollout}" for rollout in self.view.rollouts.values()]
        return "\n".join(lines)


def on(*constraints: str) -> Placement:
    return Placement(constraints=constraints)


def once() -> RestartPolicy:
    return RestartPolicy(condition=RestartCondition.NONE, delay_ns=0)
