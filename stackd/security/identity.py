"""Who a node or a person is in a certificate, and the certificate's own life: key, request, reading, renewal.

The names are Swarm's (semantics 20): the common name is the node's id, the organizational unit its role, the organization
the cluster. A person's certificate has the person's name and role in their place. They only narrow what a caller may do;
whether the node is still a member, and which role it has now, is what the replicated state says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import assert_never

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from stackd.base.errors import StackdError
from stackd.base.ids import NodeId, new_id
from stackd.base.time import SECOND, Duration, Instant
from stackd.engine.parts import Role, UserRole

_UNITS = {Role.MANAGER: "stackd-manager", Role.WORKER: "stackd-worker"}
_USER_UNITS = {role: f"stackd-{role}" for role in UserRole}
_ROLES = {unit: role for role, unit in _UNITS.items()}
_USER_ROLES = {unit: role for role, unit in _USER_UNITS.items()}

AUTHORITY_NAME = "stackd-ca"
"""The name under which managers answer whoever asks for a certificate."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node, its role and its cluster, as a certificate names them."""

    node_id: NodeId
    role: Role
    cluster: str

    @property
    def server_names(self) -> tuple[str, ...]:
        """The names that a client may expect: that of the role, of the node, and of the authority for managers."""
        names = (_UNITS[self.role], str(self.node_id))
        return (*names, AUTHORITY_NAME) if self.role is Role.MANAGER else names


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """A person, the role and the cluster, as a certificate names them. It is no server."""

    name: str
    role: UserRole
    cluster: str

    @property
    def server_names(self) -> tuple[str, ...]:
        return ()


Identity = NodeIdentity | UserIdentity


@dataclass(frozen=True, slots=True)
class Presented:
    """A certificate that was read: who it names, how long it is good, and which key signed it."""

    identity: Identity
    serial: int
    not_before: Instant
    not_after: Instant
    issuer_key: str
    """`authority.key_id` of the signing key where the certificate names it, else ""."""

    @property
    def node(self) -> NodeIdentity:
        """Raises StackdError("security.certificate.bad") if it names a person."""
        if not isinstance(self.identity, NodeIdentity):
            raise StackdError("security.certificate.bad", f"the certificate is that of {self.name}, not of a node")
        return self.identity

    @property
    def name(self) -> str:
        """Who it names: "node ID" or "user NAME"."""
        one = self.identity
        return f"node {one.node_id}" if isinstance(one, NodeIdentity) else f"user {one.name}"

    def expired(self, now: Instant) -> bool:
        return now >= self.not_after


class NodeKey:
    """A node's key. It never leaves the node: what is sent is a request."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "NodeKey()"

    @classmethod
    def create(cls) -> NodeKey:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, pem: bytes) -> NodeKey:
        """Raises StackdError("security.node_key.damaged")."""
        try:
            key = serialization.load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise StackdError("security.node_key.damaged", f"the node's key can't be read: {exc}") from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StackdError("security.node_key.damaged", "the node's key is not an elliptic-curve key")
        return cls(key)

    def pem(self) -> bytes:
        """The key in the clear, as TLS libraries want it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def request(self) -> bytes:
        """A certificate request. The names in it mean nothing: the authority sets them."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "request")])
        return x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM
        )  # fmt: skip

    def owns(self, certificate_pem: bytes) -> bool:
        """Whether the certificate (the first in the PEM text) is for this key."""
        return _first(certificate_pem).public_key() == self._key.public_key()


def subject_of(identity: Identity) -> x509.Name:
    match identity:
        case NodeIdentity():
            unit, name = _UNITS[identity.role], str(identity.node_id)
        case UserIdentity():
            unit, name = _USER_UNITS[identity.role], identity.name
        case other:
            assert_never(other)
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.cluster),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def same_key(request_pem: bytes, certificate_pem: bytes) -> bool:
    """Whether a certificate request, signed by its own key, is for the key of the certificate: whoever made it has that key.
    Raises StackdError with security.request.bad or security.certificate.bad."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
        return request.is_signature_valid and request.public_key() == _first(certificate_pem).public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise StackdError("security.request.bad", f"the certificate request can't be read: {exc}") from exc


