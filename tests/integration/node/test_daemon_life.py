"""Tasks outlive the daemon. Whoever comes after it takes them up as they are, and knows what happened meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from stackd.api.views import TaskView

from node import RunningNode, alive, free_port, http
from node_stacks import web, workers


def _identities(tasks: Sequence[TaskView]) -> list[tuple[str, str, int]]:
    return [(task.id, task.container_id, task.pid) for task in tasks]


def test_after_kill_9_the_same_tasks_go_on_and_nothing_is_restarted(node: RunningNode) -> None:
    port = free_port()
    node.write("work.yaml", workers())
    node.write("hello.yaml", web(port, "still here"))
    node.converged("work_job", "hello_web")
    before = node.tasks("work_job") + node.tasks("hello_web")

    node.kill()
    assert all(alive(task.pid) for task in before)
    node.eventually(lambda: http(port) == "still here", "the task answers without a daemon")
    node.start()

    node.converged("work_job", "hello_web")
    assert _identities(node.history("work_job") + node.history("hello_web")) == _identities(before)
    assert all(alive(task.pid) for task in before)
    node.eventually(lambda: http(port) == "still here", "the task answers")


def test_an_end_while_the_daemon_was_away_is_known_with_its_exit_code_and_the_task_is_replaced(node: RunningNode) -> None:
    node.write("work.yaml", workers())
    node.converged("work_job")
    first, second, third = node.tasks("work_job")

    node.kill()
    os.kill(first.pid, signal.SIGUSR1)
    os.kill(second.pid, signal.SIGKILL)
    node.eventually(lambda: not alive(first.pid) and not alive(second.pid), "the tasks have ended")
    node.start()

    def how_they_ended() -> list[tuple[str, int | None]]:
        history = {task.id: task for task in node.history("work_job")}
        return [(history[task.id].state, history[task.id].exit_code) for task in (first, second)]

    node.eventually(lambda: how_they_ended() == [("failed", 7), ("failed", 137)], "their ends are known")
    node.converged("work_job")
    assert len(node.history("work_job")) == 5
    assert _identities(node.tasks("work_job"))[2] == _identities([third])[0]


def test_a_rolling_update_goes_on_after_kill_9_in_its_middle(node: RunningNode) -> None:
    slowly = "delay: 500ms, monitor: 100ms"
    node.write("work.yaml", workers("1", replicas=4, update=slowly))
    old = node.converged("work_job")["work_job"].spec_digest

    node.write("work.yaml", workers("2", replicas=4, update=slowly))
    node.until(
        lambda services: services["work_job"].spec_digest != old and 0 < services["work_job"].updated < 4, "half of it is done"
    )
    done = {task.id for task in node.tasks("work_job")}
    node.kill()
    node.start()

    service = node.until(
        lambda services: services["work_job"].converged and services["work_job"].updated == 4, "the update is complete"
    )["work_job"]
    assert service.rollout is not None
    assert service.rollout.state == "completed"
    assert {task.id for task in node.tasks("work_job")} & done, "what had been done was done again"
    assert len(node.history("work_job")) == 8


def test_ctrl_c_leaves_tasks_running_and_a_change_made_meanwhile_is_found(node: RunningNode) -> None:
    file = node.write("work.yaml", workers("1"))
    node.converged("work_job")
    before = node.tasks("work_job")

    assert node.stop() == 0
    assert all(alive(task.pid) for task in before)
    assert node.cli("status").code == 1
    file.write_text(workers("1") + "  other:\n    image: python:3-alpine\n    command: sleep 3600\n    stop_signal: SIGKILL\n")
    node.start()

    node.converged("work_job", "work_other")
    assert _identities(node.tasks("work_job")) == _identities(before)


def test_down_removes_everything_with_a_daemon_and_without_one(node: RunningNode) -> None:
    node.write("work.yaml", workers())
    node.converged("work_job")
    before = node.tasks("work_job")
    done = node.down()
    assert (done.code, node.ended()) == (0, 0), done.err
    assert not any(alive(task.pid) for task in before)
    assert node.leftovers() == []

    node.start().converged("work_job")
    again = node.tasks("work_job")
    node.kill()
    done = node.down()
    assert done.code == 0, done.err
    assert not any(alive(task.pid) for task in again)
    assert node.leftovers() == []


def test_a_normal_users_tasks_outlive_the_daemon_as_well(plain_node: RunningNode) -> None:
    plain_node.write("work.yaml", workers())
    plain_node.converged("work_job")
    before = plain_node.tasks("work_job")
    plain_node.kill()
    os.kill(before[0].pid, signal.SIGUSR1)
    plain_node.start()
    plain_node.eventually(lambda: plain_node.tasks("work_job")[0].id != before[0].id, "the ended task is replaced")
    plain_node.converged("work_job")
    assert _identities(plain_node.tasks("work_job"))[1:] == _identities(before)[1:]
    assert {task.id: task.exit_code for task in plain_node.history("work_job")}[before[0].id] == 7
