"""A short piece of `make chaos`, and that what watches over it can tell when something is wrong."""

from __future__ import annotations

import asyncio
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from benchmarks.chaos import run
from benchmarks.chaos_commands import Ended
from benchmarks.chaos_deployers import STEADY, Release
from benchmarks.chaos_recorder import (
    Asked,
    Recorder,
    Start,
    Violation,
    check_asked,
    check_floor,
    check_log,
    check_release,
    check_starts,
    latest_starts,
)

from spec_builders import load

SECONDS = 40.0


@pytest.mark.needs("root", "net", "docker")
@pytest.mark.timeout(400)
def test_a_cluster_keeps_its_promises_through_whatever_happens(tmp_path: Path) -> None:
    figures = asyncio.run(run(3, SECONDS, tmp_path))
    print(json.dumps(figures))
    assert int(str(figures["deploys-acknowledged"])) >= 5  # or next to nothing has been looked at
    assert int(str(figures["tasks_started"])) >= 15


def shown(release: int, *, converged: bool = False, updated: int = 0) -> dict[str, Any]:
    """What `service inspect -o json` says of a service with this release."""
    return {
        "service": {"converged": converged, "updated": updated},
        "spec": {"container": {"env": ["A=1", f"RELEASE={release}"]}},
    }


def recorder_of(asked: Asked[int]) -> Recorder:
    return Recorder(releases={"red": asked})


def test_a_task_that_was_started_twice_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "task1").write_text("1 1 node1\n")
    assert check_starts(tmp_path) == 1
    (tmp_path / "red" / "task1").write_text("1 1 node1\n1 1 node1\n")
    with pytest.raises(Violation, match="2 times"):
        check_starts(tmp_path)


def test_a_bug_in_a_daemons_log_is_noticed(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    log.write_text("level=WARNING no connection\n")
    check_log(log)
    log.write_text("level=ERROR session broke\nTraceback (most recent call last):\nKeyError: 1\n")
    with pytest.raises(Violation, match="KeyError"):
        check_log(log)


def test_a_release_that_was_acknowledged_and_is_gone_is_noticed() -> None:
    recorder = recorder_of(Asked(3, open={4, 5}))
    for release in (3, 4, 5):
        check_release(recorder, "red", shown(release))
    for release in (2, 6):
        with pytest.raises(Violation, match="acknowledged"):
            check_release(recorder, "red", shown(release))


def test_what_nobody_knows_of_is_settled_by_the_next_acknowledgement() -> None:
    recorder = Recorder()
    recorder.next_release("red", goes_back=False)
    asked, release = recorder.next_release("red", goes_back=False)
    assert (release, asked.possible) == (2, {0, 1, 2})
    asked.note_acknowledged(release)
    assert asked.possible == {2}


def test_an_update_that_may_be_rolled_back_may_show_what_was_before_until_it_is_completed() -> None:
    asked = Asked(1, goes_back=True)
    asked.note_acknowledged(2)
    asked.note_acknowledged(3)
    recorder = recorder_of(asked)
    check_release(recorder, "red", shown(1))
    check_release(recorder, "red", shown(2, converged=True))  # it has gone back
    check_release(recorder, "red", shown(3, converged=True))
    with pytest.raises(Violation, match="acknowledged"):
        check_release(recorder, "red", shown(2))


def test_a_release_that_can_not_run_and_is_said_to_is_noticed() -> None:
    recorder = recorder_of(Asked(1))
    recorder.failing.add(("red", 1))
    check_release(recorder, "red", shown(1))
    for lie in (shown(1, converged=True), shown(1, updated=1)):
        with pytest.raises(Violation, match="can't run"):
            check_release(recorder, "red", lie)


def test_what_nobody_has_asked_of_a_node_is_noticed() -> None:
    check_asked("the role of node1", Asked("manager", open={"worker"}), "worker")
    with pytest.raises(Violation, match="the role of node1 is worker"):
        check_asked("the role of node1", Asked("manager"), "worker")


def test_too_few_tasks_are_noticed_unless_they_had_to_leave_their_node() -> None:
    started = {slot: Start(1, slot, "node1", at=10.0) for slot in ("1", "2", "3", "4")}
    check_floor(3, {"1", "2", "3"}, started, leaving={})
    with pytest.raises(Violation, match="2 slots run"):
        check_floor(3, {"1", "2"}, started, leaving={"node2": math.inf, "node1": 9.0})
    check_floor(3, {"1", "2"}, started, leaving={"node1": math.inf})
    check_floor(3, {"1", "2"}, started, leaving={"node1": 11.0})  # told to stop then, stopped when its node hears of it


def test_the_latest_start_of_a_slot_counts(tmp_path: Path) -> None:
    for number, (task, node) in enumerate((("task1", "node1"), ("task2", "node2"))):
        (tmp_path / task).write_text(f"7 1 {node}\n")
        os.utime(tmp_path / task, (number, number))
    (tmp_path / "task3").write_text("")  # about to be written
    assert latest_starts(tmp_path) == {"1": Start(7, "1", "node2", at=1.0)}


def test_releases_are_stack_files() -> None:
    for release in (STEADY, Release(on_failure="rollback"), Release(shell="no-such-shell", on_failure="pause")):
        text = release.text("red", 5, Path("/records"))
        assert 'RELEASE: "5"' in text
        load(text)


def test_an_outcome_is_known_refused_or_unknown() -> None:
    assert Ended(0, "", "").is_acknowledged
    assert Ended(3, "", "error[node.demote.quorum]: ...").is_refused
    assert not Ended(3, "", "error[daemon.not_a_manager]: ...").is_refused  # another node might do it
    assert Ended(None, "", "").is_unknown
    assert [Ended(code, "", "").word for code in (0, 3, None, 1)] == ["acknowledged", "refused", "unknown", "failed"]
