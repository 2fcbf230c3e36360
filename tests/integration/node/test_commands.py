"""The commands against a real node: what they predict comes true, and their exit codes tell it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from node import Ended, RunningNode
from node_stacks import workers

TASK_KEYS = """
id name service slot node image desired_state state message error exit_code spec_version container_id pid updated_at
"""


def _file(node: RunningNode, text: str) -> Path:
    file = node.home / "work.yaml"
    file.write_text(text)
    return file


def _forecast(node: RunningNode, file: Path) -> dict[str, int]:
    done = node.cli("plan", "-f", file, "-o", "json", "--exit-code")
    assert done.code == 2, done.err
    (service,) = done.json()["services"]
    return {key: service[key] for key in ("created", "replaced", "removed")}


def _apply(node: RunningNode, file: Path) -> dict[str, int]:
    """Apply the file; what it really did with tasks, counted as plan does."""
    before = {task.id for task in node.tasks("work_job")} if node.services() else set()
    done = node.cli("apply", "-f", file)
    assert done.code == 0, done.err
    after = {task.id for task in node.tasks("work_job")}
    created, removed = len(after - before), len(before - after)
    return {"created": created, "replaced": min(created, removed), "removed": removed}


def test_plan_predicts_what_apply_does(node: RunningNode) -> None:
    for text in (
        workers("1"),
        workers("2"),
        workers("2", replicas=2),
        workers("3", replicas=4, update="parallelism: 0, order: start-first, monitor: 100ms"),
    ):
        file = _file(node, text)
        forecast = _forecast(node, file)
        assert _apply(node, file) == forecast
        assert node.cli("plan", "-f", file, "--exit-code").code == 0
    assert node.cli("apply", "-f", file).out.startswith("Converged")


def test_apply_waits_as_long_as_it_is_told_to(node: RunningNode) -> None:
    file = _file(node, workers("1", update="delay: 700ms, monitor: 100ms"))
    done = node.cli("apply", "-f", file, "--detach", "-o", "json")
    assert (done.code, done.json()["converged"]) == (0, False)
    node.converged("work_job")

    file = _file(node, workers("2", update="delay: 700ms, monitor: 100ms"))
    done = node.cli("apply", "-f", file, "--timeout", "300ms")
    assert done.code == 4
    assert "goes on" in done.err
    node.until(lambda services: services["work_job"].updated == 3 and services["work_job"].converged, "it does go on")
    assert node.cli("apply", "-f", file).code == 0


def test_a_service_is_changed_by_hand(node: RunningNode) -> None:
    assert node.cli("apply", "-f", _file(node, workers("1"))).code == 0
    first = {task.id for task in node.tasks("work_job")}

    _ok(node.cli("service", "scale", "work_job=4"))
    assert len(node.tasks("work_job")) == 4
    _ok(node.cli("service", "scale", "work_job=2"))
    assert len(node.tasks("work_job")) == 2

    _ok(node.cli("service", "update", "work_job", "--force"))
    forced = {task.id for task in node.tasks("work_job")}
    assert not forced & first

    _ok(node.cli("service", "update", "work_job", "--env-add", "RELEASE=2"))
    assert node.cli("service", "inspect", "work_job", "-o", "json").json()["spec"]["container"]["env"] == ["RELEASE=2"]
    _ok(node.cli("service", "rollback", "work_job"))
    assert node.cli("service", "inspect", "work_job", "-o", "json").json()["spec"]["container"]["env"] == ["RELEASE=1"]

    _ok(node.cli("service", "rm", "work_job"))
    node.until(lambda services: not services, "the service is gone")
    assert node.cli("service", "ps", "work_job").code == 1
    _ok(node.cli("stack", "rm", "work"))
    assert node.status().stacks == ()


def test_lists_are_there_for_people_and_for_programs(node: RunningNode) -> None:
    assert node.cli("apply", "-f", _file(node, workers("1"))).code == 0
    done = node.cli("service", "ps", "work_job", "-o", "json")
    document = done.json()
    assert (document["apiVersion"], document["kind"]) == ("stackd/v1", "TaskList")
    for task in document["items"]:
        assert set(TASK_KEYS.split()) <= set(task)
        assert task["state"] == "running"
        assert task["pid"] > 0
        assert bool(task["container_id"]) == (node.executor == "docker")
    (stack,) = node.cli("status", "-o", "json").json()["stacks"]
    assert (stack["name"], stack["converged"], stack["health"]) == ("work", True, "healthy")
    assert "work_job" in node.cli("service", "ls").out
    assert "3/3" in node.cli("service", "ls").out
    (item,) = node.cli("node", "ls", "-o", "json").json()["items"]
    assert (item["state"], item["executors"], item["tasks"]) == ("ready", [node.executor], 3)
    assert [item["name"] for item in node.cli("stack", "ls", "-o", "json").json()["items"]] == ["work"]


def test_logs_and_events_are_followed(node: RunningNode) -> None:
    assert node.cli("apply", "-f", _file(node, workers("1", replicas=2))).code == 0
    with (
        node.cli_in_background("service", "logs", "work_job", "--follow", "-o", "json") as logs,
        node.cli_in_background("events", "--follow", "-o", "json") as events,
    ):
        assert logs.stdout is not None
        assert events.stdout is not None
        first = _lines_until(logs.stdout, lambda seen: len(seen) == 2)
        assert {line["line"] for line in first} == {"release 1"}
        assert {line["task"] for line in first} == {"work_job.1", "work_job.2"}
        _lines_until(events.stdout, lambda seen: seen[-1]["kind"] == "revision.converged")
        assert node.cli("apply", "-f", _file(node, workers("2", replicas=2))).code == 0
        news = _lines_until(events.stdout, lambda seen: seen[-1]["kind"] == "revision.converged")
        assert {"service.changed", "rollout.updating", "rollout.completed"} <= {event["kind"] for event in news}
    done = node.cli("service", "logs", "work_job", "--tail", "1")
    assert "release 2" in done.out


def test_a_change_by_hand_to_what_a_source_owns_names_the_file_or_is_shown_as_drift(node: RunningNode) -> None:
    node.write("work.yaml", workers("1"))
    node.converged("work_job")

    done = node.cli("service", "scale", "work_job=5")
    assert done.code == 3
    assert "work.yaml" in done.err
    assert node.cli("stack", "rm", "work").code == 3
    assert node.cli("apply", "-f", _file(node, workers("2"))).code == 3

    _ok(node.cli("service", "scale", "work_job=5", "--override"))
    assert node.status().sync == "out-of-sync"
    _ok(node.cli("sync"))
    node.until(lambda services: services["work_job"].replicas == 3 and services["work_job"].converged, "the sync takes it back")
    assert node.status().sync == "synced"


def _ok(done: Ended) -> None:
    assert done.code == 0, done.err


def _lines_until(stream: Iterable[str], enough: Callable[[list[Any]], bool]) -> list[Any]:
    """Read JSON lines until there are enough."""
    seen: list[Any] = []
    for line in stream:
        seen.append(json.loads(line))
        if enough(seen):
            return seen
    raise AssertionError(f"the stream has ended: {seen}")
