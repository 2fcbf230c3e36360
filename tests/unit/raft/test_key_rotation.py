"""Keys rotate while the log is in use: new files are sealed with the new key, and older ones stay readable."""

from __future__ import annotations

from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.raft.directory import key_ids, open_directory
from stackd.raft.recovery import read_log
from stackd.raft.snapshot import Snapshots
from stackd.raft.state import Position
from stackd.raft.wal import Log
from stackd.security.keyring import NodeKeys

from raft_builders import US, an_entry, entries_of


def test_a_rotated_key_seals_the_next_segment_and_the_log_reads_as_one(tmp_path: Path) -> None:
    keys = NodeKeys.create(tmp_path / "key")
    disk = open_directory(tmp_path / "raft", keys.log, US).disk
    log = Log.resume(disk, keys.log, US, read_log(disk, keys.log, US))
    written = [an_entry(index, b"%d" % index) for index in range(1, 7)]
    for number, entry in enumerate(written):
        if number in (2, 4):
            keys.rotate_log_key()
        log.append([entry])
    log.close()

    again = NodeKeys.open(tmp_path / "key")
    recovered = read_log(disk, again.log, US)
    assert recovered.entries == entries_of(written)
    assert recovered.sealer.key_id == again.log.current.key_id
    assert key_ids(tmp_path / "raft") == set(again.log.key_ids())
    assert len(again.log.key_ids()) == 3


def test_what_a_crash_left_of_a_new_segment_is_in_nobodys_way(tmp_path: Path) -> None:
    """A recovery goes on with the log without the start that would have removed it."""
    keys = NodeKeys.create(tmp_path / "key")
    disk = open_directory(tmp_path / "raft", keys.log, US).disk
    log = Log.resume(disk, keys.log, US, read_log(disk, keys.log, US))
    disk.create("log-0000000000000002.tmp").close()
    keys.rotate_log_key()
    log.append([an_entry(1)])
    log.close()
    assert disk.names() == ["identity.json", "log-0000000000000001", "log-0000000000000002"]


def test_an_old_key_is_forgotten_once_a_snapshot_has_taken_its_files_away(tmp_path: Path) -> None:
    keys = NodeKeys.create(tmp_path / "key")
    path = tmp_path / "raft"
    disk = open_directory(path, keys.log, US).disk
    log = Log.resume(disk, keys.log, US, read_log(disk, keys.log, US))
    log.append([an_entry(1)])
    keys.rotate_log_key()
    log.append([an_entry(2)])
    keys.forget_log_keys(key_ids(path))
    assert len(keys.log.key_ids()) == 2

    Snapshots(disk, keys.log, US).write(Position(1, 1), [b"state"])
    log.drop_through(1)
    log.close()
    keys.forget_log_keys(key_ids(path))
    assert keys.log.key_ids() == [keys.log.current.key_id]
    assert len(read_log(disk, keys.log, US).entries) == 1
    assert Snapshots(disk, keys.log, US).latest() is not None


def test_a_file_whose_key_is_gone_is_refused_by_its_name(tmp_path: Path) -> None:
    keys = NodeKeys.create(tmp_path / "key")
    disk = open_directory(tmp_path / "raft", keys.log, US).disk
    sealed_with = keys.log.current.key_id
    keys.rotate_log_key()
    keys.forget_log_keys(())
    with pytest.raises(StackdError) as refused:
        read_log(disk, keys.log, US)
    assert refused.value.code == "raft.file.other_key"
    assert sealed_with in refused.value.message
