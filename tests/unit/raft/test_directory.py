"""A data directory has one user, exists whole or not at all, and is refused when it isn't what it should be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.raft.directory import DirectoryLock, is_created, open_directory
from stackd.raft.frame import Identity
from stackd.raft.recovery import read_log

from raft_builders import SEALER, US


def code_of_opening(path: Path) -> str:
    """How the directory is refused; nothing in it may have changed."""
    before = {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else {}
    with pytest.raises(StackdError) as refused:
        open_directory(path, SEALER, US)
    assert before == ({file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else {})
    return refused.value.code


def test_a_new_directory_is_whole_and_keeps_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "raft"
    assert not is_created(path)
    assert open_directory(path, SEALER, US).identity == US
    assert is_created(path)
    again = open_directory(path, SEALER, Identity("another", "identity"))
    assert again.identity == US
    assert read_log(again.disk, SEALER, US).entries == []
    assert os.listdir(tmp_path) == ["raft"]


def test_a_creation_that_was_interrupted_starts_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / "raft.new"
    unfinished.mkdir()
    (unfinished / "identity.json").write_bytes(b"{")
    assert open_directory(tmp_path / "raft", SEALER, US).identity == US
    assert os.listdir(tmp_path) == ["raft"]


def test_a_directory_without_identity_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raft"
    open_directory(path, SEALER, US)
    (path / "identity.json").unlink()
    assert code_of_opening(path) == "raft.directory.incomplete"


def test_a_damaged_identity_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raft"
    open_directory(path, SEALER, US)
    (path / "identity.json").write_bytes(b'{"format": 1, "cluster"')
    assert code_of_opening(path) == "raft.directory.damaged_identity"


def test_a_directory_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raft"
    open_directory(path, SEALER, US)
    (path / "identity.json").write_bytes(b'{"format": 2, "cluster": "c", "member": "m"}')
    assert code_of_opening(path) == "raft.directory.newer_version"


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raft").write_text("a file")
    assert code_of_opening(tmp_path / "raft") == "raft.directory.unusable"


def test_the_log_of_another_directory_is_refused(tmp_path: Path) -> None:
    ours = open_directory(tmp_path / "ours", SEALER, US)
    open_directory(tmp_path / "theirs", SEALER, Identity("cluster2", "member1"))
    shutil.copy(tmp_path / "theirs" / "log-0000000000000001", tmp_path / "ours" / "log-0000000000000001")
    with pytest.raises(StackdError) as refused:
        read_log(ours.disk, SEALER, ours.identity)
    assert refused.value.code == "raft.file.other_cluster"


def test_a_directory_in_use_is_refused_and_the_user_named(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path / "data")
    with pytest.raises(StackdError) as refused:
        DirectoryLock.acquire(tmp_path / "data")
    assert refused.value.code == "raft.directory.in_use"
    assert f"process {os.getpid()}" in refused.value.message
    lock.release()
    DirectoryLock.acquire(tmp_path / "data").release()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackdError) as refused:
        DirectoryLock.acquire(tmp_path / "file" / "data")
    assert refused.value.code == "raft.directory.unusable"
