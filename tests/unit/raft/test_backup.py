"""A backup holds the whole state or is refused; a restored or recovered member is alone, in an epoch of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.raft.backup import Content, content_of, key_file_in, open_backup, write_backup
from stackd.raft.consensus import Keyring, SnapshotView
from stackd.raft.directory import is_created, open_directory
from stackd.raft.frame import HEADER_BYTES, Identity, Kind, Record
from stackd.raft.member import ClusterMember
from stackd.raft.membership import Membership
from stackd.raft.restore import recover, restore
from stackd.raft.settings import Settings
from stackd.raft.state import Position
from stackd.raft.storage import read_history
from stackd.security.keyring import NodeKeys
from stackd.security.keys import Purpose, RootKey

from raft_builders import KEY, SEALER, US

BACKUP_SEALER = KEY.sealer(Purpose.BACKUP)
KEY_FILE = b"a copy of the key file"
THREE = Membership(epoch=4, voters=(("member1", "a:1"), ("member2", "b:1"), ("member3", "c:1")), feature_level=2)
FOUR = Membership(epoch=4, voters=THREE.voters, learners=(("member4", "d:1"),), feature_level=2)
STATE = [b"x" * 100_000, b"y" * 400_000]
TAIL = (
    Record(Kind.ENTRY, 8, 2, b"eight"),
    Record(Kind.MEMBERS, 9, 3, encode(FOUR)),
    Record(Kind.ENTRY, 10, 3, b""),
)
WHOLE = Content(US, Position(7, 2), THREE, STATE, TAIL)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.backup"
    write_backup(path, WHOLE, BACKUP_SEALER, KEY_FILE)
    return path


def read(path: Path) -> tuple[bytes, list[Record]]:
    with open_backup(path, BACKUP_SEALER) as backup:
        return b"".join(backup.chunks()), list(backup.entries())


def restored(backup: Path, path: Path, keys: Keyring = SEALER, member: str = "member9") -> Identity:
    return restore(backup, path, keys, BACKUP_SEALER, member, "z:1")


async def state_of(path: Path, keys: Keyring = SEALER) -> tuple[bytes | None, list[bytes]]:
    """Snapshot and entries that a member which starts on the directory finds."""
    directory = open_directory(path, keys, US)
    member = ClusterMember(directory.disk, keys, directory.identity, settings=Settings(feature_level=THREE.feature_level))
    snapshot = await member.start()
    await member.close()
    return snapshot, [entry.data async for entry in member.committed() if entry.data]


def test_a_backup_gives_back_what_was_put_in(backup: Path) -> None:
    assert read(backup) == (b"".join(STATE), list(TAIL))
    assert key_file_in(backup) == KEY_FILE
    assert backup.stat().st_mode & 0o777 == 0o600
    with open_backup(backup, BACKUP_SEALER) as opened:
        assert (opened.identity, opened.position, opened.membership) == (US, Position(7, 2), THREE)


def test_a_backup_never_replaces_a_file(backup: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(StackdError) as refused:
        write_backup(backup, WHOLE, BACKUP_SEALER, b"")
    assert refused.value.code == "raft.backup.exists"
    assert backup.read_bytes() == before


def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> object:
        yield b"some"
        raise StackdError("engine.fault", "the state can't be encoded")

    with pytest.raises(StackdError):
        write_backup(tmp_path / "b", Content(US, Position(1, 1), THREE, failing()), BACKUP_SEALER, b"")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []
    with pytest.raises(StackdError) as refused:
        write_backup(tmp_path / "missing" / "b", WHOLE, BACKUP_SEALER, b"")
    assert refused.value.code == "raft.backup.not_written"


def test_a_restored_directory_has_the_state_under_a_new_name_and_in_a_new_epoch(backup: Path, tmp_path: Path) -> None:
    identity = restored(backup, tmp_path / "raft")
    assert identity == Identity("cluster1", "member9")
    history = read_history(open_directory(tmp_path / "raft", SEALER, US).disk, SEALER, identity, THREE)
    assert history.last_membership == Membership(epoch=5, voters=(("member9", "z:1"),), feature_level=2, index=11)
    assert asyncio.run(state_of(tmp_path / "raft")) == (b"".join(STATE), [b"eight"])


def test_a_backup_of_a_cluster_that_has_no_snapshot_yet_is_restored_from_its_entries(tmp_path: Path) -> None:
    entries = [Record(Kind.ENTRY, index, 1, b"%d" % index) for index in range(1, 1000)]
    write_backup(tmp_path / "b", Content(US, Position(), THREE, (), entries), BACKUP_SEALER, b"")
    restored(tmp_path / "b", tmp_path / "raft")
    snapshot, found = asyncio.run(state_of(tmp_path / "raft"))
    assert snapshot is None
    assert found == [entry.body for entry in entries]


def test_nothing_is_restored_over_something(backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "raft"
    path.mkdir()
    (path / "note").write_text("mine")
    with pytest.raises(StackdError) as refused:
        restored(backup, path)
    assert refused.value.code == "raft.restore.not_empty"
    assert os.listdir(path) == ["note"]


def refusal(path: Path, target: Path) -> str:
    """How a backup is refused; nothing may be left where it should have gone."""
    with pytest.raises(StackdError) as refused:
        restored(path, target)
    assert not is_created(target)
    assert not target.with_name(target.name + ".new").exists()
    return refused.value.code


def test_a_truncated_backup_is_refused_wherever_it_was_cut(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    codes = set()
    for size in [*range(0, 400, 7), 100_000, 300_000, len(whole) - 70, len(whole) - 1]:
        backup.write_bytes(whole[:size])
        codes.add(refusal(backup, tmp_path / "raft"))
    assert codes == {"raft.backup.foreign", "raft.file.damaged_header", "raft.backup.damaged"}


def test_a_damaged_backup_is_refused_wherever_it_was_damaged(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    keys = range(HEADER_BYTES + 4, HEADER_BYTES + 4 + len(KEY_FILE))
    for at in [at for at in [*range(HEADER_BYTES, 400, 11), 200_000, 450_000, len(whole) - 1] if at not in keys]:
        backup.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        assert refusal(backup, tmp_path / "raft") == "raft.backup.damaged"
    backup.write_bytes(whole + b"x")
    assert refusal(backup, tmp_path / "raft") == "raft.backup.damaged"


def test_a_backup_of_a_newer_version_is_refused_as_such(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    backup.write_bytes(whole[:8] + (99).to_bytes(2, "little") + whole[10:])
    assert refusal(backup, tmp_path / "raft") == "raft.file.newer_version"


def test_what_is_no_backup_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("hello" * 100)
    assert refusal(tmp_path / "b", tmp_path / "raft") == "raft.backup.foreign"
    assert refusal(tmp_path / "missing", tmp_path / "raft") == "raft.backup.unreadable"


def test_a_backup_of_another_cluster_does_not_open(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(StackdError) as refused:
        restore(backup, tmp_path / "raft", SEALER, RootKey(b"o" * 32).sealer(Purpose.BACKUP), "member9")
    assert refused.value.code == "raft.backup.other_key"


def a_used_directory(path: Path, keys: Keyring = SEALER) -> Path:
    """One with a snapshot and entries behind it."""

    async def use() -> None:
        directory = open_directory(path, keys, US)
        member = ClusterMember(directory.disk, keys, directory.identity)
        await member.start()
        for data in (b"a", b"b"):
            await member.propose(data, 1)
        await member.take_snapshot(SnapshotView(3, lambda: iter([b"state: a b"])))
        await member.propose(b"c", 1)
        await member.close()

    asyncio.run(use())
    return path


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_the_backup_of_a_stopped_member_holds_all_it_knows_and_changes_nothing(tmp_path: Path) -> None:
    path = a_used_directory(tmp_path / "raft")
    before = content(path)
    write_backup(tmp_path / "b", content_of(path, SEALER, Membership.sole("member1")), BACKUP_SEALER, KEY_FILE)
    assert content(path) == before
    restored(tmp_path / "b", tmp_path / "again")
    assert asyncio.run(state_of(tmp_path / "again")) == (b"state: a b", [b"c"])


def test_a_disaster_is_over_with_the_backup_alone(tmp_path: Path) -> None:
    """Machine and keys are gone; there is the file, and, as autolock was on, the unlock key."""
    (tmp_path / "old").mkdir()
    keys = NodeKeys.create(tmp_path / "old" / "key")
    unlock_key = keys.lock()
    path = a_used_directory(tmp_path / "old" / "raft", keys.log)
    source = content_of(path, keys.log, Membership.sole("member1"))
    write_backup(tmp_path / "b", source, keys.cluster.sealer(Purpose.BACKUP), keys.copy())

    (tmp_path / "new").mkdir()
    found = NodeKeys.parse(key_file_in(tmp_path / "b"), tmp_path / "new" / "key", unlock_key)
    fresh = found.copy_to(tmp_path / "new" / "key")
    restore(tmp_path / "b", tmp_path / "new" / "raft", fresh.log, found.cluster.sealer(Purpose.BACKUP), "member1")
    again = NodeKeys.open(tmp_path / "new" / "key", unlock_key)
    assert again.cluster.key_id == keys.cluster.key_id
    assert asyncio.run(state_of(tmp_path / "new" / "raft", again.log)) == (b"state: a b", [b"c"])


def test_recovering_from_a_lost_quorum_keeps_everything_and_leaves_this_member_alone(tmp_path: Path) -> None:
    path = a_used_directory(tmp_path / "raft")
    alone = recover(path, SEALER, THREE, "new:1")
    assert alone == Membership(epoch=5, voters=(("member1", "new:1"),), feature_level=2, index=5)
    history = read_history(open_directory(path, SEALER, US).disk, SEALER, US, THREE)
    assert history.last_membership == alone
    assert asyncio.run(state_of(path)) == (b"state: a b", [b"c"])


def test_each_recovery_begins_another_epoch_and_the_address_stays_if_none_is_given(tmp_path: Path) -> None:
    path = a_used_directory(tmp_path / "raft")
    assert recover(path, SEALER, THREE).addresses == {"member1": "a:1"}
    assert recover(path, SEALER, THREE) == Membership(epoch=6, voters=(("member1", "a:1"),), feature_level=2, index=6)


def cut(path: Path) -> None:
    (path / "log-0000000000000001").write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, lambda path: (path / "identity.json").unlink()], ids=["log", "identity"])
def test_a_directory_that_cannot_be_read_is_neither_backed_up_nor_recovered(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = a_used_directory(tmp_path / "raft")
    damage(path)
    before = content(path)
    for attempt in (lambda: content_of(path, SEALER, THREE), lambda: recover(path, SEALER, THREE)):
        with pytest.raises(StackdError):
            attempt()
    assert content(path) == before
