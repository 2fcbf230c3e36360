"""What is done to the data directory of a daemon that doesn't run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from stackd.base.errors import Refused, StackdError
from stackd.daemon.home import Home, Station
from stackd.daemon.identity import new_identity
from stackd.daemon.options import UpOptions
from stackd.daemon.recovery import back_up, force_new, restore_node
from stackd.raft.backup import open_backup
from stackd.raft.directory import DirectoryLock
from stackd.raft.membership import Membership
from stackd.raft.storage import read_history
from stackd.security.keys import Purpose


@pytest.fixture
def manager(tmp_path: Path) -> Path:
    """The directory of the only manager of a cluster without certificates, in which nothing has happened yet."""
    path = tmp_path / "manager"
    path.mkdir()
    home = Home(path)
    home.remember(new_identity(random.Random(1), "process"))
    home.open_log(home.open_keys())
    return path


@pytest.fixture
def backup(manager: Path, tmp_path: Path) -> Path:
    path = tmp_path / "cluster.backup"
    back_up(manager, path)
    return path


def options(path: Path) -> UpOptions:
    return UpOptions(data_dir=path, executor="process")


def test_a_restored_node_is_another_one_of_the_same_cluster_with_keys_of_its_own(
    manager: Path, backup: Path, tmp_path: Path
) -> None:
    restored = restore_node(backup, options(tmp_path / "new"))
    old, new = Home(manager), Home(tmp_path / "new")
    assert new.station is Station.ALONE
    assert new.identity == restored.identity
    assert new.identity.cluster_id == old.identity.cluster_id
    assert new.identity.node_id != old.identity.node_id
    assert new.identity.executor == "process"
    keys = new.open_keys()
    assert keys.cluster.key_id == old.open_keys().cluster.key_id
    assert keys.log.current.key_id != old.open_keys().log.current.key_id
    assert new.open_log(keys).identity.member == new.identity.node_id


def test_a_backup_is_restored_into_an_empty_directory_alone(manager: Path, backup: Path, tmp_path: Path) -> None:
    before = (manager / "node.json").read_bytes()
    with pytest.raises(Refused) as refused:
        restore_node(backup, options(manager))
    assert refused.value.code == "daemon.restore.not_empty"
    assert (manager / "node.json").read_bytes() == before
    (tmp_path / "keyed").mkdir()
    (tmp_path / "keyed" / "key").write_text("somebody's")
    with pytest.raises(Refused):
        restore_node(backup, options(tmp_path / "keyed"))
    assert (tmp_path / "keyed" / "key").read_text() == "somebody's"


def test_a_backup_that_is_damaged_leaves_an_empty_directory(backup: Path, tmp_path: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:-10])
    with pytest.raises(StackdError) as damaged:
        restore_node(backup, options(tmp_path / "new"))
    assert damaged.value.code == "raft.backup.damaged"
    assert Home(tmp_path / "new").station is Station.IDLE
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


def test_what_is_locked_takes_the_unlock_key(manager: Path, tmp_path: Path) -> None:
    unlock_key = Home(manager).open_keys().lock()
    path = tmp_path / "locked.backup"
    for work in (
        lambda key: back_up(manager, path, key),
        lambda key: restore_node(path, options(tmp_path / "new"), unlock_key=key),
        lambda key: force_new(tmp_path / "new", key),
    ):
        with pytest.raises(StackdError) as locked:
            work("")
        assert locked.value.code == "security.key.locked"
        work(unlock_key)


def test_a_directory_that_a_daemon_uses_is_left_alone(manager: Path, tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(manager)
    try:
        for work in (lambda: back_up(manager, tmp_path / "b"), lambda: force_new(manager)):
            with pytest.raises(StackdError) as used:
                work()
            assert used.value.code == "raft.directory.in_use"
    finally:
        lock.release()


def test_only_a_manager_has_what_a_backup_needs(tmp_path: Path) -> None:
    for work in (lambda: back_up(tmp_path, tmp_path / "b"), lambda: force_new(tmp_path)):
        with pytest.raises(Refused) as refused:
            work()
        assert refused.value.code == "daemon.not_a_manager"


def test_going_on_alone_begins_a_new_epoch(manager: Path) -> None:
    identity = force_new(manager)
    home = Home(manager)
    keys = home.open_keys()
    directory = home.open_log(keys)
    membership = read_history(directory.disk, keys.log, directory.identity, Membership.sole("x")).last_membership
    assert (membership.voter_ids, membership.epoch) == ({identity.node_id}, 1)


def test_the_backup_is_sealed_with_the_clusters_key(manager: Path, backup: Path) -> None:
    with open_backup(backup, Home(manager).open_keys().cluster.sealer(Purpose.BACKUP)) as opened:
        assert opened.identity.cluster == Home(manager).identity.cluster_id
