"""What a node is, read off its data directory; and that it becomes something else by whole steps."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.base.time import SECOND, Instant
from stackd.daemon.home import Home, Station
from stackd.daemon.identity import Identity, new_identity
from stackd.engine.parts import Role
from stackd.raft.membership import Membership, decode_membership
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey
from stackd.security.keys import RootKey

NOW = Instant(1_800_000_000 * SECOND)
MEMBERS = encode(Membership.sole("first", "10.0.0.1:2378"))


def an_identity() -> Identity:
    return new_identity(random.Random(1), "process")


def enter(home: Home, role: Role) -> None:
    authority, key, identity = Authority.create(NOW), NodeKey.create(), an_identity()
    named = NodeIdentity(identity.node_id, role, identity.cluster_id)
    home.enter(identity, authority.issue(key.request(), named, NOW), key, authority.root.pem, NOW)


def station(path: Path) -> Station:
    """As the next start sees it."""
    return Home(path).station


def test_an_empty_directory_is_nobodys(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert (home.station, home.known) == (Station.IDLE, None)
    assert list(tmp_path.iterdir()) == []


def test_a_name_alone_makes_no_node_and_a_log_with_it_makes_a_cluster_of_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.remember(an_identity())
    assert station(tmp_path) is Station.IDLE
    home.open_log(home.open_keys())
    assert home.station is station(tmp_path) is Station.ALONE


def test_a_certificate_makes_a_worker_and_a_log_beside_it_a_manager(tmp_path: Path) -> None:
    home = Home(tmp_path)
    enter(home, Role.MANAGER)
    assert home.station is station(tmp_path) is Station.WORKER
    key = RootKey.generate()
    home.become_manager(key.material, "", MEMBERS)
    assert home.station is station(tmp_path) is Station.MANAGER
    again = Home(tmp_path)
    assert again.open_keys().cluster.material == key.material
    assert decode_membership(again.identity.membership).voter_ids == {"first"}


def test_a_manager_of_a_locked_cluster_is_locked_from_the_first_moment(tmp_path: Path) -> None:
    home = Home(tmp_path)
    enter(home, Role.MANAGER)
    other = Home(tmp_path / "other")
    (tmp_path / "other").mkdir()
    other.remember(an_identity())
    unlock_key = other.open_keys().lock()
    home.become_manager(RootKey.generate().material, unlock_key, MEMBERS)
    with pytest.raises(StackdError) as caught:
        home.open_keys()
    assert caught.value.code == "security.key.locked"
    assert home.open_keys(unlock_key).autolock


def test_who_is_no_manager_any_more_keeps_its_name_and_certificate_and_nothing_that_managers_know(tmp_path: Path) -> None:
    home = Home(tmp_path)
    enter(home, Role.MANAGER)
    home.become_manager(RootKey.generate().material, "", MEMBERS)
    home.end_as_manager()
    assert home.station is station(tmp_path) is Station.WORKER
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node.json", "tls"]
    home.become_manager(RootKey.generate().material, "", MEMBERS)
    assert home.station is Station.MANAGER


def test_who_leaves_leaves_nothing_behind(tmp_path: Path) -> None:
    home = Home(tmp_path)
    enter(home, Role.MANAGER)
    home.become_manager(RootKey.generate().material, "", MEMBERS)
    home.forget()
    assert home.station is Station.IDLE
    assert list(tmp_path.iterdir()) == []


def test_the_key_to_join_with_stays_the_same_until_the_node_is_in(tmp_path: Path) -> None:
    key = Home(tmp_path).joining_key()
    home = Home(tmp_path)
    assert home.joining_key().pem() == key.pem()
    assert (tmp_path / "joining.pem").stat().st_mode & 0o777 == 0o600
    enter(home, Role.WORKER)
    assert not (tmp_path / "joining.pem").exists()


def test_where_managers_are_is_remembered_and_nothing_said_is_no_news(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.remember(msgspec.structs.replace(an_identity(), managers=("a:2377",)))
    home.remember_managers(())
    assert Home(tmp_path).identity.managers == ("a:2377",)
    home.remember_managers(("b:2377", "a:2377"))
    assert Home(tmp_path).identity.managers == ("b:2377", "a:2377")
