"""The monitor's parts that need no kernel, and that it stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stackd.agent.executor import monitor
from stackd.agent.executor.monitor import people
from stackd.agent.executor.monitor.logfile import LogFile
from stackd.agent.executor.process.directory import TaskDirectory
from stackd.base.time import Instant

HEAVY = (
    "typing",
    "re",
    "json",
    "dataclasses",
    "asyncio",
    "subprocess",
    "threading",
    "inspect",
    "logging",
    "pathlib",
    "msgspec",
)


def test_a_monitor_imports_nothing_that_costs_memory() -> None:
    """One runs per task. (`re` alone costs a megabyte.)"""
    root = str(Path(monitor.__file__).parents[4])
    program = f"import sys; sys.path.insert(0, {root!r}); import stackd.agent.executor.monitor.supervisor; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not set(HEAVY) & set(loaded)
    ours = {name for name in loaded if name.startswith("stackd.")}
    parents = {"stackd.agent", "stackd.agent.executor"}
    assert {name for name in ours if not name.startswith("stackd.agent.executor.monitor")} == parents


@pytest.fixture
def log_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(path: Path) -> list[bytes]:
    return [line.split(b" ", 2)[2] for line in path.read_bytes().splitlines()]


def test_output_in_pieces_becomes_whole_lines(log_directory: Path) -> None:
    log = LogFile(1000, 3)
    log.write("o", b"one\ntw")
    log.write("e", b"error\n")
    log.write("o", b"o\nrest")
    assert texts(log_directory / "log") == [b"one", b"error", b"two"]
    log.close()
    assert texts(log_directory / "log")[-1] == b"rest"


def test_a_full_file_is_rotated_and_the_oldest_dropped(log_directory: Path) -> None:
    log = LogFile(100, 3)
    for number in range(20):
        log.write("o", b"%010d\n" % number)
    assert sorted(path.name for path in log_directory.iterdir()) == ["log", "log.1", "log.2"]
    kept = [int(text) for name in ("log.2", "log.1", "log") for text in texts(log_directory / name)]
    assert kept == list(range(20 - len(kept), 20))


def test_with_one_file_rotation_starts_it_anew(log_directory: Path) -> None:
    log = LogFile(100, 1)
    for number in range(20):
        log.write("o", b"%010d\n" % number)
    assert [path.name for path in log_directory.iterdir()] == ["log"]
    assert (log_directory / "log").stat().st_size <= 100


def test_lines_lost_on_a_full_disk_are_counted_once_there_is_room(log_directory: Path) -> None:
    log = LogFile(1000, 3)
    descriptor = log._descriptor
    log._descriptor = os.open("/dev/full", os.O_WRONLY)
    log.write("o", b"a\nb\n")
    log.write("o", b"c\n")
    os.close(log._descriptor)
    log._descriptor = descriptor
    log.write("o", b"d\n")
    assert texts(log_directory / "log") == [b"(3 lines of output lost: no room on disk)", b"d"]


def test_a_log_that_can_not_be_rotated_goes_on_once_there_is_room(log_directory: Path) -> None:
    log = LogFile(100, 3)
    log.write("o", b"%050d\n" % 1)
    (log_directory / "log.new").mkdir()  # so that there is nowhere to write a new one
    log.write("o", b"%050d\n" % 2)
    (log_directory / "log.new").rmdir()
    log.write("o", b"3\n")
    assert texts(log_directory / "log.1") == [b"%050d" % 1]
    assert texts(log_directory / "log") == [b"(1 lines of output lost: no room on disk)", b"3"]


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n# comment\nanna:x:1000:1001:Anna:/home/anna:/bin/sh\n")
    (tmp_path / "group").write_text("root:x:0:\nanna:x:1001:\nstaff:x:50:bert,anna\n")
    rows = people._rows
    monkeypatch.setattr(people, "_rows", lambda path: rows(str(tmp_path / os.path.basename(path))))


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [], "/root"),
        ("anna", 1000, 1001, [50], "/home/anna"),
        ("1000", 1000, 1001, [50], "/home/anna"),
        ("anna:staff", 1000, 50, [], "/home/anna"),
        ("77:88", 77, 88, [], "/"),
        ("77", 77, 0, [], "/"),
    ],
)
@pytest.mark.usefixtures("accounts")
def test_users_are_those_of_the_tasks_own_files(user: str, uid: int, gid: int, groups: list[int], home: str) -> None:
    person = people.resolve(user)
    assert (person.uid, person.gid, person.groups, person.home) == (uid, gid, groups, home)


@pytest.mark.usefixtures("accounts")
def test_unknown_users_and_groups_are_told_in_dockers_words() -> None:
    with pytest.raises(LookupError, match="unable to find user carl: no matching entries in passwd file"):
        people.resolve("carl")
    with pytest.raises(LookupError, match="unable to find group tools"):
        people.resolve("anna:tools")


def test_an_exit_record_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "exit").write_text("code=137\noom=1\nat=5\nerror=\n")
    ended = TaskDirectory(tmp_path).exit()
    assert ended is not None
    assert (ended.code, ended.oom, ended.at) == (137, True, 5)
    assert ended.error == "task: non-zero exit (137): killed by the kernel: out of memory"


def test_a_damaged_exit_record_is_an_end_of_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "exit").write_text("code=")
    ended = TaskDirectory(tmp_path).exit()
    assert ended is not None
    assert ended.error.endswith("its exit record is damaged")


def test_a_task_whose_monitor_vanished_is_recorded_once(tmp_path: Path) -> None:
    directory = TaskDirectory(tmp_path)
    assert directory.exit() is None
    assert directory.write_lost(Instant(7)) == directory.exit()
