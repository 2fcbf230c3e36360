"""The Docker engine goes away in the middle: nothing is lost, and everything goes on once it is back."""

from __future__ import annotations

from node import RunningNode
from node_stacks import workers


def test_an_engine_that_is_stopped_and_started_again_loses_nothing(docker_node: RunningNode) -> None:
    node = docker_node
    engine = node.engine
    assert engine is not None
    node.write("work.yaml", workers())
    node.converged("work_job")
    before = {task.id for task in node.tasks("work_job")}

    engine.stop()
    try:
        status = node.cli("status")
        assert status.code == 0
        assert "work" in status.out
        node.write("work.yaml", workers(replicas=4))
        node.until(lambda services: services["work_job"].replicas == 4, "changes are taken in without an engine")
        assert len(node.tasks("work_job")) == 4
        assert {task.id for task in node.history("work_job")} >= before
        assert not node.services()["work_job"].converged
    finally:
        engine.start()

    node.until(lambda services: services["work_job"].converged and services["work_job"].running == 4, "all run again")
    ended = [task for task in node.history("work_job") if task.id in before]
    assert {task.exit_code for task in ended} == {0}, "the engine stops its containers with SIGTERM"
    assert {task.state for task in ended} == {"complete"}


def test_a_daemon_started_while_the_engine_is_away_waits_for_it(docker_node: RunningNode) -> None:
    node = docker_node
    engine = node.engine
    assert engine is not None
    node.write("work.yaml", workers(replicas=1))
    node.converged("work_job")
    (before,) = node.tasks("work_job")
    node.kill()

    engine.kill()
    try:
        node.start()
        assert node.cli("status").code == 0
        assert [task.id for task in node.tasks("work_job")] == [before.id]
        assert not any(task.state == "failed" for task in node.history("work_job"))
    finally:
        engine.start()

    def known() -> bool:
        return next(task.exit_code for task in node.history("work_job") if task.id == before.id) is not None

    node.eventually(known, "the end of the old task is known")
    node.until(lambda services: services["work_job"].converged, "it is replaced")
    assert len(node.history("work_job")) == 2
