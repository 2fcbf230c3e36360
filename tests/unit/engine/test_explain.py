"""The sentences that say why."""

from __future__ import annotations

import pytest
from stackd.base.time import SECOND, Duration
from stackd.engine.explain import explain_task, service_health
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import RestartPolicy

from engine_builders import BAD, FLAPPING, ToyCluster, a_spec, once, settings


def test_a_service_on_its_way_is_progressing_then_healthy() -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(2))
    health, converged, message = cluster.health()
    assert (health, converged) == ("progressing", False)
    assert message
    cluster.settle()
    assert cluster.health() == ("healthy", True, "")


def test_a_service_that_crashes_again_and_again_is_degraded_in_the_words_of_its_task() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(FLAPPING, restart=RestartPolicy(delay_ns=Duration(60 * SECOND))))
    cluster.rounds(8)
    assert cluster.health() == ("degraded", False, "shop_web.1 failed: task: non-zero exit (1)")
    waiting = cluster.live()[0]
    assert explain_task(cluster.view, waiting) == "prepared, waits for the restart delay"


def test_a_task_that_will_not_be_restarted_fails_its_service() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(BAD, restart=once()))
    cluster.rounds(5)
    assert cluster.health() == ("failed", False, "shop_web.1 rejected and is not restarted: no such image")


def test_a_service_without_a_node_says_so() -> None:
    cluster = ToyCluster(nodes=0)
    cluster.run()
    assert cluster.health() == (
        "degraded",
        False,
        "shop_web.1: no suitable node (there is none to choose from)",
    )


def test_an_old_task_that_still_stops_keeps_a_service_from_being_converged() -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(2))
    cluster.settle()
    cluster.run(wanted=settings(1))
    assert not cluster.health().converged
    cluster.settle()


@pytest.mark.parametrize(("replicas", "left"), [(1, "1 task is"), (2, "2 tasks are")])
def test_a_removed_service_counts_what_is_left(replicas: int, left: str) -> None:
    cluster = ToyCluster()
    cluster.deploy(("web", a_spec(), settings(replicas)), ("db", a_spec(), settings(1)))
    cluster.settle()
    service = cluster.service()
    cluster.deploy(("db", a_spec(), settings(1)))
    removing = cluster.view.services.get(service.id)
    assert removing is not None
    assert service_health(cluster.view, removing) == ("progressing", False, f"being removed, {left} left")


def test_every_state_of_a_task_has_a_sentence() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec("v1"), settings(2))
    seen = set()
    for _ in range(6):
        seen |= {explain_task(cluster.view, task) for task in cluster.tasks()}
        cluster.round()
    cluster.run(a_spec("v2"), settings(2))
    for _ in range(12):
        seen |= {explain_task(cluster.view, task) for task in cluster.tasks()}
        cluster.round()
    assert "running" in seen
    assert "prepared, waits for its turn in the update" in seen
    assert any(text.startswith("prepared, waits for task ") for text in seen)
    assert "shutdown: shutdown" in seen
    assert "" not in seen


def test_a_task_on_a_node_that_does_not_answer_says_so() -> None:
    cluster = ToyCluster()
    cluster.run()
    cluster.settle()
    (task,) = cluster.running()
    cluster.crash(1)
    (old,) = [one for one in cluster.tasks() if one.id == task.id]
    assert old.desired is TaskState.SHUTDOWN
    assert explain_task(cluster.view, old) == "told to stop, but its node does not answer"


def test_what_has_failed_for_good_is_told_before_what_is_still_tried() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(restart=RestartPolicy(delay_ns=0, max_attempts=1)), settings(2))
    for _ in range(2):
        cluster.until(lambda: any(task.slot == 2 for task in cluster.running()))
        cluster.report(next(task for task in cluster.running() if task.slot == 2), TaskState.FAILED, error="gone")
    cluster.drain(1)
    cluster.rounds(3)
    waiting = [task for task in cluster.live() if cluster.view.status_of(task.id).reason]
    assert [task.slot for task in waiting] == [1]
    assert cluster.health() == ("failed", False, "shop_web.2 failed and is not restarted: gone")
