"""A step costs what it changes, not what the cluster has. Counted are the rows that are looked up, which no other load on the
machine changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from stackd.base.records import encode
from stackd.engine import draft as draft_module
from stackd.engine.inputs import ReportTasks, ScaleService
from stackd.engine.status import TaskStatus
from stackd.engine.step import Decision, step
from stackd.engine.tables import Table
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Dependency, DependencyCondition, RestartPolicy, ServiceMode

from engine_builders import SOMEBODY, ToyCluster, a_spec, settings


class Lookups:
    """How many rows have been looked up, by their keys or by going through a table."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        get, values = Table.get, Table.values

        def counted_get(table: Table[Any], key: str) -> Any:
            self.count += 1
            return get(table, key)

        def counted_values(table: Table[Any]) -> Iterator[Any]:
            for row in values(table):
                self.count += 1
                yield row

        patch.setattr(Table, "get", counted_get)
        patch.setattr(Table, "values", counted_values)

    def of(self, work: Callable[[], object]) -> int:
        before = self.count
        work()
        return self.count - before


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Lookups:
    return Lookups(monkeypatch)


def a_running_cluster(nodes: int, *services: tuple[str, int]) -> ToyCluster:
    cluster = ToyCluster(nodes=nodes, checked=False)
    cluster.deploy(*((name, a_spec(name), settings(replicas)) for name, replicas in services))
    report_all(cluster, TaskState.RUNNING)
    return cluster


def report_all(cluster: ToyCluster, state: TaskState) -> None:
    for node in list(cluster.view.nodes.values()):
        tasks = cluster.view.tasks_of_node(node.id)
        reports = tuple(TaskStatus(id=task.id, state=state, at=cluster.now, running_at=cluster.now) for task in tasks)
        cluster.submit(ReportTasks(node_id=node.id, statuses=reports))


def report_one(cluster: ToyCluster, lookups: Lookups, state: TaskState) -> int:
    """What a report on one task costs, with all that follows from it."""
    task = cluster.live()[0]
    report = TaskStatus(id=task.id, state=state, at=cluster.now, running_at=cluster.now)
    return lookups.of(lambda: cluster.submit(ReportTasks(node_id=task.node_id, statuses=(report,))))


def test_replacing_one_task_costs_the_same_on_a_few_nodes_and_on_many(lookups: Lookups) -> None:
    few, many = (a_running_cluster(nodes, ("web", 8), ("db", 8)) for nodes in (10, 300))
    assert report_one(many, lookups, TaskState.FAILED) <= 1.1 * report_one(few, lookups, TaskState.FAILED)


def test_replacing_one_task_costs_the_same_for_a_small_and_for_a_large_service(lookups: Lookups) -> None:
    small, large = (a_running_cluster(10, ("web", replicas)) for replicas in (12, 400))
    assert report_one(large, lookups, TaskState.FAILED) <= 1.1 * report_one(small, lookups, TaskState.FAILED)


def test_a_report_costs_the_same_however_many_other_tasks_are_still_starting(lookups: Lookups) -> None:
    few, many = (ToyCluster(nodes=10, checked=False) for _ in range(2))
    few.deploy(("web", a_spec(), settings(12)))
    many.deploy(("web", a_spec(), settings(400)))
    assert report_one(many, lookups, TaskState.RUNNING) <= 1.1 * report_one(few, lookups, TaskState.RUNNING)


@pytest.mark.parametrize("condition", [DependencyCondition.STARTED, DependencyCondition.HEALTHY])
def test_a_report_costs_the_same_however_large_the_service_is_that_others_wait_for(
    lookups: Lookups, condition: DependencyCondition
) -> None:
    waits = settings(1, depends_on=(Dependency(service="db", condition=condition),))
    costs = []
    for replicas in (12, 400):
        cluster = ToyCluster(nodes=10, checked=False)
        cluster.deploy(("db", a_spec(), settings(replicas)), ("web", a_spec(), waits))
        task = cluster.live("shop_db")[0]
        report = TaskStatus(id=task.id, state=TaskState.PREPARING, at=cluster.now)
        costs.append(lookups.of(partial(cluster.submit, ReportTasks(node_id=task.node_id, statuses=(report,)))))
    assert costs[1] <= 1.1 * costs[0]


def test_a_new_stack_costs_the_same_beside_a_few_and_beside_many(lookups: Lookups) -> None:
    costs = []
    for stacks in (5, 150):
        cluster = ToyCluster(nodes=3, checked=False)
        for number in range(stacks):
            cluster.deploy(("web", a_spec(f"web{number}"), settings(0)), stack=f"stack{number}")
        costs.append(lookups.of(partial(cluster.deploy, ("web", a_spec("one more"), settings(0)), stack="another")))
    assert costs[1] <= 1.1 * costs[0]


def a_running_job(runs: int, concurrent: int = 0) -> ToyCluster:
    cluster = ToyCluster(nodes=10, checked=False)
    cluster.deploy(("web", a_spec(), settings(runs, mode=ServiceMode.REPLICATED_JOB, max_concurrent=concurrent)))
    report_all(cluster, TaskState.RUNNING)
    return cluster