def node_id_of(request_pem: bytes) -> NodeId:
    """The id that a node gets which joins with this certificate request: named by its key, so that a node that asks again,
    because it never heard the answer, is the same node. Raises StackdError("security.request.bad")."""
    try:
        key = x509.load_pem_x509_csr(request_pem).public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise StackdError("security.request.bad", f"the certificate request can't be read: {exc}") from exc
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(b"stackd/v1/node id" + encoded).digest()
    return NodeId(new_id(_Bits(int.from_bytes(digest))))


@dataclass(frozen=True, slots=True)
class _Bits:
    """An `Entropy` whose bits are known."""

    number: int

    def getrandbits(self, k: int, /) -> int:
        return self.number % (1 << k)


def read_certificate(pem: bytes) -> Presented:
    """What a node's certificate says; the signature is not looked at. With a chain, the first certificate is the node's.
    Raises StackdError("security.certificate.bad")."""
    certificate = _first(pem)
    return Presented(
        identity=_identity(certificate.subject),
        serial=certificate.serial_number,
        not_before=_instant(certificate.not_valid_before_utc),
        not_after=_instant(certificate.not_valid_after_utc),
        issuer_key=_issuer_key(certificate),
    )


def verify_certificate(pem: bytes, roots: bytes, now: Instant) -> Presented:
    """The same for a certificate that has to be signed by one of `roots` (PEM), directly or by way of the intermediates
    behind it in `pem`, and to be valid `now`.
    Raises StackdError with security.certificate.bad, .expired or .untrusted."""
    presented = read_certificate(pem)
    if presented.expired(now):
        raise StackdError("security.certificate.expired", f"the certificate of {presented.name} has expired")
    certificate, *rest = x509.load_pem_x509_certificates(pem)
    moment = datetime.fromtimestamp(now / SECOND, certificate.not_valid_after_utc.tzinfo)
    try:
        store = Store(x509.load_pem_x509_certificates(roots))
        verifier = PolicyBuilder().store(store).time(moment).build_client_verifier()
        verifier.verify(certificate, rest)
    except (VerificationError, InvalidSignature, ValueError) as exc:
        why = f"the certificate of {presented.name} is not signed by this cluster"
        raise StackdError("security.certificate.untrusted", why) from exc
    return presented


def renew_at(presented: Presented, seed: int) -> Instant:
    """When to renew: a moment between half and four fifths of the certificate's life, another one for each `seed`, so
    that nodes that joined together don't come back together (semantics 20)."""
    life = presented.not_after - presented.not_before
    share = Random(f"{presented.serial}/{seed}").uniform(0.5, 0.8)
    return Instant(presented.not_before + round(life * share))


RETRY_FIRST_NS = Duration(5 * SECOND)
RETRY_MOST_NS = Duration(3600 * SECOND)


def retry_after(attempt: int) -> Duration:
    """How long to wait after the `attempt`-th renewal that failed, counted from 1."""
    return Duration(min(RETRY_MOST_NS, RETRY_FIRST_NS * 2 ** min(attempt - 1, 20)))


def _first(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError as exc:
        raise StackdError("security.certificate.bad", f"the certificate can't be read: {exc}") from exc


def identity_of(clusters: Sequence[str], units: Sequence[str], names: Sequence[str]) -> Identity:
    """Who a subject with these organizations, organizational units and common names is. Raises StackdError
    ("security.certificate.bad") unless there is one of each, and the unit is one of ours."""
    if len(units) == len(names) == len(clusters) == 1:
        unit, name, cluster = units[0], names[0], clusters[0]
        if unit in _ROLES:
            return NodeIdentity(NodeId(name), _ROLES[unit], cluster)
        if unit in _USER_ROLES:
            return UserIdentity(name, _USER_ROLES[unit], cluster)
    raise StackdError("security.certificate.bad", "the certificate does not name a node or a person, a role and a cluster")


def _identity(subject: x509.Name) -> Identity:
    def values(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(attribute.value) for attribute in subject.get_attributes_for_oid(oid)]

    return identity_of(values(NameOID.ORGANIZATION_NAME), values(NameOID.ORGANIZATIONAL_UNIT_NAME), values(NameOID.COMMON_NAME))


def _issuer_key(certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return ""
    return (extension.key_identifier or b"").hex()


def _instant(moment: datetime) -> Instant:
    return Instant(int(moment.timestamp()) * SECOND)
