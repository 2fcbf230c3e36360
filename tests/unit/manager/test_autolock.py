"""The unlock key that all managers share: kept sealed in the state, followed by each on its own disk."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.base.time import Instant
from stackd.engine.model import Cluster
from stackd.engine.store import Store, Transaction
from stackd.manager.autolock import Autolock
from stackd.security.keyring import NodeKeys
from stackd.security.keys import Purpose, RootKey


class Managers:
    """The state, and two managers with key files."""

    def __init__(self, path: Path) -> None:
        self.store = Store()
        cluster_key = RootKey.generate()
        self.paths = (path / "one", path / "two")
        sealer = cluster_key.sealer(Purpose.AUTHORITY)
        keys = [NodeKeys.create(one, cluster_key) for one in self.paths]
        self.locks = [Autolock(lambda: self.store.view, sealer, one) for one in keys]
        self.cluster = Cluster(id="c", created_at=Instant(0))
        self.write(b"")

    def write(self, sealed: bytes) -> None:
        row = msgspec.structs.replace(self.cluster, sealed_unlock_key=sealed)
        changes = self.store.apply(self.store.index + 1, encode(Transaction(now=Instant(1), puts=(row,))))
        for lock in self.locks:
            lock.notice(changes)

    def opens(self, unlock_key: str) -> list[bool]:
        return [_opens(path, unlock_key) for path in self.paths]


def _opens(path: Path, unlock_key: str) -> bool:
    try:
        NodeKeys.open(path, unlock_key)
    except StackdError as error:
        return error.code not in ("security.key.locked", "security.key.wrong_unlock_key")
    return True


@pytest.fixture
def managers(tmp_path: Path) -> Managers:
    return Managers(tmp_path)


def test_turning_autolock_on_locks_every_manager_with_one_key(managers: Managers) -> None:
    lock = managers.locks[0]
    managers.write(lock.sealed(on=True, rotate=False))
    assert lock.opened() == managers.locks[1].opened() != ""
    assert managers.opens("") == [False, False]
    assert managers.opens(lock.opened()) == [True, True]


def test_the_key_stays_unless_it_is_rotated(managers: Managers) -> None:
    lock = managers.locks[0]
    managers.write(lock.sealed(on=True, rotate=False))
    first = lock.opened()
    managers.write(lock.sealed(on=True, rotate=False))
    assert lock.opened() == first
    managers.write(lock.sealed(on=True, rotate=True))
    assert lock.opened() != first
    assert managers.opens(first) == [False, False]
    assert managers.opens(lock.opened()) == [True, True]


def test_turning_it_off_lets_every_manager_start_alone(managers: Managers) -> None:
    lock = managers.locks[0]
    managers.write(lock.sealed(on=True, rotate=False))
    managers.write(lock.sealed(on=False, rotate=False))
    assert lock.opened() == ""
    assert managers.opens("") == [True, True]


def test_a_manager_that_was_away_follows_when_it_is_back(managers: Managers) -> None:
    away = managers.locks.pop()
    managers.write(managers.locks[0].sealed(on=True, rotate=False))
    assert managers.opens("") == [False, True]
    away.follow()
    assert managers.opens("") == [False, False]


def test_a_disk_that_takes_nothing_stops_nobody(managers: Managers) -> None:
    managers.paths[0].parent.joinpath("one.new").mkdir()
    managers.write(managers.locks[0].sealed(on=True, rotate=False))
    assert managers.opens("")[1] is False


def test_the_state_holds_no_unlock_key_in_the_clear(managers: Managers) -> None:
    sealed = managers.locks[0].sealed(on=True, rotate=False)
    managers.write(sealed)
    assert managers.locks[0].opened().encode() not in sealed