@pytest.mark.parametrize("state", [TaskState.COMPLETE, TaskState.FAILED], ids=lambda state: state.word)
def test_the_end_of_one_run_costs_the_same_in_a_small_and_in_a_large_job(lookups: Lookups, state: TaskState) -> None:
    few, many = (a_running_job(runs) for runs in (12, 400))
    assert report_one(many, lookups, state) <= 1.1 * report_one(few, lookups, state)


def test_the_next_run_of_a_job_costs_the_same_however_many_have_completed(lookups: Lookups) -> None:
    cluster = a_running_job(100, concurrent=3)
    costs = []
    for _ in range(90):
        task = next(task for task in cluster.live() if cluster.state(task) is not TaskState.COMPLETE)
        done = TaskStatus(id=task.id, state=TaskState.COMPLETE, at=cluster.now)
        report = ReportTasks(node_id=task.node_id, statuses=(done,))
        costs.append(lookups.of(partial(cluster.submit, report)))
    assert len(cluster.tasks()) == 93
    assert max(costs) <= 1.2 * min(costs)


@pytest.mark.parametrize("mode", [ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB])
@pytest.mark.parametrize("state", [TaskState.RUNNING, TaskState.FAILED], ids=lambda state: state.word)
def test_a_report_on_one_node_costs_the_same_for_services_of_few_and_of_many_nodes(
    lookups: Lookups, mode: ServiceMode, state: TaskState
) -> None:
    costs = []
    for nodes in (10, 300):
        cluster = ToyCluster(nodes=nodes, checked=False)
        cluster.deploy(("web", a_spec(), settings(mode=mode)))
        costs.append(report_one(cluster, lookups, state))
    assert costs[1] <= 1.1 * costs[0]


def test_a_report_costs_the_same_in_the_update_of_a_service_on_few_and_on_many_nodes(lookups: Lookups) -> None:
    costs = []
    for nodes in (20, 300):
        cluster = ToyCluster(nodes=nodes, checked=False)
        for image in ("v1", "v2"):
            cluster.deploy(("web", a_spec(image), settings(mode=ServiceMode.GLOBAL)))
            if image == "v1":
                report_all(cluster, TaskState.RUNNING)
        (first, *_) = [task for task in cluster.live() if task.rollout]
        report = TaskStatus(id=first.id, state=TaskState.READY, at=cluster.now)
        costs.append(lookups.of(partial(cluster.submit, ReportTasks(node_id=first.node_id, statuses=(report,)))))
    assert costs[1] <= 1.1 * costs[0]


def deploying(services: int, lookups: Lookups) -> int:
    return lookups.of(lambda: a_running_cluster(3, *((f"s{number}", 1) for number in range(services))))


def test_each_service_of_a_large_stack_costs_what_it_does_in_a_small_one(lookups: Lookups) -> None:
    assert deploying(100, lookups) <= 1.1 * 10 * deploying(10, lookups)


def continuing(cluster: ToyCluster, decision: Decision, lookups: Lookups) -> Iterator[int]:
    """The costs of all further entries of a decision that one has no room for, less one for each task there is: that much is
    needed to know which slots are filled."""
    while decision.rest is not None:
        assert decision.transaction is not None
        cluster.store.apply(cluster.store.index + 1, encode(decision.transaction))
        before = lookups.count
        decision = step(cluster.view, [decision.rest], cluster.now, cluster.entropy)
        yield lookups.count - before - len(cluster.view.tasks)


def test_each_entry_of_a_large_deployment_costs_what_it_adds(lookups: Lookups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_module, "CHANGES_MAX", 200)
    cluster = ToyCluster(nodes=10, checked=False)
    cluster.deploy(("web", a_spec(), settings(0)))
    grow = ScaleService(name="shop_web", replicas=900, principal=SOMEBODY)
    costs = list(continuing(cluster, step(cluster.view, [grow], cluster.now, cluster.entropy), lookups))
    assert len(costs) >= 9
    assert max(costs[:-1]) <= 1.2 * min(costs[:-1])


def test_a_service_that_no_entry_has_room_for_is_filled_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_module, "CHANGES_MAX", 20)
    cluster = ToyCluster(nodes=3)
    cluster.deploy(("web", a_spec(), settings(40)), ("db", a_spec(), settings(30)))
    assert sorted(task.slot for task in cluster.live("shop_web")) == list(range(1, 41))
    assert sorted(task.slot for task in cluster.live("shop_db")) == list(range(1, 31))
    assert all(task.node_id for task in (*cluster.live("shop_web"), *cluster.live("shop_db")))


def test_what_happens_while_a_service_is_filled_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_module, "CHANGES_MAX", 20)
    cluster = ToyCluster(nodes=3, checked=False)  # there is something to add until the end
    cluster.deploy(("web", a_spec(restart=RestartPolicy(delay_ns=0)), settings(1)))
    grow = ScaleService(name="shop_web", replicas=30, principal=SOMEBODY)
    decision = step(cluster.view, [grow], cluster.now, cluster.entropy)
    shrink = ScaleService(name="shop_web", replicas=12, principal=SOMEBODY)
    assert decision.transaction is not None
    assert decision.rest is not None
    cluster.store.apply(cluster.store.index + 1, encode(decision.transaction))
    cluster.report(cluster.live()[0], TaskState.FAILED, error="killed")
    cluster.submit(shrink)
    cluster.submit(decision.rest)
    assert sorted(task.slot for task in cluster.live()) == list(range(1, 13))
