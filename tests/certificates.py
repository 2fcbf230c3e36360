"""Certificates for tests: an authority made on the spot, and TLS contexts with what it has issued."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from stackd.raft.credentials import Credentials, common_name


@dataclass
class Authority:
    """A certificate authority. What it issues is valid on the loopback addresses; it keeps files in `directory`."""

    directory: Path
    name: str = "ca"
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @functools.cached_property
    def certificate(self) -> Path:
        subject = _name(self.name)
        builder = _builder(subject, subject, self._key.public_key(), datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return self._write(f"{self.name}.crt", builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def issue(self, name: str, *, valid: datetime.timedelta = datetime.timedelta(hours=1)) -> tuple[Path, Path]:
        """A certificate and its key; `valid` below zero has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), _name(self.name), key.public_key(), valid)
        names = [x509.DNSName("localhost"), x509.IPAddress(_LOOPBACK)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._write(f"{name}.crt", certificate), self._write(f"{name}.key", private)

    def credentials(self, name: str, *, valid: datetime.timedelta = datetime.timedelta(hours=1)) -> Credentials:
        """What a member of that name shows, and whom it trusts: this authority."""
        certificate, key = self.issue(name, valid=valid)

        dial, accept = contexts(self.certificate, certificate, key)
        return Credentials(to_dial=lambda: dial, to_accept=lambda: accept, name_of=common_name)

    def _write(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path


def tls_context(protocol: int, authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """A context as members use it: TLS 1.3, both sides show a certificate, names are checked by whoever asks for one."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    context.load_cert_chain(certificate, key)
    return context


def contexts(authority: Path, certificate: Path, key: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a member dials with, and what it accepts with."""
    dial = tls_context(ssl.PROTOCOL_TLS_CLIENT, authority, certificate, key)
    return dial, tls_context(ssl.PROTOCOL_TLS_SERVER, authority, certificate, key)


_PEM = serialization.Encoding.PEM
_LOOPBACK = ipaddress.ip_address("127.0.0.1")


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=2))
        .not_valid_after(now + valid)
    )
