"""A short piece of `make chaos`, and that what watches over it can tell when something is wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from benchmarks.chaos import run
from benchmarks.chaos_recorder import Deployments, Recorder, Violation, check_release, check_starts, release_in

SECONDS = 40.0


@pytest.mark.needs("root", "net", "docker")
@pytest.mark.timeout(300)
def test_a_cluster_keeps_its_promises_through_whatever_happens(tmp_path: Path) -> None:
    figures = asyncio.run(run(3, SECONDS, tmp_path))
    print(json.dumps(figures))
    assert int(str(figures["acknowledged"])) >= 5  # or next to nothing has been looked at
    assert int(str(figures["tasks_started"])) >= 15


def test_a_task_that_was_started_twice_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "task1").write_text("1\n")
    assert check_starts(tmp_path) == 1
    (tmp_path / "task1").write_text("1\n1\n")
    with pytest.raises(Violation, match="2 times"):
        check_starts(tmp_path)


def test_a_release_that_was_acknowledged_and_is_gone_is_noticed() -> None:
    deployments = Deployments(acknowledged=3, open={4, 5})
    for release in (3, 4, 5):
        check_release("red", deployments, before=3, release=release)
    for release in (2, 6):
        with pytest.raises(Violation):
            check_release("red", deployments, before=3, release=release)


def test_what_nobody_knows_of_is_settled_by_the_next_acknowledgement() -> None:
    recorder = Recorder()
    deployments, release = recorder.begin("red")
    deployments.open.add(release)
    assert deployments.possible == {0, 1}
    deployments, release = recorder.begin("red")
    recorder.note_acknowledged(deployments, release)
    assert deployments.possible == {2}


def test_the_release_is_found_in_what_inspect_shows() -> None:
    assert release_in({"spec": {"task": {"container": {"env": {"A": "1", "RELEASE": "7"}}}}}) == 7
    with pytest.raises(Violation, match="without a release"):
        release_in({"spec": {}})
