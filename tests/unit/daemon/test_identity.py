"""Who a node is, on disk."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from stackd.base.errors import StackdError
from stackd.daemon.home import Home
from stackd.daemon.identity import Identity, load_identity, new_identity, save_identity


def a_saved_identity(data_dir: Path) -> Identity:
    made = new_identity(random.Random(1), "process")
    save_identity(data_dir, made)
    return made


def test_a_new_directory_has_no_identity(tmp_path: Path) -> None:
    assert load_identity(tmp_path) is None


def test_an_identity_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    made = a_saved_identity(tmp_path)
    assert load_identity(tmp_path) == made
    assert (len(made.node_id), len(made.cluster_id)) == (25, 25)
    assert made.node_id != made.cluster_id


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    made = a_saved_identity(tmp_path)
    changed = msgspec.structs.replace(made, executor="docker", docker_host="unix:///run/docker.sock")
    save_identity(tmp_path, changed)
    assert load_identity(tmp_path) == changed
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]


def test_what_an_interrupted_write_has_left_does_no_harm(tmp_path: Path) -> None:
    made = a_saved_identity(tmp_path)
    (tmp_path / "node.new").write_bytes(b'{"node_id": "ha')
    assert load_identity(tmp_path) == made
    save_identity(tmp_path, made)
    assert load_identity(tmp_path) == made


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"node_id": "a"}', b'{"node_id": 1, "cluster_id": "", "executor": ""}', b"\xff"]
)
def test_a_damaged_identity_is_an_error_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.json"
    path.write_bytes(content)
    with pytest.raises(StackdError) as error:
        load_identity(tmp_path)
    assert error.value.code == "daemon.identity.damaged"
    assert str(path) in error.value.message
    assert path.read_bytes() == content


def test_a_log_without_an_identity_is_refused_and_gets_no_new_one(tmp_path: Path) -> None:
    (tmp_path / "raft").mkdir()
    (tmp_path / "raft/identity.json").touch()
    with pytest.raises(StackdError) as refused:
        Home(tmp_path)
    assert refused.value.code == "daemon.identity.missing"
    assert [path.name for path in tmp_path.iterdir()] == ["raft"]
