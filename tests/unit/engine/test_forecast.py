"""The engine run forward on a copy: order, numbers, and that it always ends."""

from __future__ import annotations

from collections import Counter

import pytest
from stackd.base.records import encode
from stackd.base.time import HOUR, MILLISECOND, SECOND, Duration
from stackd.engine import forecast as module
from stackd.engine.explain import service_health
from stackd.engine.forecast import RUNNING, Forecast, Pace, forecast
from stackd.engine.inputs import (
    Applied,
    DeployRevision,
    Input,
    RemoveService,
    ScaleService,
    ServiceManifest,
    StackManifest,
    StageContent,
)
from stackd.engine.model import SpecRow
from stackd.engine.parts import Owner
from stackd.engine.taskstate import TaskState
from stackd.spec.digest import spec_digest
from stackd.spec.stack import (
    Dependency,
    DependencyCondition,
    Resources,
    ServiceMode,
    ServiceSettings,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)

from engine_builders import SOMEBODY, ToyCluster, a_spec, on, settings


def a_cluster(replicas: int = 3, *, nodes: int = 2, **fields: object) -> ToyCluster:
    """One where `shop_web` runs."""
    cluster = ToyCluster(nodes=nodes)
    cluster.run(a_spec(), settings(replicas, **fields))
    cluster.settle()
    return cluster


def ahead(cluster: ToyCluster, *inputs: Input, pace: Pace | None = None) -> Forecast:
    return forecast(cluster.store.fork(), inputs, cluster.now, pace)


def actions(result: Forecast) -> Counter[str]:
    return Counter(moment.action for moment in result.moments)


def scale(replicas: int) -> ScaleService:
    return ScaleService(name="shop_web", replicas=replicas, principal=SOMEBODY)


def deployment(spec: TaskSpec, wanted: ServiceSettings) -> tuple[Input, Input]:
    """What makes `shop_web` run this."""
    manifest = ServiceManifest(name="web", spec=spec_digest(spec), settings=wanted)
    stack = StackManifest(name="shop", owner=Owner(file="shop.yaml"), services=(manifest,))
    stage = StageContent(specs=(SpecRow(digest=spec_digest(spec), spec=spec),))
    return stage, DeployRevision(label="next", source="", stacks=(stack,), principal=SOMEBODY)


def update(cluster: ToyCluster, spec: TaskSpec | None = None) -> Forecast:
    """What deploying another image would do."""
    return ahead(cluster, *deployment(spec or a_spec("v2"), cluster.service().settings))


def test_scaling_up_creates_and_starts_the_missing_tasks() -> None:
    cluster = a_cluster(3)
    result = ahead(cluster, scale(5))
    assert result.replies == (Applied(changed=True, version=result.replies[0].version),)  # type: ignore[union-attr]
    assert actions(result) == {"created": 2, "running": 2}
    assert [moment.after for moment in result.moments if moment.action == "running"] == [700 * MILLISECOND] * 2
    assert result.lowest[cluster.service().id] == 3
    assert result.complete


def test_scaling_down_stops_the_surplus() -> None:
    cluster = a_cluster(3)
    result = ahead(cluster, scale(1))
    assert actions(result) == {"stopped": 2}
    assert result.lowest[cluster.service().id] == 1


def test_a_removed_service_is_gone_at_the_end() -> None:
    cluster = a_cluster(3)
    result = ahead(cluster, RemoveService(name="shop_web", principal=SOMEBODY))
    assert actions(result) == {"stopped": 3}
    assert len(result.view.tasks) == len(result.view.services) == 0


@pytest.mark.parametrize(("order", "lowest"), [(UpdateOrder.STOP_FIRST, 2), (UpdateOrder.START_FIRST, 3)])
def test_a_rolling_update_replaces_every_task_in_its_order(order: UpdateOrder, lowest: int) -> None:
    cluster = a_cluster(3, update=UpdateConfig(monitor_ns=1, order=order))
    result = update(cluster)
    service = result.view.service_named("shop_web")
    assert service is not None
    assert actions(result)["running"] == actions(result)["stopped"] == 3
    assert result.lowest[service.id] == lowest
    assert service_health(result.view, service).converged


def test_every_moment_says_why() -> None:
    assert {moment.reason for moment in ahead(a_cluster(3), scale(5)).moments if moment.action == "created"} != {""}


def test_the_update_delay_is_waited_for() -> None:
    quick = update(a_cluster(3, update=UpdateConfig(monitor_ns=0)))
    slow = update(a_cluster(3, update=UpdateConfig(monitor_ns=0, delay_ns=Duration(10 * SECOND))))
    ends = [next(iter(result.settled_after.values())) for result in (quick, slow)]
    assert ends[1] - ends[0] == 20 * SECOND


