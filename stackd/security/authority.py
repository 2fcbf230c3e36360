"""The cluster's certificate authority: a root, and what it signs.

A root is self-signed, ECDSA P-256, for twenty years. It signs certificates of nodes from requests whose own names are
ignored: who a node is, and which role it has, is what the cluster says (semantics 20). While a root is replaced the old
one signs the new one as an intermediate, so that a node that still trusts only the old root accepts what the new one
signs. Time is an argument; the only thing taken from outside is randomness. Nothing here is stored or sent.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stackd.base.errors import StackdError
from stackd.base.time import DAY, HOUR, Duration, Instant
from stackd.security.identity import Identity, subject_of
from stackd.security.tokens import base36_digest

ROOT_NAME = "stackd-ca"
ROOT_LIFE_NS = Duration(20 * 365 * DAY)
NODE_LIFE_NS = Duration(90 * DAY)
LEAST_LIFE_NS = Duration(HOUR)
"""A certificate that lives for less would be renewed all the time."""
LEAST_ROOT_LIFE_NS = Duration(365 * DAY)
BACKDATED_NS = Duration(HOUR)
"""Certificates begin earlier, or a node whose clock is slow would find a fresh one not valid yet."""


@dataclass(frozen=True, slots=True)
class Root:
    """A root certificate, without its key: what nodes trust. `pem` is exactly one certificate."""

    pem: bytes

    @classmethod
    def parse(cls, pem: bytes, now: Instant) -> Root:
        """A root that a person gives. Raises StackdError with security.root.damaged (not one certificate in PEM form),
        .not_a_root (not self-signed, or may not sign certificates) or .expiring (less than a year left)."""
        certificate = _single(pem)
        _public_key(certificate)
        if not _is_root(certificate):
            raise StackdError("security.root.not_a_root", "the certificate is not a self-signed certificate authority")
        if certificate.not_valid_after_utc < _utc(Instant(now + LEAST_ROOT_LIFE_NS)):
            until = certificate.not_valid_after_utc.date().isoformat()
            raise StackdError("security.root.expiring", f"the root certificate ends on {until}; it needs at least a year")
        return cls(certificate.public_bytes(serialization.Encoding.PEM))

    @classmethod
    def trusted_by_digest(cls, pems: bytes, digest: str) -> Root:
        """The one of several roots that a join token names. Raises StackdError("security.root.other") if there is none."""
        try:
            certificates = x509.load_pem_x509_certificates(pems)
        except ValueError as exc:
            raise StackdError("security.root.damaged", f"the root certificate can't be read: {exc}") from exc
        for certificate in certificates:
            root = cls(certificate.public_bytes(serialization.Encoding.PEM))
            if hmac.compare_digest(root.digest, digest):
                return root
        raise StackdError(
            "security.root.other",
            "this is not the cluster that the token belongs to",
            hint="check the address, and print the token again on a manager: its root may have been replaced",
        )

    @property
    def digest(self) -> str:
        """The certificate's SHA-256 as a join token holds it."""
        return base36_digest(hashlib.sha256(_single(self.pem).public_bytes(serialization.Encoding.DER)).digest())

    @property
    def public_key_id(self) -> str:
        """Names the key that signs, the same for the root and its cross-signed form; see `Presented.issuer_key`."""
        return key_id(_public_key(_single(self.pem)))


