"""`make bench NAME=engine`: what deciding costs, without disks, wires and nodes.

Tasks of new services are made, addressed, placed and stored, entry by entry, as the writer loop would have it: `step`, encode,
decode, `apply`. Figures are CPU seconds of this process; beside them, where there is one, SwarmKit's own for the same nodes and
tasks (its scheduler benchmark on two cores of an idle server, two runs averaged). SwarmKit's begins with tasks that exist and
ends when they are assigned; ours makes them as well.

Then what a running cluster costs: all tasks of a large service are reported to run, node by node, and one task after the other
fails and is replaced, on few nodes and on many; so also for jobs and global services of few tasks and of many.

`--full` adds the largest cases, which take some minutes.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from stackd.base.ids import NodeId
from stackd.base.records import encode
from stackd.base.time import SECOND, Instant
from stackd.engine.inputs import (
    DeployRevision,
    FullPass,
    Input,
    ReportTasks,
    ServiceManifest,
    StackManifest,
    StageContent,
)
from stackd.engine.model import Node, SpecRow, Task
from stackd.engine.parts import NodeDescription, NodeState, Owner, Principal, PrincipalKind
from stackd.engine.status import NodeStatus, TaskStatus
from stackd.engine.step import step
from stackd.engine.store import Store, Transaction
from stackd.engine.taskstate import TaskState
from stackd.spec.digest import spec_digest
from stackd.spec.stack import (
    ContainerSpec,
    NetworkAttachment,
    NetworkSpec,
    Placement,
    Pool,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSettings,
    TaskSpec,
)

from benchmarks.figures import figure

NOW = Instant(1_700_000_000 * SECOND)
SOMEBODY = Principal(kind=PrincipalKind.LOCAL_USER, name="bench")
NETWORK = NetworkSpec(name="bench_default", pools=(Pool(subnet="10.0.0.0/12"),))
PER_REVISION = 1_000
"""Services deployed at once."""

REPORTS = 200
"""Of which a small decision's cost is the mean."""


@dataclass(frozen=True)
class Case:
    """`swarm` is SwarmKit's CPU seconds for it, 0 where nobody has measured that."""

    name: str
    nodes: int
    tasks: int
    services: int
    swarm: float = 0.0
    constrained: bool = False
    networked: bool = False


CASES = (
    Case("one_off_1k_nodes_1k_tasks", 1_000, 1_000, 1_000, 0.43),
    Case("grouped_1k_nodes_1k_tasks", 1_000, 1_000, 1, 0.114),
    Case("grouped_1k_nodes_10k_tasks", 1_000, 10_000, 1, 1.27),
    Case("100_services_1k_nodes_10k_tasks", 1_000, 10_000, 100, 1.42),
    Case("constrained_1k_nodes_10k_tasks", 1_000, 10_000, 100, constrained=True),
    Case("networked_1k_nodes_10k_tasks", 1_000, 10_000, 100, networked=True),
)
FULL = (
    Case("100_services_1k_nodes_100k_tasks", 1_000, 100_000, 100, 17.7),
    Case("100_services_10k_nodes_100k_tasks", 10_000, 100_000, 100, 19.35),
)


class Bench:
    """An engine with its store."""

    def __init__(self, nodes: int) -> None:
        self.store = Store()
        self._entropy = random.Random(1)
        self.decide([FullPass()])
        for begin in range(0, nodes, 500):
            rows = [row for number in range(begin, min(nodes, begin + 500)) for row in _node(number)]
            self._apply(Transaction(now=NOW, puts=tuple(rows)))

    def decide(self, inputs: Sequence[Input]) -> None:
        """Decide, store, and go on with what had no room, until nothing is left."""
        while inputs:
            decision = step(self.store.view, inputs, NOW, self._entropy)
            if decision.transaction is not None:
                self._apply(decision.transaction)
            inputs = (decision.rest,) if decision.rest is not None else ()

    def report(self, tasks: Sequence[Task], state: TaskState) -> None:
        """Let one node report on some of its tasks."""
        if tasks:
            statuses = tuple(TaskStatus(id=task.id, state=state, at=NOW, running_at=NOW, error="bench") for task in tasks)
            self.decide([ReportTasks(node_id=tasks[0].node_id, statuses=statuses)])

    def _apply(self, transaction: Transaction) -> None:
        self.store.apply(self.store.index + 1, encode(transaction))


def _node(number: int) -> tuple[Node, NodeStatus]:
    node_id = NodeId(f"node{number:06d}")
    description = NodeDescription(
        hostname=f"host{number}",
        os="linux",
        arch="amd64",
        resources=Resources(nano_cpus=64 * 10**9, memory_bytes=256 << 30),
        executors=("docker",),
        features=("ports-map",),
    )
    labels = (("disk", "ssd" if number % 3 == 0 else "hdd"),)
    return (
        Node(id=node_id, created_at=NOW, labels=labels),
        NodeStatus(id=node_id, state=NodeState.READY, at=NOW, description=description),
    )


