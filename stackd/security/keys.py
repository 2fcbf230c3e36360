"""Keys, and sealing with them.

A root key has 256 bits. It encrypts nothing itself: every purpose has a key of its own, derived with HKDF-SHA256, so what
is sealed for one purpose can't be opened for another and the name of a secret says nothing about the key of the log.
Sealing is AES-256-GCM. Where keys are kept is `keyring.py`; no key is ever written to a log or shown by repr.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import itertools
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from stackd.base.errors import StackdError
from stackd.base.ids import BlobDigest

KEY_BYTES = 32
NONCE_BYTES = 12
_NAME_LENGTH = 32


class Purpose(enum.StrEnum):
    """What a derived key is for. The words are part of the format: changing one makes old data unreadable."""

    LOG = "log"
    """Log and snapshots of a data directory from before log keys were keys of their own."""
    BLOB = "blob"
    NAME = "name"
    BACKUP = "backup"
    AUTHORITY = "authority"
    """The keys of the certificate authority and the secrets of join tokens."""
    WRAP = "wrap"
    """The other keys of a key file."""


class RootKey:
    """A root key, and the keys derived from it.

    The cluster's is the same on all managers: secrets are named and sealed with it. A key-encryption key is one too."""

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise ValueError(f"a root key has {KEY_BYTES} bytes")
        self._material = material
        self._naming = self.derive(Purpose.NAME)
        self._blobs = self.sealer(Purpose.BLOB)

    @classmethod
    def generate(cls) -> RootKey:
        return cls(secrets.token_bytes(KEY_BYTES))

    def __repr__(self) -> str:
        return f"RootKey({self.key_id})"

    @property
    def material(self) -> bytes:
        """The key itself, for those who store it or hand it to another manager."""
        return self._material

    @property
    def key_id(self) -> str:
        """Names the key without telling anything about it: 16 hexadecimal characters."""
        return _key_id(self._material)

    def sealer(self, purpose: Purpose) -> AesGcmSealer:
        """The sealer of one purpose; it satisfies `raft.consensus.Sealer`, and `Keyring` as a ring of one."""
        return AesGcmSealer(self.derive(purpose))

    def derive(self, purpose: Purpose) -> bytes:
        """The key of one purpose."""
        # The material is already uniformly random, so HKDF's extract step (RFC 5869, section 3.3) is not needed.
        return HKDFExpand(SHA256(), KEY_BYTES, f"stackd/v1/{purpose}".encode()).derive(self._material)

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

    @property
    def current(self) -> AesGcmSealer:
        return self

    def find(self, key_id: str) -> AesGcmSealer | None:
        return self if key_id == self._key_id else None

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        nonce = (next(self._nonces) % (1 << 8 * NONCE_BYTES)).to_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plaintext, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Raises StackdError("security.seal.broken") unless sealed with this key and this associated data."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
        except (InvalidTag, ValueError) as exc:  # ValueError: too short to hold a nonce
            raise StackdError("security.seal.broken", "the data was not sealed with this key, or was changed since") from exc


def _key_id(key: bytes) -> str:
    return hmac.new(key, b"stackd/v1/key id", hashlib.sha256).hexdigest()[:16]
