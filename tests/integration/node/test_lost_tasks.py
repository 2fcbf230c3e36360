"""A task that ends or disappears is replaced, and its end is on record."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from stackd.api.views import TaskView

from node import RunningNode
from node_stacks import workers


def _deployed(node: RunningNode) -> list[TaskView]:
    node.write("work.yaml", workers(replicas=2))
    node.converged("work_job")
    return node.tasks("work_job")


def _replaced(node: RunningNode, lost: TaskView, kept: TaskView) -> TaskView:
    """Wait until another task runs in the place of `lost`; how that has ended."""

    def runs_again() -> bool:
        return [task.state for task in node.tasks("work_job") if task.id != lost.id] == ["running", "running"]

    node.eventually(runs_again, "the lost task is replaced")
    new, other = node.tasks("work_job")
    assert new.slot == lost.slot
    assert (other.id, other.pid, other.container_id) == (kept.id, kept.pid, kept.container_id)
    return next(task for task in node.history("work_job") if task.id == lost.id)


def test_a_killed_task_is_replaced_and_its_exit_code_is_known(node: RunningNode) -> None:
    first, second = _deployed(node)
    os.kill(first.pid, signal.SIGKILL)
    ended = _replaced(node, first, second)
    assert (ended.state, ended.exit_code) == ("failed", 137)
    node.converged("work_job")


def test_a_task_that_fails_by_itself_is_replaced_and_its_exit_code_is_known(node: RunningNode) -> None:
    first, second = _deployed(node)
    os.kill(first.pid, signal.SIGUSR1)
    ended = _replaced(node, first, second)
    assert (ended.state, ended.exit_code, ended.error) == ("failed", 7, "task: non-zero exit (7)")


def test_a_container_removed_by_hand_is_healed(docker_node: RunningNode) -> None:
    first, second = _deployed(docker_node)
    assert docker_node.engine is not None
    docker_node.engine.docker("rm", "--force", first.container_id)
    ended = _replaced(docker_node, first, second)
    assert ended.state == "failed"
    assert ended.error


def test_a_task_whose_monitor_was_killed_is_healed(process_node: RunningNode) -> None:
    first, second = _deployed(process_node)
    monitor = process_node.data / "process" / "tasks" / first.id / "monitor"
    os.kill(int(monitor.read_text().split()[0]), signal.SIGKILL)
    ended = _replaced(process_node, first, second)
    assert (ended.state, ended.exit_code) == ("failed", 137)
    assert "monitor was killed" in ended.error
    assert not Path(f"/proc/{first.pid}").exists()