def _spec(case: Case, number: int) -> TaskSpec:
    constraints = ("node.labels.disk == ssd",) if case.constrained else ()
    return TaskSpec(
        container=ContainerSpec(image=f"app{number}"),
        restart=RestartPolicy(delay_ns=0),
        reservations=Resources(nano_cpus=10**8),
        placement=Placement(constraints=constraints),
        networks=(NetworkAttachment(network=NETWORK.name),) if case.networked else (),
    )


def deploy(bench: Bench, case: Case, settings: ServiceSettings | None = None) -> None:
    """The services of the case, at most a thousand in one revision."""
    for begin in range(0, case.services, PER_REVISION):
        numbers = range(begin, min(case.services, begin + PER_REVISION))
        specs = [_spec(case, number) for number in numbers]
        bench.decide([StageContent(specs=tuple(SpecRow(digest=spec_digest(spec), spec=spec) for spec in specs))])
        settings = settings or ServiceSettings(replicas=case.tasks // case.services)
        manifest = StackManifest(
            name=f"bench{begin}",
            owner=Owner(),
            services=tuple(
                ServiceManifest(name=f"s{number}", spec=spec_digest(spec), settings=settings)
                for number, spec in zip(numbers, specs, strict=True)
            ),
            networks=(NETWORK,) if case.networked else (),
        )
        bench.decide([DeployRevision(label="bench", source="", stacks=(manifest,), principal=SOMEBODY)])


def measure(case: Case) -> None:
    bench = Bench(case.nodes)
    begin = time.process_time()
    deploy(bench, case)
    seconds = time.process_time() - begin
    placed = sum(bench.store.view.ledger.usage(node.id).live for node in bench.store.view.nodes.values())
    assert placed == case.tasks, f"{placed} of {case.tasks} tasks were placed"
    more = {"swarm": case.swarm, "ratio": seconds / case.swarm} if case.swarm else {}
    figure(case.name, seconds, "cpu_s", per_task_us=seconds / case.tasks * 1e6, **more)


def measure_reports(case: Case) -> None:
    """All tasks are reported to run, those of one node at a time: what follows a large deployment."""
    bench = Bench(case.nodes)
    deploy(bench, case)
    reports = [tuple(bench.store.view.tasks_of_node(node.id)) for node in bench.store.view.nodes.values()]
    begin = time.process_time()
    for tasks in filter(None, reports):
        bench.report(tasks, TaskState.RUNNING)
    seconds = time.process_time() - begin
    figure(case.name, seconds, "cpu_s", per_task_us=seconds / case.tasks * 1e6)


def measure_failures(nodes: int) -> None:
    """One task after the other fails and is followed by another one: a small decision, whatever the size of the cluster."""
    bench = Bench(nodes)
    deploy(bench, Case("", nodes, tasks=2_000, services=20))
    tasks = [task for number, task in enumerate(bench.store.view.tasks.values()) if number < REPORTS]
    begin = time.process_time()
    for task in tasks:
        bench.report([task], TaskState.FAILED)
    figure(f"one_failed_task_replaced_on_{nodes}_nodes", (time.process_time() - begin) / len(tasks) * 1000, "cpu_ms")


def measure_modes(slots: int) -> None:
    """One run of a job of that many completes; one task of a global service on that many nodes fails and is followed by
    another one: small decisions, whatever the size of the service."""
    job = ServiceSettings(mode=ServiceMode.REPLICATED_JOB, replicas=slots)
    figure(f"one_of_{slots}_runs_completes", _cost_of_reports(job, 10, TaskState.COMPLETE), "cpu_ms")
    everywhere = ServiceSettings(mode=ServiceMode.GLOBAL, replicas=0)
    figure(f"one_of_{slots}_global_tasks_replaced", _cost_of_reports(everywhere, slots, TaskState.FAILED), "cpu_ms")


def _cost_of_reports(settings: ServiceSettings, nodes: int, state: TaskState) -> float:
    """CPU milliseconds of one report, and what follows from it, on a service that runs."""
    bench = Bench(nodes)
    deploy(bench, Case("", nodes, tasks=0, services=1), settings)
    for node in bench.store.view.nodes.values():
        bench.report(bench.store.view.tasks_of_node(node.id), TaskState.RUNNING)
    tasks = [task for number, task in enumerate(bench.store.view.tasks.values()) if number < REPORTS]
    begin = time.process_time()
    for task in tasks:
        bench.report([task], state)
    return (time.process_time() - begin) / len(tasks) * 1000


def main(arguments: list[str]) -> int:
    """Run all cases; `--full` the largest ones as well."""
    for case in (*CASES, *FULL) if "--full" in arguments else CASES:
        measure(case)
    measure_reports(Case("reports_1k_nodes_10k_tasks", 1_000, 10_000, 1))
    for nodes in (10, 1_000, 5_000):
        measure_failures(nodes)
    for slots in (10, 1_000):
        measure_modes(slots)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
