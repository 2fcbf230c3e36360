"""Configs and secrets as files to be mounted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.docker.files import TaskFiles, memory_directory
from stackd.base.errors import Retry, TaskFault
from stackd.base.ids import BlobDigest
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import FileRef

from docker_builders import a_context

NODE = NodeDescription(hostname="host-1")


def ref(target: str, digest: str, mode: int = 0o444) -> FileRef:
    own = {"uid": str(os.geteuid()), "gid": str(os.getegid())}
    return FileRef(source="settings", target=target, mode=mode, digest=BlobDigest(digest), **own)


def a_task(**files: bytes) -> TaskContext:
    return a_context(files=files, configs=(ref("app.ini", "c1", 0o640),), secrets=(ref("key", "s1"), ref("/etc/key", "s2")))


def test_each_file_has_its_content_its_mode_and_the_place_docker_gives_it(tmp_path: Path) -> None:
    files = TaskFiles(tmp_path / "configs", tmp_path / "memory")
    mounts = files.lay_out(a_task(c1=b"config", s1=b"one", s2=b"two"), NODE)
    assert [mount.target for mount in mounts] == ["/app.ini", "/run/secrets/key", "/etc/key"]
    assert [Path(mount.source).read_bytes() for mount in mounts] == [b"config", b"one", b"two"]
    assert stat.S_IMODE(Path(mounts[0].source).stat().st_mode) == 0o640
    assert [Path(mount.source).is_relative_to(tmp_path / "memory") for mount in mounts] == [False, True, True]
    assert stat.S_IMODE(Path(mounts[1].source).parent.stat().st_mode) == 0o700


def test_laying_out_again_leaves_a_mounted_file_in_place(tmp_path: Path) -> None:
    files = TaskFiles(tmp_path / "configs", tmp_path / "memory")
    task = a_task(c1=b"config", s1=b"one", s2=b"two")
    before = [Path(mount.source).stat().st_ino for mount in files.lay_out(task, NODE)]
    assert [Path(mount.source).stat().st_ino for mount in files.lay_out(task, NODE)] == before


def test_what_is_already_there_does_not_need_its_content_again(tmp_path: Path) -> None:
    files = TaskFiles(tmp_path / "configs", tmp_path / "memory")
    task = a_task(c1=b"config", s1=b"one", s2=b"two")
    mounts = files.lay_out(task, NODE)
    assert files.lay_out(TaskContext(assignment=task.assignment, spec=task.spec, files={}), NODE) == mounts


def test_a_content_that_has_yet_to_come_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(TaskFault, match="content of settings has not arrived") as raised:
        TaskFiles(tmp_path / "configs", tmp_path / "memory").lay_out(a_task(c1=b"config"), NODE)
    assert raised.value.retry is Retry.LATER


def test_without_a_tmpfs_a_secret_is_refused_rather_than_written_to_disk(tmp_path: Path) -> None:
    with pytest.raises(TaskFault) as raised:
        TaskFiles(tmp_path / "configs", None).lay_out(a_task(c1=b"config", s1=b"one", s2=b"two"), NODE)
    assert raised.value.code == "agent.docker.no_tmpfs"
    assert b"one" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_removing_a_task_leaves_no_file_of_it(tmp_path: Path) -> None:
    files = TaskFiles(tmp_path / "configs", tmp_path / "memory")
    task = a_task(c1=b"config", s1=b"one", s2=b"two")
    files.lay_out(task, NODE)
    assert files.tasks() == {task.id}
    files.remove(task.id)
    files.remove(task.id)
    assert files.tasks() == frozenset()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_place_for_secrets_is_in_memory() -> None:
    place = memory_directory("data1")
    assert place is not None
    assert place.parts[1] in ("run", "dev")
    assert place.name == "data1"
