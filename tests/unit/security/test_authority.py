"""What the authority signs, who accepts it, and how a root is replaced."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from stackd.base.errors import StackdError
from stackd.base.ids import NodeId
from stackd.base.time import DAY, HOUR, MINUTE, SECOND, Duration, Instant
from stackd.engine.parts import Role
from stackd.security.authority import NODE_LIFE_NS, ROOT_LIFE_NS, Authority, Root
from stackd.security.identity import (
    NodeIdentity,
    NodeKey,
    read_certificate,
    renew_at,
    retry_after,
    verify_certificate,
)

NOW = Instant(1_800_000_000 * SECOND)
WORKER = NodeIdentity(NodeId("w" * 25), Role.WORKER, "cluster1")
MANAGER = NodeIdentity(NodeId("m" * 25), Role.MANAGER, "cluster1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


@pytest.fixture(scope="module")
def key() -> NodeKey:
    return NodeKey.create()


def later(duration: int) -> Instant:
    return Instant(NOW + duration)


def test_a_certificate_names_node_role_and_cluster_whatever_was_requested(authority: Authority, key: NodeKey) -> None:
    presented = verify_certificate(authority.issue(key.request(), WORKER, NOW), authority.root.pem, NOW)
    assert presented.identity == WORKER
    assert presented.not_after == later(NODE_LIFE_NS)
    assert presented.not_before == later(-HOUR)
    assert presented.issuer_key == authority.root.public_key_id


def test_a_manager_also_answers_for_the_authority(authority: Authority, key: NodeKey) -> None:
    names = {}
    for identity in (WORKER, MANAGER):
        leaf = x509.load_pem_x509_certificate(authority.issue(key.request(), identity, NOW))
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names[identity.role] = extension.value.get_values_for_type(x509.DNSName)
    assert names[Role.WORKER] == ["stackd-worker", "w" * 25]
    assert names[Role.MANAGER] == ["stackd-manager", "m" * 25, "stackd-ca"]


def test_a_certificate_is_for_the_key_that_asked(authority: Authority, key: NodeKey) -> None:
    certificate = authority.issue(key.request(), WORKER, NOW)
    assert key.owns(certificate)
    assert not NodeKey.create().owns(certificate)
    assert NodeKey.load(key.pem()).owns(certificate)


def test_another_authority_is_not_trusted(authority: Authority, key: NodeKey) -> None:
    other = Authority.create(NOW)
    with pytest.raises(StackdError, match="not signed by this cluster") as caught:
        verify_certificate(other.issue(key.request(), WORKER, NOW), authority.root.pem, NOW)
    assert caught.value.code == "security.certificate.untrusted"


def test_an_expired_certificate_says_so(authority: Authority, key: NodeKey) -> None:
    certificate = authority.issue(key.request(), WORKER, NOW, Duration(HOUR))
    verify_certificate(certificate, authority.root.pem, later(HOUR - SECOND))
    with pytest.raises(StackdError) as caught:
        verify_certificate(certificate, authority.root.pem, later(HOUR))
    assert caught.value.code == "security.certificate.expired"


def test_no_certificate_lives_shorter_than_an_hour_or_longer_than_the_root(authority: Authority, key: NodeKey) -> None:
    short = read_certificate(authority.issue(key.request(), WORKER, NOW, Duration(MINUTE)))
    assert short.not_after == later(HOUR)
    near_the_end = later(ROOT_LIFE_NS - DAY)
    assert read_certificate(authority.issue(key.request(), WORKER, near_the_end)).not_after == later(ROOT_LIFE_NS)


def test_a_request_that_was_changed_or_is_none_is_refused(authority: Authority, key: NodeKey) -> None:
    lines = key.request().decode().splitlines()
    body = lines[2]
    lines[2] = body[:10] + ("A" if body[10] != "A" else "B") + body[11:]
    for bad in (b"", b"garbage", "\n".join(lines).encode(), an_rsa_request()):
        with pytest.raises(StackdError) as caught:
            authority.issue(bad, WORKER, NOW)
        assert caught.value.code == "security.request.bad"


def an_rsa_request() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def test_a_node_certificate_can_not_sign_others(authority: Authority, key: NodeKey) -> None:
    with pytest.raises(StackdError) as caught:
        Root.parse(authority.issue(key.request(), MANAGER, NOW), NOW)
    assert caught.value.code == "security.root.not_a_root"


def test_what_a_cross_signed_root_issues_is_trusted_by_both_sides(authority: Authority, key: NodeKey) -> None:
    new = authority.cross_sign(Authority.create(NOW))
    certificate = new.issue(key.request(), WORKER, NOW)
    by_old = verify_certificate(certificate, authority.root.pem, NOW)
    by_new = verify_certificate(certificate, new.root.pem, NOW)
    assert by_old == by_new
    assert by_new.issuer_key == new.root.public_key_id != authority.root.public_key_id


def test_what_the_old_root_issued_is_trusted_while_both_are(authority: Authority, key: NodeKey) -> None:
    new = Authority.create(NOW)
    certificate = authority.issue(key.request(), WORKER, NOW)
    verify_certificate(certificate, new.root.pem + authority.root.pem, NOW)
    with pytest.raises(StackdError):
        verify_certificate(certificate, new.root.pem, NOW)


def test_a_new_root_without_the_old_ones_signature_is_not_trusted(authority: Authority, key: NodeKey) -> None:
    with pytest.raises(StackdError):
        verify_certificate(Authority.create(NOW).issue(key.request(), WORKER, NOW), authority.root.pem, NOW)


def test_a_root_is_loaded_with_its_own_key_only(authority: Authority) -> None:
    assert Authority.load(authority.root, authority.key_pem()).root == authority.root
    for key, code in (
        (Authority.create(NOW).key_pem(), "security.root.key_other"),
        (b"nothing", "security.root.key_damaged"),
    ):
        with pytest.raises(StackdError) as caught:
            Authority.load(authority.root, key)
        assert caught.value.code == code


def test_a_root_given_by_a_person_has_to_be_one(authority: Authority) -> None:
    pem = authority.root.pem
    assert Root.parse(b"\n" + pem, NOW).digest == authority.root.digest
    cases = (
        (b"", NOW, "security.root.damaged"),
        (pem + pem, NOW, "security.root.damaged"),
        (pem, later(ROOT_LIFE_NS - 364 * DAY), "security.root.expiring"),
        (a_leaf_signed_by_itself(), NOW, "security.root.not_a_root"),
    )
    for text, now, code in cases:
        with pytest.raises(StackdError) as caught:
            Root.parse(text, now)
        assert caught.value.code == code


def a_leaf_signed_by_itself() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    start = x509.load_pem_x509_certificate(Authority.create(NOW).root.pem)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(start.not_valid_before_utc).not_valid_after(start.not_valid_after_utc)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_token_names_one_of_the_trusted_roots(authority: Authority) -> None:
    other = Authority.create(NOW)
    both = other.root.pem + authority.root.pem
    assert Root.trusted_by_digest(both, authority.root.digest) == authority.root
    for pems, code in ((other.root.pem, "security.root.other"), (b"x", "security.root.damaged")):
        with pytest.raises(StackdError) as caught:
            Root.trusted_by_digest(pems, authority.root.digest)
        assert caught.value.code == code


def test_keys_never_show_in_a_repr(authority: Authority, key: NodeKey) -> None:
    assert "PRIVATE" not in repr(authority) + repr(key)


def test_garbage_is_no_certificate(authority: Authority) -> None:
    for bad in (b"", b"\x00", authority.root.pem):
        with pytest.raises(StackdError) as caught:
            read_certificate(bad)
        assert caught.value.code == "security.certificate.bad"


def test_nodes_renew_between_half_and_four_fifths_of_the_life_and_not_all_at_once(authority: Authority, key: NodeKey) -> None:
    presented = read_certificate(authority.issue(key.request(), WORKER, NOW))
    life = presented.not_after - presented.not_before
    moments = [renew_at(presented, seed) for seed in range(200)]
    assert all(presented.not_before + life * 0.5 <= moment <= presented.not_before + life * 0.8 for moment in moments)
    assert max(moments) - min(moments) > life * 0.25
    assert renew_at(presented, 7) == renew_at(presented, 7)


def test_renewals_that_fail_are_tried_again_at_growing_intervals() -> None:
    waits = [retry_after(attempt) // SECOND for attempt in range(1, 40)]
    assert waits[:4] == [5, 10, 20, 40]
    assert waits[-1] == 3600
    assert waits == sorted(waits)
