"""The keys of a node and a cluster, and sealing with them.

A key file holds one root key of 256 bits, readable by its owner alone. The root key itself encrypts nothing: every
purpose has a key of its own, derived with HKDF-SHA256, so what is sealed for one purpose can't be opened for another and
the name of a secret says nothing about the key of the log. Sealing is AES-256-GCM.

Key files are not encrypted here; no key is ever written to a log or shown by repr.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import itertools
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from stackd.base.errors import StackdError
from stackd.base.ids import BlobDigest

KEY_BYTES = 32
NONCE_BYTES = 12
_FILE_TAG = "stackd-key"
_FILE_VERSION = "1"
_NAME_LENGTH = 32


class Purpose(enum.StrEnum):
    """What a derived key is for. The words are part of the format: changing one makes old data unreadable."""

    LOG = "log"
    BLOB = "blob"
    NAME = "name"


class RootKey:
    """A root key, and the keys derived from it. Create one with `create_key`, read one with `load_key`."""

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise ValueError(f"a root key has {KEY_BYTES} bytes")
        self._material = material
        self._naming = self._derive(Purpose.NAME)
        self._blobs = self.sealer(Purpose.BLOB)

    def __repr__(self) -> str:
        return f"RootKey({self.key_id})"

    @property
    def key_id(self) -> str:
        """Names the key without telling anything about it: 16 hexadecimal characters."""
        return _key_id(self._material)

    def sealer(self, purpose: Purpose) -> AesGcmSealer:
        """The sealer of one purpose; it satisfies `raft.consensus.Sealer`."""
        return AesGcmSealer(self._derive(purpose))

    def name_secret(self, data: bytes) -> BlobDigest:
        """The name of a secret: 32 hexadecimal characters that only a holder of the key can compute, so that whoever sees
        the name can't try passwords against it. Equal content has equal names."""
        return BlobDigest(hmac.new(self._naming, data, hashlib.sha256).hexdigest()[:_NAME_LENGTH])

    def seal_blob(self, data: bytes, digest: BlobDigest) -> bytes:
        """Encrypt a blob; it opens only under the same digest."""
        return self._blobs.seal(data, digest.encode())

    def open_blob(self, sealed: bytes, digest: BlobDigest) -> bytes:
        """The content of a sealed blob. Raises StackdError("security.seal.broken")."""
        return self._blobs.open(sealed, digest.encode())

    def _derive(self, purpose: Purpose) -> bytes:
        # The material is already uniformly random, so HKDF's extract step (RFC 5869, section 3.3) is not needed.
        return HKDFExpand(SHA256(), KEY_BYTES, f"stackd/v1/{purpose}".encode()).derive(self._material)


class AesGcmSealer:
    """AES-256-GCM. A sealed text is nonce, ciphertext, tag: 28 bytes longer than the plain one.

    Nonces count up from a random start, one start per sealer (NIST SP 800-38D, section 8.2.2): unlike independent random
    nonces they don't collide after 2^48 messages under one key, which a log that lives for years may write.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._key_id = _key_id(key)
        self._nonces = itertools.count(int.from_bytes(os.urandom(NONCE_BYTES)))  # next() is atomic, so threads may share it

    @property
    def key_id(self) -> str:
        return self._key_id

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        nonce = (next(self._nonces) % (1 << 8 * NONCE_BYTES)).to_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plaintext, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Raises StackdError("security.seal.broken") unless sealed with this key and this associated data."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
        except (InvalidTag, ValueError) as exc:  # ValueError: too short to hold a nonce
            raise StackdError("security.seal.broken", "the data was not sealed with this key, or was changed since") from exc


def create_key(path: Path) -> RootKey:
    """Make a new key and write it to `path`, mode 0600. The file is whole and on disk on return, or doesn't exist.
    Raises StackdError("security.key.exists") or ("security.key.not_written")."""
    key = secrets.token_bytes(KEY_BYTES)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            _write_durably(temporary, _encode(key))
            os.link(temporary, path)  # unlike a rename, a link refuses to replace another key
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except FileExistsError as exc:
        raise StackdError("security.key.exists", f"there is already a key in {path}; it is kept") from exc
    except OSError as exc:
        raise StackdError("security.key.not_written", f"can't write the key {path}: {exc.strerror}") from exc
    return RootKey(key)


def load_key(path: Path) -> RootKey:
    """Read the key in `path`.
    Raises StackdError with security.key.missing, .unreadable, .wrong_mode, .damaged or .newer_version."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise StackdError(
            "security.key.missing",
            f"the key {path} is missing; without it the data beside it can't be read",
            hint="put the key file back from a backup",
        ) from exc
    except OSError as exc:
        raise StackdError("security.key.unreadable", f"can't read the key {path}: {exc.strerror}") from exc
    with os.fdopen(descriptor, "rb") as file:
        _check_mode(path, os.fstat(file.fileno()))
        return RootKey(_decode(path, file.read(4096)))


def _key_id(key: bytes) -> str:
    return hmac.new(key, b"stackd/v1/key id", hashlib.sha256).hexdigest()[:16]


def _encode(key: bytes) -> bytes:
    text = base64.b64encode(key).decode()
    return f"{_FILE_TAG}:{_FILE_VERSION}:{text}:{_checksum(key)}\n".encode()


def _decode(path: Path, content: bytes) -> bytes:
    damaged = StackdError(
        "security.key.damaged", f"{path} is not a whole stackd key", hint="put the key file back from a backup"
    )
    try:
        tag, version, text, _ = content.decode().strip().split(":")
        if tag == _FILE_TAG and version.isdigit() and int(version) > int(_FILE_VERSION):
            why = f"the key {path} was written by a newer stackd"
            raise StackdError("security.key.newer_version", why, hint="upgrade stackd")
        key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as exc:  # not UTF-8, not four parts, not base64
        raise damaged from exc
    if len(key) != KEY_BYTES or content.strip() != _encode(key).strip():
        raise damaged
    return key


def _checksum(key: bytes) -> str:
    """Tells a damaged file from a key; it is derived one way, so it doesn't weaken the key."""
    return hashlib.sha256(b"stackd/v1/key file" + key).hexdigest()[:8]


def _check_mode(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StackdError("security.key.damaged", f"{path} is not a regular file")
    if status.st_mode & 0o077:
        raise StackdError(
            "security.key.wrong_mode",
            f"the key {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"consider it known, or run: chmod 600 {path}",
        )


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
