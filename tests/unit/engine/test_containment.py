"""A fault of one service, or of one stage, stops nothing else: planted in each stage, and through a change of leader."""

from __future__ import annotations

from typing import Any

import pytest
from stackd.engine import assign, evict, reap, restart, revisions, step, update
from stackd.engine.allocate import allocate
from stackd.engine.inputs import FullPass, ReportTasks, ScaleService
from stackd.engine.model import Service
from stackd.engine.orchestrate import dependencies, global_service, jobs, replicated
from stackd.engine.status import Rollout
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Dependency, Port, PublishMode, ServiceMode, ServiceSettings

from engine_builders import ENDING, SOMEBODY, ToyCluster, a_spec, settings

BAD_SERVICE = "shop_bad"

MODES = {
    "replicated": settings(2),
    "global": settings(mode=ServiceMode.GLOBAL),
    "replicated job": settings(2, mode=ServiceMode.REPLICATED_JOB),
    "global job": settings(mode=ServiceMode.GLOBAL_JOB),
    "dependent": settings(1, depends_on=(Dependency(service="web"),)),
}

STAGES = [
    ("replicated", step, "account_failures"),
    ("replicated", evict, "evict"),
    ("replicated", replicated, "reconcile"),
    ("global", global_service, "reconcile"),
    ("replicated job", jobs, "reconcile_replicated"),
    ("global job", jobs, "reconcile_global"),
    ("dependent", step, "is_held_back"),
    ("dependent", dependencies, "_obstacle"),
    ("replicated", restart, "restart_ended"),
    ("replicated", restart, "release_due"),
    ("replicated", update, "advance"),
    ("replicated", update, "describe"),
    ("replicated", reap, "reap"),
    ("replicated", assign, "_assign_group"),
    ("replicated", allocate, "_serve"),
]


def planted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Whatever `name` is called for, it fails for `shop_bad`: a service, or one by its id, among its arguments."""
    original = getattr(module, name)

    def failing(*arguments: Any, **others: Any) -> Any:
        view = arguments[0]
        for one in arguments[1:]:
            service = one if isinstance(one, Service) else view.services.get(one) if isinstance(one, str) else None
            if service is not None and service.name == BAD_SERVICE:
                raise RuntimeError("planted")
        return original(*arguments, **others)

    monkeypatch.setattr(module, name, failing)


def deploy(cluster: ToyCluster, bad: ServiceSettings) -> None:
    image = ENDING if bad.mode in (ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB) else "v1"
    port = Port(target=80, published=8080, mode=PublishMode.HOST)
    cluster.deploy(("bad", a_spec(image, ports=(port,)), bad), ("web", a_spec("v1"), settings(2)))


@pytest.mark.parametrize(("mode", "module", "name"), STAGES, ids=[f"{row[1].__name__}.{row[2]}" for row in STAGES])
def test_a_service_that_makes_any_stage_fail_is_frozen_and_all_others_go_on(
    mode: str, module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ToyCluster(nodes=2, checked=False)
    planted(monkeypatch, module, name)
    deploy(cluster, MODES[mode])
    cluster.until(lambda: cluster.health("shop_web").converged)
    assert cluster.service(BAD_SERVICE).frozen == "RuntimeError: planted"
    assert cluster.health(BAD_SERVICE).health == "failed"
    for _ in range(3):
        cluster.new_leader()
    cluster.submit(ScaleService(name="shop_web", replicas=3, principal=SOMEBODY))
    cluster.until(lambda: cluster.health("shop_web").converged)
    assert cluster.kinds().count("service.frozen") == 1
    monkeypatch.undo()
    cluster.new_leader()
    cluster.settle()


@pytest.mark.parametrize(
    ("module", "name", "stage"),
    [
        (step, "allocate", "allocate"),
        (step, "assign", "assign"),
        (step, "follow_revisions", "revisions"),
        (revisions, "_outcome", "revisions"),
    ],
)
def test_a_stage_that_fails_as_a_whole_is_done_without_and_told_once(
    module: Any, name: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ToyCluster(checked=False)

    def failing(*arguments: Any, **others: Any) -> Any:
        raise RuntimeError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(module, name, failing)
        deploy(cluster, settings(1))
        cluster.rounds(5)
    told = [event for event in cluster.view.events_after(0) if event.kind == "engine.fault"]
    assert [(event.subject, event.message) for event in told] == [(stage, "RuntimeError: planted")]
    cluster.new_leader()
    cluster.settle()


def test_no_report_however_broken_stops_the_others() -> None:
    cluster = ToyCluster(nodes=2, checked=False)
    cluster.run(a_spec(), settings(2))
    cluster.settle()
    good, other = cluster.running()
    nonsense: Any = ReportTasks(node_id=good.node_id, statuses=(None,))  # type: ignore[arg-type]
    status = cluster.view.status_of(other.id)
    failed = type(status)(id=other.id, state=TaskState.FAILED, at=cluster.now, error="gone")
    cluster.submit(nonsense, ReportTasks(node_id=other.node_id, statuses=(failed,)))
    assert cluster.state(other) is TaskState.FAILED
    cluster.settle()


def test_records_that_contradict_each_other_freeze_one_service_at_most() -> None:
    cluster = ToyCluster(checked=False)
    deploy(cluster, settings(1))
    cluster.settle()
    odd = Rollout(
        service_id=cluster.service(BAD_SERVICE).id,
        generation=-1,
        state="nothing",  # type: ignore[arg-type]
        target=cluster.service(BAD_SERVICE).spec,
        started_at=cluster.now,
        total=-5,
    )
    cluster.store._tables.put(odd)
    cluster.submit(FullPass())
    cluster.new_leader()
    cluster.submit(ScaleService(name="shop_web", replicas=3, principal=SOMEBODY))
    cluster.until(lambda: len(cluster.running("shop_web")) == 3)