class Authority:
    """A root with its key: it can sign. `intermediate` is set while the root is new and nodes may still trust only the
    old one: it goes along with each certificate."""

    def __init__(self, root: Root, key: ec.EllipticCurvePrivateKey, intermediate: bytes = b"") -> None:
        self.root = root
        self.intermediate = intermediate
        self._certificate = _single(root.pem)
        self._key = key

    def __repr__(self) -> str:
        return f"Authority({self.root.public_key_id})"

    @classmethod
    def create(cls, now: Instant) -> Authority:
        """A new root with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ROOT_NAME)])
        builder = _as_authority(_valid(x509.CertificateBuilder(), now, ROOT_LIFE_NS), key.public_key(), name, name)
        certificate = builder.sign(key, hashes.SHA256())
        return cls(Root(certificate.public_bytes(serialization.Encoding.PEM)), key)

    @classmethod
    def load(cls, root: Root, key_pem: bytes, intermediate: bytes = b"") -> Authority:
        """Raises StackdError with security.root.key_damaged or .key_other (the key is not the certificate's)."""
        try:
            key = serialization.load_pem_private_key(key_pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise StackdError("security.root.key_damaged", f"the root's key can't be read: {exc}") from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StackdError("security.root.key_damaged", "the root's key is not an elliptic-curve key")
        if key_id(key.public_key()) != root.public_key_id:
            raise StackdError("security.root.key_other", "the key does not belong to the root certificate")
        return cls(root, key, intermediate)

    def key_pem(self) -> bytes:
        """The key in the clear; whoever stores it seals it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def issue(self, request_pem: bytes, identity: Identity, now: Instant, life_ns: Duration = NODE_LIFE_NS) -> bytes:
        """A certificate of a node or a person, in PEM form with the intermediate behind it if there is one. It never
        outlives the root. Raises StackdError("security.request.bad")."""
        request = _checked_request(request_pem)
        names = [x509.DNSName(name) for name in identity.server_names]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if names else [])]
        builder = _valid(x509.CertificateBuilder(), now, max(life_ns, LEAST_LIFE_NS), self._certificate.not_valid_after_utc)
        builder = (
            builder.subject_name(subject_of(identity))
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names or [x509.DirectoryName(subject_of(identity))]), critical=False)
            .add_extension(_authority_key(self._certificate), critical=False)
        )
        leaf = builder.sign(self._key, hashes.SHA256())
        return leaf.public_bytes(serialization.Encoding.PEM) + self.intermediate

    def cross_sign(self, new: Authority) -> Authority:
        """`new`, whose certificates are also accepted by whoever trusts this root: its key and name, signed by this one."""
        its = new._certificate
        end = min(its.not_valid_after_utc, self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .not_valid_before(max(its.not_valid_before_utc, self._certificate.not_valid_before_utc))
            .not_valid_after(end)
        )
        builder = _as_authority(builder, new._key.public_key(), its.subject, self._certificate.subject)
        builder = builder.add_extension(_authority_key(self._certificate), critical=False)
        crossed = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return Authority(new.root, new._key, crossed)


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Names a public key as the certificates that it signed do (RFC 5280, section 4.2.1.2, first method), in hexadecimal."""
    return x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()


def _single(pem: bytes) -> x509.Certificate:
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise StackdError("security.root.damaged", f"the root certificate can't be read: {exc}") from exc
    if len(certificates) != 1:
        raise StackdError("security.root.damaged", f"a root is one certificate; there are {len(certificates)}")
    return certificates[0]


def _is_root(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False


def _checked_request(pem: bytes) -> x509.CertificateSigningRequest:
    """The request, if it is signed by the key it names and that is one we use."""
    try:
        request = x509.load_pem_x509_csr(pem)
        sound = request.is_signature_valid and isinstance(request.public_key(), ec.EllipticCurvePublicKey)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise StackdError("security.request.bad", f"the certificate request can't be read: {exc}") from exc
    if not sound:
        raise StackdError("security.request.bad", "the certificate request is not signed by its own elliptic-curve key")
    return request


def _valid(
    builder: x509.CertificateBuilder, now: Instant, life_ns: Duration, latest: datetime | None = None
) -> x509.CertificateBuilder:
    end = _utc(Instant(now + life_ns))
    return builder.not_valid_before(_utc(Instant(now - BACKDATED_NS))).not_valid_after(min(end, latest) if latest else end)


def _as_authority(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name
) -> x509.CertificateBuilder:
    return (
        builder.subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Names the key that signed, or two roots of one name could not be told apart."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(_public_key(issuer))


def _public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise StackdError("security.root.damaged", "the root certificate's key is not an elliptic-curve key")
    return key


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _utc(instant: Instant) -> datetime:
    """Certificates know whole seconds."""
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=instant // 1_000_000_000)
