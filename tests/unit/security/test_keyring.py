"""A node's keys: whole, private and never lost to a crash; rotated without rewriting; locked if people keep the key."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.security import keyfile
from stackd.security.keyring import NodeKeys
from stackd.security.keys import Purpose, RootKey

ROOT = RootKey(b"r" * 32)


def first_version(root: bytes = ROOT.material) -> bytes:
    """A key file as the first version wrote it."""
    checksum = hashlib.sha256(b"stackd/v1/key file" + root).hexdigest()[:8]
    return b"stackd-key:1:" + base64.b64encode(root) + f":{checksum}\n".encode()


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def refusal(path: Path, unlock_key: str = "") -> StackdError:
    """How the file is refused; nothing may have changed."""
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(StackdError) as refused:
        NodeKeys.open(path, unlock_key)
    assert before == (path.read_bytes() if path.exists() else None)
    return refused.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key"


def test_created_keys_are_found_again_and_are_for_their_owner_alone(path: Path) -> None:
    created = NodeKeys.create(path)
    found = NodeKeys.open(path)
    assert found.cluster.key_id == created.cluster.key_id
    assert found.log.current.key_id == created.log.current.key_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["key"]


def test_a_node_that_joins_has_the_clusters_key_and_a_log_key_of_its_own(tmp_path: Path) -> None:
    first = NodeKeys.create(tmp_path / "first")
    joined = NodeKeys.create(tmp_path / "joined", first.cluster)
    assert joined.cluster.key_id == first.cluster.key_id
    assert joined.log.find(first.log.current.key_id) is None


def test_a_key_file_is_never_replaced_by_a_new_one(path: Path) -> None:
    first = NodeKeys.create(path)
    with pytest.raises(StackdError) as refused:
        NodeKeys.create(path)
    assert refused.value.code == "security.key.exists"
    assert NodeKeys.open(path).cluster.key_id == first.cluster.key_id
    assert os.listdir(path.parent) == ["key"]


def test_keys_that_cannot_be_written_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(StackdError) as refused:
        NodeKeys.create(tmp_path / "missing" / "key")
    assert refused.value.code == "security.key.not_written"


def test_a_missing_key_has_its_own_error(path: Path) -> None:
    assert refusal(path).code == "security.key.missing"


def test_a_key_open_to_others_is_refused(path: Path) -> None:
    NodeKeys.create(path)
    path.chmod(0o640)
    assert refusal(path).code == "security.key.wrong_mode"


def test_a_link_in_place_of_a_key_is_refused(path: Path) -> None:
    NodeKeys.create(path.with_name("real"))
    path.symlink_to(path.with_name("real"))
    assert refusal(path).code == "security.key.unreadable"


@pytest.mark.parametrize("whole", [first_version, lambda: keyfile.form(a_file_of_three_log_keys())], ids=["first", "present"])
def test_a_damaged_key_is_refused_whichever_byte_is_damaged_or_missing(path: Path, whole: Callable[[], bytes]) -> None:
    content = whole().removesuffix(b"\n")
    for at in range(len(content)):
        if at != len("stackd-key:"):  # the version
            put(path, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert refusal(path).code == "security.key.damaged"
        put(path, content[:at])
        assert refusal(path).code == "security.key.damaged"


def a_file_of_three_log_keys() -> keyfile.Contents:
    wrapped = keyfile.Wrapped(key_id="k" * 16, sealed=b"s" * 60)
    return keyfile.Contents(kek_id="k" * 16, kek=b"k" * 32, cluster=wrapped, logs=(wrapped,) * 3)


def test_keys_that_do_not_open_are_refused_though_the_file_is_whole(path: Path) -> None:
    put(path, keyfile.form(a_file_of_three_log_keys()))
    assert refusal(path).code == "security.key.damaged"


def test_a_key_of_a_newer_version_is_refused_as_such(path: Path) -> None:
    NodeKeys.create(path)
    put(path, path.read_bytes().replace(b"stackd-key:2:", b"stackd-key:20:"))
    assert refusal(path).code == "security.key.newer_version"


def test_the_file_of_the_first_version_is_brought_up_to_date_with_the_same_keys(path: Path) -> None:
    put(path, first_version())
    sealed = ROOT.sealer(Purpose.LOG).seal(b"log", b"place")
    for _ in range(2):
        keys = NodeKeys.open(path)
        assert keys.cluster.key_id == ROOT.key_id
        assert keys.log.current.open(sealed, b"place") == b"log"
        assert keyfile.read(path) != ROOT.material
    assert os.listdir(path.parent) == ["key"]


def test_a_rotated_log_key_seals_what_is_new_and_the_older_ones_still_open(path: Path) -> None:
    keys = NodeKeys.create(path)
    before = keys.log.current
    sealed = before.seal(b"old", b"")
    fresh = keys.rotate_log_key()
    for ring in (keys.log, NodeKeys.open(path).log):
        assert ring.current.key_id == fresh != before.key_id
        older = ring.find(before.key_id)
        assert older is not None
        assert older.open(sealed, b"") == b"old"


def test_log_keys_are_forgotten_when_no_file_needs_them_but_never_the_current_one(path: Path) -> None:
    keys = NodeKeys.create(path)
    first = keys.log.current.key_id
    second, third = keys.rotate_log_key(), keys.rotate_log_key()
    keys.forget_log_keys({second})
    for ring in (keys.log, NodeKeys.open(path).log):
        assert ring.key_ids() == [second, third]
        assert ring.find(first) is None
    keys.forget_log_keys(())
    assert NodeKeys.open(path).log.key_ids() == [third]


def test_a_rotated_key_encryption_key_wraps_the_same_keys(path: Path) -> None:
    keys = NodeKeys.create(path)
    before = keyfile.read(path)
    keys.rotate_key_encryption_key()
    after, found = keyfile.read(path), NodeKeys.open(path)
    assert isinstance(before, keyfile.Contents)
    assert isinstance(after, keyfile.Contents)
    assert before.kek_id != after.kek_id
    assert (found.cluster.key_id, found.log.key_ids()) == (keys.cluster.key_id, keys.log.key_ids())


def test_a_failed_rotation_changes_nothing(path: Path) -> None:
    keys = NodeKeys.create(path)
    current = keys.log.current.key_id
    moved = path.parent.with_name("moved")
    path.parent.rename(moved)
    for rotate in (keys.rotate_log_key, keys.rotate_key_encryption_key, keys.lock):
        with pytest.raises(StackdError) as failed:
            rotate()
        assert failed.value.code == "security.key.not_written"
    moved.rename(path.parent)
    assert keys.log.key_ids() == [current]
    assert not keys.autolock
    assert keys.rotate_log_key() == NodeKeys.open(path).log.current.key_id


def test_locked_keys_open_with_the_unlock_key_alone(path: Path) -> None:
    keys = NodeKeys.create(path)
    unlock_key = keys.lock()
    assert refusal(path).code == "security.key.locked"
    found = NodeKeys.open(path, f"  {unlock_key.upper()}\n")
    assert found.autolock
    assert found.cluster.key_id == keys.cluster.key_id
    assert keys.cluster.material not in base64.b64decode(path.read_bytes().strip().split(b":")[3])


def test_a_wrong_unlock_key_and_a_mistyped_one_are_told_apart(path: Path) -> None:
    keys = NodeKeys.create(path)
    old = keys.lock()
    new = keys.lock()
    assert refusal(path, old).code == "security.key.wrong_unlock_key"
    for mistyped in (new[:-1], new + "a", new.replace(new[20], "b" if new[20] != "b" else "c", 1), "hello", "0189", "ä"):
        refused = refusal(path, mistyped)
        assert refused.code == "security.key.bad_unlock_key"
        assert mistyped not in str(refused)


def test_what_changes_while_locked_stays_locked_until_the_key_is_stored_again(path: Path) -> None:
    unlock_key = NodeKeys.create(path).lock()
    keys = NodeKeys.open(path, unlock_key)
    fresh = keys.rotate_log_key()
    assert refusal(path).code == "security.key.locked"
    assert NodeKeys.open(path, unlock_key).log.current.key_id == fresh
    keys.rotate_key_encryption_key()
    assert NodeKeys.open(path).log.current.key_id == fresh


def test_several_nodes_may_share_an_unlock_key(tmp_path: Path) -> None:
    unlock_key = NodeKeys.create(tmp_path / "one").lock()
    assert NodeKeys.create(tmp_path / "two").lock(unlock_key) == unlock_key
    assert NodeKeys.open(tmp_path / "two", unlock_key).autolock


def test_a_copy_of_the_file_opens_as_the_file_does(path: Path) -> None:
    keys = NodeKeys.create(path)
    copy = NodeKeys.parse(keys.copy(), path.with_name("restored"))
    assert copy.cluster.key_id == keys.cluster.key_id
    assert not path.with_name("restored").exists()
    unlock_key = keys.lock()
    with pytest.raises(StackdError) as refused:
        NodeKeys.parse(keys.copy(), path)
    assert refused.value.code == "security.key.locked"
    assert NodeKeys.parse(keys.copy(), path, unlock_key).cluster.key_id == keys.cluster.key_id


def test_nothing_shown_of_the_keys_tells_them(path: Path) -> None:
    keys = NodeKeys.create(path, RootKey(b"secretsecretsecretsecretsecretse"))
    assert "secret" not in f"{keys!r} {keys.log!r} {vars(keys.log)}"
