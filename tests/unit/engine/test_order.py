"""`depends_on`: the order in which the services of a stack come up."""

from __future__ import annotations

import msgspec
import pytest
from stackd.base.time import SECOND, Duration
from stackd.engine.inputs import ForceUpdate, FullPass, Rejected, RemoveService, ReportTasks, ScaleService, SetAvailability
from stackd.engine.parts import Availability
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import (
    ContainerSpec,
    Dependency,
    DependencyCondition,
    Healthcheck,
    RestartPolicy,
    ServiceMode,
    ServiceSettings,
    TaskSpec,
    UpdateConfig,
)

from engine_builders import BAD, ENDING, SOMEBODY, ToyCluster, a_spec, settings

STARTED, HEALTHY, COMPLETED = DependencyCondition

MONITORED = UpdateConfig(monitor_ns=Duration(5 * SECOND))


def needing(*names: str, condition: DependencyCondition = STARTED, replicas: int = 1, required: bool = True) -> ServiceSettings:
    needs = tuple(Dependency(service=name, condition=condition, required=required) for name in names)
    return settings(replicas, depends_on=needs)


def deploy(cluster: ToyCluster, db: TaskSpec, wanted: ServiceSettings, dependent: ServiceSettings) -> None:
    cluster.deploy(("db", db, wanted), ("web", a_spec(), dependent))


def test_a_service_has_no_tasks_before_what_it_depends_on_runs_and_says_so() -> None:
    cluster = ToyCluster()
    deploy(cluster, a_spec(), settings(2), needing("db", replicas=3))
    assert cluster.tasks("shop_web") == []
    assert cluster.health("shop_web") == ("progressing", False, "waits until shop_db runs (0 of 1)")
    cluster.until(lambda: bool(cluster.running("shop_db")))
    assert len(cluster.live("shop_web")) == 3
    cluster.settle()


def test_the_dependent_is_created_in_the_entry_that_reports_what_it_waits_for() -> None:
    cluster = ToyCluster()
    deploy(cluster, a_spec(), settings(1), needing("db"))
    cluster.rounds(2)
    (db,) = cluster.tasks("shop_db")
    before = cluster.entries
    cluster.report(db, TaskState.RUNNING)
    assert cluster.entries == before + 1
    assert len(cluster.live("shop_web")) == 1


def test_healthy_means_that_all_run_and_have_stood_the_monitor_window() -> None:
    cluster = ToyCluster()
    deploy(cluster, a_spec(), settings(2, update=MONITORED), needing("db", condition=HEALTHY))
    cluster.until(lambda: len(cluster.running("shop_db")) == 2)
    since = cluster.now
    assert cluster.tasks("shop_web") == []
    assert cluster.health("shop_web").message == "waits until shop_db is healthy (0 of 2)"
    cluster.until(lambda: bool(cluster.tasks("shop_web")))
    assert cluster.now - since >= 5 * SECOND


def test_a_revision_has_not_converged_while_a_service_of_it_waits() -> None:
    """Also when all of the others have, and it has no task yet that would be on its way."""
    cluster = ToyCluster()
    deploy(cluster, a_spec(), settings(2, update=MONITORED), needing("db", condition=HEALTHY))
    cluster.until(lambda: cluster.health("shop_db").converged)
    cluster.rounds(5)
    assert cluster.tasks("shop_web") == []
    assert "revision.converged" not in cluster.kinds()
    cluster.until(lambda: "revision.converged" in cluster.kinds())
    assert len(cluster.running("shop_web")) == 1


def test_with_a_health_check_a_task_that_runs_is_healthy() -> None:
    cluster = ToyCluster()
    checked = TaskSpec(
        container=ContainerSpec(image="v1", healthcheck=Healthcheck(test=("CMD", "true"))), restart=RestartPolicy(delay_ns=0)
    )
    deploy(cluster, checked, settings(1, update=MONITORED), needing("db", condition=HEALTHY))
    cluster.until(lambda: bool(cluster.running("shop_db")))
    assert len(cluster.live("shop_web")) == 1


@pytest.mark.parametrize("mode", [ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB])
def test_a_service_may_wait_for_a_job_to_complete(mode: ServiceMode) -> None:
    cluster = ToyCluster(nodes=2)
    deploy(cluster, a_spec("v1"), settings(2, mode=mode), needing("db", condition=COMPLETED))
    cluster.until(lambda: len(cluster.running("shop_db")) == 2)
    first, second = cluster.running("shop_db")
    cluster.report(first, TaskState.COMPLETE)
    assert cluster.tasks("shop_web") == []
    cluster.report(second, TaskState.COMPLETE)
    assert len(cluster.live("shop_web")) == 1


def test_a_job_that_fails_leaves_its_dependent_waiting_and_the_revision_failed() -> None:
    cluster = ToyCluster()
    gives_up = a_spec(BAD, restart=RestartPolicy(delay_ns=0, max_attempts=1))
    deploy(cluster, gives_up, settings(1, mode=ServiceMode.REPLICATED_JOB), needing("db", condition=COMPLETED))
    cluster.rounds(20)
    assert cluster.tasks("shop_web") == []
    (revision,) = cluster.view.revisions.values()
    assert revision.state == "failed"


