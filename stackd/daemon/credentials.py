"""The node's certificate on disk, and the one in use: shared by everything in the daemon that speaks TLS.

    DATA_DIR/tls/node.pem     the certificate with its intermediates, then the key; one file, so they always belong together
    DATA_DIR/tls/roots.pem    the roots that this node trusts

Both are replaced whole and durably. A new key is made for each renewal and becomes part of the file only together with its
certificate, so a crash at any moment leaves a pair that works.
"""

from __future__ import annotations

import os
from pathlib import Path

from stackd.api.secure import TlsMaterial
from stackd.base.errors import StackdError
from stackd.base.time import Instant
from stackd.security.identity import NodeKey, Presented, read_certificate, verify_certificate

DIRECTORY = "tls"
_NODE = "node.pem"
_ROOTS = "roots.pem"
_KEY_BEGINS = b"-----BEGIN PRIVATE KEY-----"


class Credentials:
    """The present certificate. `material` is what listeners and channels ask for anew at each connection."""

    def __init__(self, directory: Path, material: TlsMaterial) -> None:
        self._directory = directory
        self._material = material
        self._presented = read_certificate(material.certificate)

    @classmethod
    def exist(cls, data_dir: Path) -> bool:
        return (data_dir / DIRECTORY / _NODE).exists()

    @classmethod
    def create(cls, data_dir: Path, certificate: bytes, key: NodeKey, roots: bytes, now: Instant) -> Credentials:
        """Store a first certificate. Raises StackdError with a code of `verify_certificate`, security.certificate.other_key,
        or daemon.credentials.not_written."""
        directory = data_dir / DIRECTORY
        _check(certificate, key, roots, now)
        material = TlsMaterial(certificate, key.pem(), roots)
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            replace_file(directory / _ROOTS, roots)
            replace_file(directory / _NODE, certificate + material.key)
        except OSError as exc:
            raise _not_written(directory, exc) from exc
        return cls(directory, material)

    @classmethod
    def load(cls, data_dir: Path) -> Credentials:
        """Read what is stored. An expired certificate is no error here: it may still be renewed.
        Raises StackdError("daemon.credentials.damaged") or ("security.certificate.bad")."""
        directory = data_dir / DIRECTORY
        try:
            pair = (directory / _NODE).read_bytes()
            roots = (directory / _ROOTS).read_bytes()
        except OSError as exc:
            raise _damaged(directory, exc.strerror or str(exc)) from exc
        start = pair.find(_KEY_BEGINS)
        if start < 0:
            raise _damaged(directory, f"{_NODE} holds no key")
        certificate, key = pair[:start], pair[start:]
        if not NodeKey.load(key).owns(certificate):
            raise _damaged(directory, "key and certificate don't belong together")
        return cls(directory, TlsMaterial(certificate, key, roots))

    def material(self) -> TlsMaterial:
        return self._material

    @property
    def presented(self) -> Presented:
        """What our own certificate says."""
        return self._presented

    def renew(self, certificate: bytes, key: NodeKey, now: Instant) -> None:
        """Take another certificate of the same node and cluster (its role may differ). Raises as `create`, and StackdError
        ("security.certificate.other_node"); then the present one stands."""
        presented = _check(certificate, key, self._material.roots, now)
        ours, its = self._presented.node, presented.node
        if (ours.node_id, ours.cluster) != (its.node_id, its.cluster):
            raise StackdError("security.certificate.other_node", f"the new certificate is for node {its.node_id}")
        material = TlsMaterial(certificate, key.pem(), self._material.roots)
        try:
            replace_file(self._directory / _NODE, certificate + material.key)
        except OSError as exc:
            raise _not_written(self._directory, exc) from exc
        self._material, self._presented = material, presented

    def trust(self, roots: bytes) -> bool:
        """Trust exactly these roots from now on; whether that is new. Connections that are up stay.
        Raises StackdError("daemon.credentials.not_written")."""
        if roots == self._material.roots:
            return False
        try:
            replace_file(self._directory / _ROOTS, roots)
        except OSError as exc:
            raise _not_written(self._directory, exc) from exc
        self._material = TlsMaterial(self._material.certificate, self._material.key, roots)
        return True


def _check(certificate: bytes, key: NodeKey, roots: bytes, now: Instant) -> Presented:
    presented = verify_certificate(certificate, roots, now)
    if not key.owns(certificate):
        raise StackdError("security.certificate.other_key", "the certificate is not for the key that asked for it")
    return presented


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file that nobody else may read: whole or not at all, and durably. Raises OSError."""
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _damaged(directory: Path, why: str) -> StackdError:
    return StackdError(
        "daemon.credentials.damaged",
        f"the node's certificate in {directory} can't be used: {why}",
        hint="put the directory back from a backup, or remove the node from the cluster and let it join again",
    )


def _not_written(directory: Path, error: OSError) -> StackdError:
    return StackdError("daemon.credentials.not_written", f"can't write to {directory}: {error.strerror or error}")
