"""What an agent remembers of its tasks, on disk and on a simulated one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from stackd.agent.lease import LeaseNote
from stackd.agent.taskfiles import StoredTask, TaskFiles, TaskStateStore
from stackd.base.ids import TaskId
from stackd.base.time import SECOND, Duration
from stackd.engine.taskstate import TaskState
from stackd.simulation.host import MemoryTaskStates

from agent_builders import a_spec, a_status, an_assignment

BOOT = "8a4f0ab2-33c1-4a0c-9d0e-1f0c86a3cb1e"


def a_task(task_id: str = "t1", state: TaskState = TaskState.RUNNING) -> StoredTask:
    return StoredTask(assignment=an_assignment(task_id), spec=a_spec(), status=a_status(task_id, state))


@pytest.fixture(params=["files", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TaskStateStore:
    return TaskFiles(tmp_path / "agent") if request.param == "files" else MemoryTaskStates()


def test_what_was_saved_last_is_loaded(store: TaskStateStore) -> None:
    store.save(a_task("a", TaskState.READY))
    store.save(a_task("b"))
    store.save(a_task("a", TaskState.RUNNING))
    assert store.load() == (a_task("a"), a_task("b"))


def test_a_deleted_task_is_forgotten_and_deleting_it_again_is_no_error(store: TaskStateStore) -> None:
    store.save(a_task())
    for _ in range(2):
        store.delete(TaskId("t1"))
    assert store.load() == ()


def test_the_lease_that_was_noted_last_is_found(store: TaskStateStore) -> None:
    assert store.load_lease() is None
    for lasts in (Duration(10**15), Duration(0), Duration(15 * SECOND)):
        store.save_lease(LeaseNote(BOOT, Duration(7), lasts))
        assert store.load_lease() == LeaseNote(BOOT, Duration(7), lasts)
    assert store.load() == ()


def test_a_damaged_note_of_the_lease_is_none(tmp_path: Path) -> None:
    store = TaskFiles(tmp_path)
    for damage in (b"", b"boot 1\n", b"boot one two\n", b"\xff\xfe 1 2\n"):
        (tmp_path / "lease").write_bytes(damage)
        assert store.load_lease() is None


def test_a_damaged_file_is_set_aside_and_costs_no_other_task(tmp_path: Path) -> None:
    store = TaskFiles(tmp_path)
    store.save(a_task("a"))
    store.save(a_task("b"))
    (tmp_path / "a.task").write_bytes(b"torn")
    assert store.load() == (a_task("b"),)
    assert (tmp_path / "a.damaged").read_bytes() == b"torn"


def test_a_write_that_was_not_finished_leaves_the_old_state(tmp_path: Path) -> None:
    TaskFiles(tmp_path).save(a_task())
    (tmp_path / "t1.new").write_bytes(b"half")
    assert TaskFiles(tmp_path).load() == (a_task(),)


def test_the_directory_is_the_owners_alone(tmp_path: Path) -> None:
    TaskFiles(tmp_path / "agent")
    assert stat.S_IMODE((tmp_path / "agent").stat().st_mode) == 0o700