def test_each_iteration_of_a_job_waits_anew() -> None:
    """What has completed of the one before is no beginning of it."""
    cluster = ToyCluster()
    job = msgspec.structs.replace(needing("db"), mode=ServiceMode.REPLICATED_JOB)
    cluster.deploy(("db", a_spec(), settings(1)), ("job", a_spec(ENDING), job))
    cluster.settle()
    cluster.broken.add("v1")
    cluster.report(cluster.running("shop_db")[0], TaskState.FAILED, error="gone")
    cluster.submit(ForceUpdate(name="shop_job", principal=SOMEBODY))
    cluster.rounds(5)
    assert {task.iteration for task in cluster.tasks("shop_job")} == {1}
    cluster.broken.clear()
    cluster.settle()
    assert {task.iteration for task in cluster.tasks("shop_job")} == {1, 2}


def test_a_dependent_that_runs_is_not_touched_by_what_becomes_of_the_other_service() -> None:
    cluster = ToyCluster()
    deploy(cluster, a_spec(), settings(1), needing("db"))
    cluster.settle()
    kept = [task.id for task in cluster.running("shop_web")]
    cluster.submit(ScaleService(name="shop_db", replicas=0, principal=SOMEBODY))
    cluster.settle()
    web = cluster.running("shop_web")[0]
    cluster.report(web, TaskState.FAILED, error="gone")
    cluster.settle()
    assert cluster.running("shop_web")
    assert kept[0] not in {task.id for task in cluster.running("shop_web")}


def test_a_service_that_was_scaled_to_nothing_waits_again_when_it_comes_back() -> None:
    cluster = ToyCluster()
    deploy(cluster, a_spec(), settings(1), needing("db"))
    cluster.settle()
    cluster.submit(ScaleService(name="shop_web", replicas=0, principal=SOMEBODY))
    cluster.settle()
    cluster.broken.add("v1")
    cluster.report(cluster.running("shop_db")[0], TaskState.FAILED, error="gone")
    cluster.submit(ScaleService(name="shop_web", replicas=1, principal=SOMEBODY))
    cluster.rounds(5)
    assert cluster.live("shop_web") == []
    cluster.broken.clear()
    cluster.settle()


def test_a_chain_comes_up_one_after_the_other() -> None:
    cluster = ToyCluster()
    cluster.deploy(
        ("a", a_spec(ENDING), settings(1, mode=ServiceMode.REPLICATED_JOB, depends_on=(Dependency(service="b"),))),
        ("b", a_spec(), settings(1)),
        ("c", a_spec(), needing("a", condition=COMPLETED)),
    )
    seen: list[str] = []
    while not all(cluster.health(row.name).converged for row in cluster.services()):
        seen += [name for name in ("shop_a", "shop_b", "shop_c") if cluster.tasks(name) and name not in seen]
        cluster.round()
    assert seen == ["shop_b", "shop_a", "shop_c"]


def test_waiting_survives_a_change_of_leader() -> None:
    cluster = ToyCluster()
    deploy(cluster, a_spec(), settings(1, update=MONITORED), needing("db", condition=HEALTHY))
    cluster.rounds(8)
    cluster.new_leader()
    cluster.settle()
    assert cluster.running("shop_web")


def test_a_dependency_that_is_not_required_and_not_there_is_no_obstacle() -> None:
    cluster = ToyCluster()
    cluster.deploy(("web", a_spec(), needing("cache", required=False)))
    assert len(cluster.live("shop_web")) == 1


def test_a_dependency_that_the_stack_does_not_have_is_refused() -> None:
    cluster = ToyCluster()
    reply = cluster.deploy(("web", a_spec(), needing("cache")))
    assert isinstance(reply, Rejected)
    assert reply.code == "deploy.depends.missing"


def test_services_that_wait_for_one_another_are_refused_and_the_circle_is_named() -> None:
    cluster = ToyCluster()
    reply = cluster.deploy(
        ("a", a_spec(), needing("b")),
        ("b", a_spec(), needing("c", "d")),
        ("c", a_spec(), needing("a")),
        ("d", a_spec(), settings()),
    )
    assert isinstance(reply, Rejected)
    assert (reply.code, "a -> b -> c -> a" in reply.message) == ("deploy.depends.cycle", True)
    assert not cluster.view.services


def test_looking_at_a_service_that_waits_decides_nothing() -> None:
    cluster = ToyCluster()
    deploy(cluster, a_spec(BAD), settings(1), needing("db"))
    before = cluster.entries
    cluster.submit(FullPass())
    cluster.submit(FullPass())
    assert cluster.entries == before + 1  # the nodes are out of sight, and no more


def test_a_dependency_that_is_not_required_is_waited_for_until_it_is_removed() -> None:
    cluster = ToyCluster()
    deploy(cluster, a_spec(BAD), settings(1), needing("db", required=False))
    cluster.rounds(3)
    assert cluster.tasks("shop_web") == []
    cluster.submit(RemoveService(name="shop_db", principal=SOMEBODY))
    assert len(cluster.live("shop_web")) == 1


def test_a_dependent_may_begin_in_the_decision_that_also_drains_the_node_of_what_it_waited_for() -> None:
    """It ran when the dependent was looked at (`ToyCluster` checks each step)."""
    cluster = ToyCluster()
    deploy(cluster, a_spec(), settings(1), needing("db"))
    (db,) = cluster.tasks("shop_db")
    cluster.report(db, TaskState.STARTING)
    runs = TaskStatus(id=db.id, state=TaskState.RUNNING, at=cluster.now)
    cluster.submit(
        ScaleService(name="shop_web", replicas=2, principal=SOMEBODY),
        ReportTasks(node_id=db.node_id, statuses=(runs,)),
        SetAvailability(id=db.node_id, availability=Availability.DRAIN, principal=SOMEBODY),
    )
    assert len(cluster.live("shop_web")) == 2
    assert cluster.view.tasks.get(db.id) not in cluster.live("shop_db")
