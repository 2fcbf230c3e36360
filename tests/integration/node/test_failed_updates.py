"""An update that doesn't work is noticed, and what then happens is what the stack file asks for. `apply` tells the truth."""

from __future__ import annotations

from pathlib import Path

from node import RunningNode
from node_stacks import workers


def _deploy(node: RunningNode, update: str) -> Path:
    """Three good workers, applied by hand; the file to change."""
    file = node.home / "work.yaml"
    file.write_text(workers("good", update=update))
    done = node.cli("apply", "-f", file)
    assert done.code == 0, done.err
    return file


def test_an_unknown_image_pauses_the_rollout_in_the_engines_words_and_costs_nothing(docker_node: RunningNode) -> None:
    node = docker_node
    file = _deploy(node, "delay: 1s, monitor: 2s, failure_action: pause")
    before = node.tasks("work_job")

    with node.watching() as seen:
        file.write_text(file.read_text().replace("python:3-alpine", "localhost:1/nobody/has-this:1"))
        done = node.cli("apply", "-f", file)

    assert done.code == 5
    assert "paused" in done.err
    assert "localhost:1" in done.err
    assert min(services["work_job"].running for services in seen) == 3
    running = [task for task in node.tasks("work_job") if task.state == "running"]
    assert [(task.id, task.container_id) for task in running] == [(task.id, task.container_id) for task in before]
    rejected = [task for task in node.history("work_job") if task.state == "rejected"]
    assert rejected
    assert all("localhost:1" in task.error for task in rejected)
    assert not node.status().converged


def test_a_release_that_ends_at_once_pauses_the_rollout_and_the_next_good_one_goes_on(node: RunningNode) -> None:
    file = _deploy(node, "delay: 1s, monitor: 2s, failure_action: pause")
    before = node.tasks("work_job")

    file.write_text(workers("bad", update="delay: 1s, monitor: 2s, failure_action: pause"))
    done = node.cli("apply", "-f", file)

    assert done.code == 5
    assert "non-zero exit (3)" in done.err
    after = {task.id for task in node.tasks("work_job")}
    assert len(after & {task.id for task in before}) == 2
    (service,) = node.services().values()
    assert service.rollout is not None
    assert (service.rollout.state, service.health) == ("paused", "failed")

    file.write_text(workers("better", update="monitor: 100ms, failure_action: pause"))
    done = node.cli("apply", "-f", file)
    assert done.code == 0, done.err
    assert all(task.state == "running" for task in node.tasks("work_job"))


def test_a_release_that_ends_at_once_is_rolled_back(node: RunningNode) -> None:
    update = "delay: 1s, monitor: 2s, failure_action: rollback"
    file = _deploy(node, update)
    spec = node.services()["work_job"].spec_digest
    before = node.tasks("work_job")

    file.write_text(workers("bad", update=update))
    done = node.cli("apply", "-f", file)

    assert done.code == 6
    assert "non-zero exit (3)" in done.err
    service = node.services()["work_job"]
    assert (service.spec_digest, service.converged, service.running) == (spec, True, 3)
    assert len({task.id for task in node.tasks("work_job")} & {task.id for task in before}) == 2


def test_a_failing_release_is_rolled_out_all_the_same_where_the_file_says_continue(node: RunningNode) -> None:
    update = "monitor: 1s, failure_action: continue"
    file = _deploy(node, update)

    file.write_text(workers("bad", update=update))
    assert node.cli("apply", "-f", file, "--detach").code == 0

    services = node.until(
        lambda services: (rollout := services["work_job"].rollout) is not None and rollout.state == "completed",
        "the rollout has come to its end",
    )
    rollout = services["work_job"].rollout
    assert rollout is not None
    assert rollout.failed >= 3
    assert "failed on the way" in rollout.message
    assert not node.services()["work_job"].converged
    assert node.cli("apply", "-f", file, "--timeout", "500ms").code == 4
