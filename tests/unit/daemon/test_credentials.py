"""The certificate on disk is replaced whole, and only by one that works."""

from __future__ import annotations

from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.base.ids import NodeId
from stackd.base.time import HOUR, SECOND, Duration, Instant
from stackd.daemon.credentials import Credentials
from stackd.engine.parts import Role
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey

NOW = Instant(1_800_000_000 * SECOND)
WORKER = NodeIdentity(NodeId("n1"), Role.WORKER, "cluster1")
MANAGER = NodeIdentity(NodeId("n1"), Role.MANAGER, "cluster1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


@pytest.fixture
def credentials(tmp_path: Path, authority: Authority) -> Credentials:
    key = NodeKey.create()
    return Credentials.create(tmp_path, authority.issue(key.request(), WORKER, NOW), key, authority.root.pem, NOW)


def refused(change: object) -> str:
    assert callable(change)
    with pytest.raises(StackdError) as caught:
        change()
    return caught.value.code


def test_what_was_stored_is_read_back(tmp_path: Path, credentials: Credentials) -> None:
    assert Credentials.exist(tmp_path)
    again = Credentials.load(tmp_path)
    assert again.material() == credentials.material()
    assert again.presented.identity == WORKER


def test_nobody_else_may_read_the_key(tmp_path: Path, credentials: Credentials) -> None:
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "tls/node.pem").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(credentials.material())


def test_a_renewal_takes_effect_at_once_and_after_a_restart(
    tmp_path: Path, credentials: Credentials, authority: Authority
) -> None:
    key = NodeKey.create()
    credentials.renew(authority.issue(key.request(), MANAGER, NOW), key, NOW)
    assert credentials.presented.identity == MANAGER
    assert Credentials.load(tmp_path).material() == credentials.material()


def test_a_renewal_that_would_not_work_changes_nothing(tmp_path: Path, credentials: Credentials, authority: Authority) -> None:
    before = credentials.material()
    key, other = NodeKey.create(), NodeKey.create()
    stranger = NodeIdentity(NodeId("n2"), Role.WORKER, "cluster1")
    foreign = NodeIdentity(NodeId("n1"), Role.WORKER, "cluster2")
    good = authority.issue(key.request(), WORKER, NOW)
    untrusted = Authority.create(NOW).issue(key.request(), WORKER, NOW)
    expired = authority.issue(key.request(), WORKER, Instant(NOW - 2 * HOUR), Duration(HOUR))
    assert refused(lambda: credentials.renew(good, other, NOW)) == "security.certificate.other_key"
    assert refused(lambda: credentials.renew(untrusted, key, NOW)) == "security.certificate.untrusted"
    assert refused(lambda: credentials.renew(expired, key, NOW)) == "security.certificate.expired"
    for identity in (stranger, foreign):
        certificate = authority.issue(key.request(), identity, NOW)
        assert refused(lambda pem=certificate: credentials.renew(pem, key, NOW)) == "security.certificate.other_node"
    assert credentials.material() == before == Credentials.load(tmp_path).material()


def test_other_roots_are_trusted_after_a_restart_too(tmp_path: Path, credentials: Credentials, authority: Authority) -> None:
    new = authority.cross_sign(Authority.create(NOW))
    assert credentials.trust(authority.root.pem + new.root.pem)
    assert not credentials.trust(authority.root.pem + new.root.pem)
    key = NodeKey.create()
    credentials.renew(new.issue(key.request(), WORKER, NOW), key, NOW)
    assert credentials.trust(new.root.pem)
    assert Credentials.load(tmp_path).material() == credentials.material()


def test_a_crash_in_the_middle_leaves_the_pair_before(tmp_path: Path, credentials: Credentials) -> None:
    (tmp_path / "tls/node.new").write_bytes(b"half of a certif")
    assert Credentials.load(tmp_path).presented.identity == WORKER


def test_damage_is_said_with_the_place(tmp_path: Path, credentials: Credentials) -> None:
    file = tmp_path / "tls/node.pem"
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], credentials.material().certificate + NodeKey.create().pem()):
        file.write_bytes(content)
        assert refused(lambda: Credentials.load(tmp_path)) == "daemon.credentials.damaged"
    file.unlink()
    assert not Credentials.exist(tmp_path)
    assert refused(lambda: Credentials.load(tmp_path)) == "daemon.credentials.damaged"


def test_a_place_that_can_not_be_written_is_an_error(tmp_path: Path, credentials: Credentials) -> None:
    (tmp_path / "tls/roots.new").mkdir()
    before = credentials.material()
    assert refused(lambda: credentials.trust(b"other")) == "daemon.credentials.not_written"
    assert credentials.material() == before