def test_an_update_that_rests_at_present_goes_on() -> None:
    """The deadline it waits for is in no queue of the copy: the record says so."""
    cluster = a_cluster(3, update=UpdateConfig(monitor_ns=1, delay_ns=Duration(10 * SECOND)))
    cluster.run(a_spec("v2"), cluster.service().settings)
    cluster.until(lambda: cluster.images().count("v2") == 1)
    cluster.rounds(5)
    result = ahead(cluster)
    service = result.view.service_named("shop_web")
    assert service is not None
    assert service_health(result.view, service).converged
    assert actions(result)["running"] == 2


def test_a_task_told_to_stop_while_it_starts_never_runs() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec(), settings(2))
    cluster.until(lambda: all(cluster.state(task) is TaskState.PREPARING for task in cluster.tasks()))
    result = ahead(cluster, RemoveService(name="shop_web", principal=SOMEBODY), pace=Pace(stop_ns=Duration(SECOND)))
    assert actions(result) == {}
    assert len(result.view.tasks) == 0


def test_a_node_that_is_down_reports_nothing() -> None:
    cluster = a_cluster(4, nodes=2)
    cluster.crash(2)
    cluster.settle()
    result = ahead(cluster, RemoveService(name="shop_web", principal=SOMEBODY))
    left = {task.node_id for task in result.view.tasks.values()}
    assert left <= {"node2"}


def test_what_does_not_fit_stays_and_says_so() -> None:
    cluster = a_cluster(1)
    cluster.deploy(("web", a_spec(), settings(1)), ("big", a_spec(reservations=Resources(nano_cpus=99 * 10**9)), settings(1)))
    result = ahead(cluster)
    service = result.view.service_named("shop_big")
    assert service is not None
    health = service_health(result.view, service)
    assert not health.converged
    assert "insufficient resources" in health.message


def test_a_constraint_that_no_node_meets_ends_the_forecast_too() -> None:
    cluster = a_cluster(2)
    result = update(cluster, a_spec("v2", placement=on("node.labels.disk == ssd")))
    assert result.complete
    assert "running" not in actions(result)


def test_the_state_it_was_forked_from_is_not_changed() -> None:
    cluster = a_cluster(3)
    before = b"".join(cluster.store.freeze().chunks())
    ahead(cluster, scale(9))
    ahead(cluster, RemoveService(name="shop_web", principal=SOMEBODY))
    assert b"".join(cluster.store.freeze().chunks()) == before


def test_the_same_question_has_the_same_answer() -> None:
    cluster = a_cluster(3)
    answers = [ahead(cluster, scale(9)) for _ in range(2)]
    assert encode([moment.task for moment in answers[0].moments]) == encode([moment.task for moment in answers[1].moments])


def test_an_update_longer_than_the_horizon_is_cut_off() -> None:
    cluster = a_cluster(4, update=UpdateConfig(monitor_ns=1, delay_ns=Duration(10 * HOUR)))
    result = update(cluster)
    assert not result.complete
    assert actions(result)["running"] == 3


def test_the_runs_of_a_job_are_taken_to_complete_one_after_the_other_and_what_waits_for_it_comes_up() -> None:
    cluster = a_cluster(1)
    after_job = Dependency(service="job", condition=DependencyCondition.COMPLETED)
    jobs = settings(4, mode=ServiceMode.REPLICATED_JOB, max_concurrent=2)
    web = ServiceManifest(name="web", spec=cluster.service().spec, settings=cluster.service().settings)
    job = ServiceManifest(name="job", spec=web.spec, settings=jobs)
    late = ServiceManifest(name="late", spec=web.spec, settings=settings(1, depends_on=(after_job,)))
    stack = StackManifest(name="shop", owner=Owner(file="shop.yaml"), services=(web, job, late))
    result = ahead(cluster, DeployRevision(label="x", source="", stacks=(stack,), principal=SOMEBODY))
    assert result.complete
    assert all(service_health(result.view, service).converged for service in result.view.services.values())
    begun = [moment for moment in result.moments if moment.action == RUNNING]
    assert len(begun) == 5
    assert 10 * SECOND < begun[-1].after < 20 * SECOND


@pytest.mark.parametrize("limit", ["EVENTS_MAX", "LOOKS_MAX"])
def test_a_forecast_gives_up_at_its_limits(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 5)
    assert not update(a_cluster(4)).complete


def test_a_forecast_that_nobody_waits_for_any_more_ends() -> None:
    cluster = a_cluster(3)
    asked: list[None] = []

    def abandoned() -> bool:
        asked.append(None)
        return len(asked) > 2

    result = forecast(cluster.store.fork(), (scale(9),), cluster.now, abandoned=abandoned)
    assert not result.complete
    assert len(asked) == 3
