"""TLS contexts of Python's own library, from certificates and keys that lie in memory. TLS 1.3 only.

The library reads certificates from files alone; they are lent to it as anonymous files that no one else can open.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stackd.base.errors import StackdError
from stackd.base.time import SECOND, Instant
from stackd.security.identity import Presented, identity_of


class Material(Protocol):
    """What one side shows and trusts, in PEM form."""

    @property
    def certificate(self) -> bytes: ...
    @property
    def key(self) -> bytes: ...
    @property
    def roots(self) -> bytes: ...


def mutual_context(material: Material, *, server: bool) -> ssl.SSLContext:
    """A context that shows our certificate and demands one of a trusted root. Who the other side is, is for the caller to
    look at: names are not checked. Raises StackdError("security.certificate.bad")."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=material.roots.decode())
    return _finished(context, material)


def server_context(newest: Callable[[], Material]) -> ssl.SSLContext:
    """A context of a server that shows its certificate and asks for none. `newest` is asked at every connection, so the
    certificate can be replaced while the server runs."""
    contexts: dict[bytes, ssl.SSLContext] = {}

    def present() -> ssl.SSLContext:
        material = newest()
        if material.certificate not in contexts:
            contexts.clear()
            contexts[material.certificate] = _finished(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), material)
        return contexts[material.certificate]

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = present()

    first = _finished(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), newest())
    first.sni_callback = choose
    return first


def client_context(roots: bytes) -> ssl.SSLContext:
    """A context of a client without a certificate, which accepts servers of these roots that hold the expected name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=roots.decode())
    return context


def unverified_context() -> ssl.SSLContext:
    """A context that accepts any server: only for what is checked by other means, as a root is by a token's digest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_verified(certificate: Mapping[str, Any]) -> Presented:
    """What the certificate of a connection's other side says, once TLS has verified it: `certificate` is in the form of
    `ssl.SSLSocket.getpeercert`, which doesn't name the key that signed. Raises StackdError("security.certificate.bad")."""
    subject = [pair for part in certificate.get("subject", ()) for pair in part]

    def values(key: str) -> list[str]:
        return [value for name, value in subject if name == key]

    identity = identity_of(values("organizationName"), values("organizationalUnitName"), values("commonName"))
    return Presented(
        identity=identity,
        serial=int(certificate["serialNumber"], 16),
        not_before=_instant(certificate["notBefore"]),
        not_after=_instant(certificate["notAfter"]),
        issuer_key="",
    )


def _instant(text: str) -> Instant:
    return Instant(ssl.cert_time_to_seconds(text) * SECOND)


def _finished(context: ssl.SSLContext, material: Material) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, material.certificate + b"\n" + material.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as exc:
        raise StackdError("security.certificate.bad", f"certificate and key can't be used: {exc.reason}") from exc
    finally:
        os.close(descriptor)
    return context
