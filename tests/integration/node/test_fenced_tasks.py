"""A task that must never run twice, its daemon's restarts, and the machine's clock."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from stackd.api.views import TaskView
from stackd.base.time import HOUR, MINUTE, SECOND

from node import RunningNode, alive, running_node

FENCED = """\
name: db
services:
  one:
    image: python:3-alpine
    command: [sleep, "1000000"]
    x-stackd: {fence: true}
    deploy: {restart_policy: {delay: 100ms}}
"""

WRONG_CLOCK = Path(__file__).parents[3] / "benchmarks" / "wrong_clock"


class Clock:
    """The daemon's time of day, which a test sets."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)

    def set(self, off_ns: int) -> None:
        if not self._path.exists():
            self._path.write_bytes(bytes(8))
        with self._path.open("r+b") as file:  # in place: the daemon has it mapped
            file.write(struct.pack("<q", off_ns))

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, (str(WRONG_CLOCK), os.environ.get("PYTHONPATH"))))
        return {"PYTHONPATH": path, "WRONG_CLOCK": str(self._path)}


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(tmp_path / "clock")
    for name, value in clock.environment().items():
        monkeypatch.setenv(name, value)
    return clock


@pytest.fixture(params=[pytest.param("process", marks=pytest.mark.needs("root", "net"))])
def fenced_node(clock: Clock) -> Iterator[RunningNode]:
    """A node with a clock that can be set, and one task that is to be fenced."""
    with running_node("process") as node:
        node.write("db.yaml", FENCED)
        node.converged("db_one")
        yield node


def test_a_fenced_task_goes_on_through_a_quick_restart_and_ends_when_the_daemon_was_away_for_too_long(
    fenced_node: RunningNode,
) -> None:
    (before,) = fenced_node.tasks("db_one")
    fenced_node.kill()
    fenced_node.start()
    fenced_node.converged("db_one")
    assert [(task.id, task.pid) for task in fenced_node.history("db_one")] == [(before.id, before.pid)]

    fenced_node.kill()
    assert alive(before.pid)
    age_lease(fenced_node.data / "agent" / "lease", MINUTE)
    fenced_node.start()
    fenced_node.eventually(lambda: not alive(before.pid), "the task has ended")
    fenced_node.eventually(lambda: len(fenced_node.history("db_one")) == 2, "another one runs")
    ended = fenced_node.history("db_one")[-1]
    assert (ended.id, ended.state) == (before.id, "failed")
    assert "fenced" in ended.error


def test_a_clock_that_is_set_ahead_while_the_daemon_runs_takes_no_record_with_it(
    fenced_node: RunningNode, clock: Clock
) -> None:
    (before,) = fenced_node.tasks("db_one")
    clock.set(HOUR)
    fenced_node.write("db.yaml", FENCED.replace("deploy: {", "deploy: {replicas: 2, "))
    fenced_node.until(lambda services: services["db_one"].running == 2, "it was scaled")
    after = fenced_node.tasks("db_one")[1]
    assert timedelta() < created(after) - created(before) < timedelta(minutes=2)


def created(task: TaskView) -> datetime:
    assert task.created_at is not None
    return datetime.fromisoformat(task.created_at)


def age_lease(path: Path, by_ns: int) -> None:
    """Make the lease as old as if that much time had passed."""
    boot, since, lasts = path.read_text().split()
    assert int(lasts) == 15 * SECOND
    path.write_text(f"{boot} {int(since) - by_ns:020d} {int(lasts):020d}\n")
