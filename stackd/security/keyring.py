"""The keys of one node: the cluster's, the log's, and the one that wraps them.

    key-encryption key   wraps the others in the key file; stands in it too, unless autolock is on
    cluster key          the same on all managers: seals and names secrets, seals backups
    log keys             of this node alone: seal its log and snapshots

Rotating the log key rewrites nothing. New segments and snapshots are sealed with the new key; the old ones stay readable
until they are collected, and only then may their key be forgotten (`forget_log_keys`). Rotating the key-encryption key
wraps the others anew. With autolock it is called unlock key, and people keep it: without it nothing on the disk opens.

The file is always written first; what is in memory follows only what is on the disk.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Collection
from pathlib import Path

from stackd.base.errors import StackdError
from stackd.security import keyfile
from stackd.security.keyfile import Contents, Wrapped
from stackd.security.keys import KEY_BYTES, AesGcmSealer, Purpose, RootKey

_UNLOCK_PREFIX = "stackd-unlock-1-"
_CHECK_BYTES = 3
_CLUSTER = b"cluster"
_LOG = b"log"


class LogKeys:
    """The log keys of a node: it satisfies `raft.consensus.Keyring`.

    Threads may read it while another rotates: each reading sees the ring before or after."""

    def __init__(self, keys: Collection[bytes]) -> None:
        self._sealers = {sealer.key_id: sealer for sealer in map(AesGcmSealer, keys)}
        self._current = next(reversed(self._sealers.values()))

    @property
    def current(self) -> AesGcmSealer:
        return self._current

    def find(self, key_id: str) -> AesGcmSealer | None:
        return self._sealers.get(key_id)

    def key_ids(self) -> list[str]:
        """Oldest first."""
        return list(self._sealers)

    def add(self, sealer: AesGcmSealer) -> None:
        """Seal with this one from now on."""
        self._sealers = {**self._sealers, sealer.key_id: sealer}
        self._current = sealer

    def keep(self, key_ids: Collection[str]) -> None:
        """Forget all others."""
        self._sealers = {key_id: sealer for key_id, sealer in self._sealers.items() if key_id in key_ids}


class NodeKeys:
    """The opened key file of a node. Made with `create`, `open` or `parse`."""

    def __init__(self, path: Path, contents: Contents, kek: RootKey) -> None:
        wrapper = kek.sealer(Purpose.WRAP)
        self._path = path
        self._contents = contents
        self._kek = kek
        self.cluster = RootKey(_unwrap(path, wrapper, contents.cluster, _CLUSTER))
        self.log = LogKeys([_unwrap(path, wrapper, log, _LOG) for log in contents.logs])

    def __repr__(self) -> str:
        return f"NodeKeys({self._path}, cluster={self.cluster.key_id}, log={self.log.current.key_id})"

    @classmethod
    def create(cls, path: Path, cluster: RootKey | None = None) -> NodeKeys:
        """Make the keys of a new node; of a new cluster, unless it is told the key of the one that it joins.
        Raises StackdError("security.key.exists") or ("security.key.not_written")."""
        kek = RootKey.generate()
        contents = _contents(kek, cluster or RootKey.generate(), [secrets.token_bytes(KEY_BYTES)], store_kek=True)
        keyfile.create(path, contents)
        return cls(path, contents, kek)

    @classmethod
    def open(cls, path: Path, unlock_key: str = "") -> NodeKeys:
        """Read the key file. One of the first version is replaced by one of this version, with the same keys in it.

        Raises StackdError as `keyfile.read` does; security.key.locked if it needs an unlock key, .wrong_unlock_key or
        .bad_unlock_key if it isn't this one; .damaged if the keys don't open. Nothing has changed then."""
        found = keyfile.read(path)
        if isinstance(found, Contents):
            return cls(path, found, _kek(path, found, unlock_key))
        contents, kek = _brought_up_to_date(found)
        keyfile.replace(path, contents)
        return cls(path, contents, kek)

    @classmethod
    def parse(cls, content: bytes, path: Path, unlock_key: str = "") -> NodeKeys:
        """The keys in a copy of a key file, as a backup holds one, to be kept at `path`: nothing is written there yet.
        Raises as `open` does."""
        found = keyfile.parse("the copy of the key file", content)
        if isinstance(found, Contents):
            return cls(path, found, _kek(path, found, unlock_key))
        contents, kek = _brought_up_to_date(found)
        return cls(path, contents, kek)

    @property
    def autolock(self) -> bool:
        """Whether a start needs the unlock key."""
        return not self._contents.kek

    def copy(self) -> bytes:
        """The key file's content, to be kept with a backup: as secret as the file, unless autolock is on."""
        return keyfile.form(self._contents)

    def copy_to(self, path: Path) -> NodeKeys:
        """Make the keys of another node of this cluster in `path`: a log key of its own, the same way of locking.
        Raises StackdError("security.key.exists") or ("security.key.not_written")."""
        contents = _contents(self._kek, self.cluster, [secrets.token_bytes(KEY_BYTES)], store_kek=not self.autolock)
        keyfile.create(path, contents)
        return NodeKeys(path, contents, self._kek)

    def rotate_log_key(self) -> str:
        """Seal log and snapshots with a new key from the next file on; returns its id.
        Raises StackdError("security.key.not_written"), having changed nothing."""
        material = secrets.token_bytes(KEY_BYTES)
        fresh = _wrap(self._kek.sealer(Purpose.WRAP), AesGcmSealer(material).key_id, material, _LOG)
        self._store(logs=(*self._contents.logs, fresh))
        self.log.add(AesGcmSealer(material))
        return fresh.key_id

    def forget_log_keys(self, in_use: Collection[str]) -> None:
        """Forget the log keys that no file is sealed with any more (`raft.directory.key_ids`); the current one stays.
        Raises StackdError("security.key.not_written"), having changed nothing."""
        kept = {*in_use, self.log.current.key_id}
        logs = tuple(log for log in self._contents.logs if log.key_id in kept)
        if logs != self._contents.logs:
            self._store(logs=logs)
            self.log.keep(kept)

    def rotate_key_encryption_key(self) -> None:
        """Wrap the keys under a new key-encryption key, which is stored beside them: autolock is off then.
        Raises StackdError("security.key.not_written"), having changed nothing."""
        self._wrap_anew(RootKey.generate(), store_kek=True)

    def lock(self, unlock_key: str = "") -> str:
        """Turn autolock on, or change the unlock key: to a new one, unless it is told which. Returns it; it is stored
        nowhere. Raises StackdError("security.key.not_written") or (".bad_unlock_key"), having changed nothing."""
        kek = _parse_unlock_key(unlock_key) if unlock_key else RootKey.generate()
        self._wrap_anew(kek, store_kek=False)
        return _form_unlock_key(kek)

    def follow(self, unlock_key: str) -> bool:
        """Be locked with this unlock key, or not at all (""); whether that is a change. Raises as `lock` does."""
        if not unlock_key:
            if not self.autolock:
                return False
            self.rotate_key_encryption_key()
            return True
        if self.autolock and _parse_unlock_key(unlock_key).key_id == self._kek.key_id:
            return False
        self.lock(unlock_key)
        return True

    def _wrap_anew(self, kek: RootKey, *, store_kek: bool) -> None:
        wrapper = self._kek.sealer(Purpose.WRAP)
        logs = [_unwrap(self._path, wrapper, log, _LOG) for log in self._contents.logs]
        contents = _contents(kek, self.cluster, logs, store_kek=store_kek)
        keyfile.replace(self._path, contents)
        self._contents, self._kek = contents, kek

    def _store(self, *, logs: tuple[Wrapped, ...]) -> None:
        old = self._contents
        contents = Contents(kek_id=old.kek_id, kek=old.kek, cluster=old.cluster, logs=logs)
        keyfile.replace(self._path, contents)
        self._contents = contents


def new_unlock_key() -> str:
    """An unlock key that nothing is locked with yet."""
    return _form_unlock_key(RootKey.generate())


def _contents(kek: RootKey, cluster: RootKey, logs: Collection[bytes], *, store_kek: bool) -> Contents:
    wrapper = kek.sealer(Purpose.WRAP)
    return Contents(
        kek_id=kek.key_id,
        kek=kek.material if store_kek else b"",
        cluster=_wrap(wrapper, cluster.key_id, cluster.material, _CLUSTER),
        logs=tuple(_wrap(wrapper, AesGcmSealer(log).key_id, log, _LOG) for log in logs),
    )


def _brought_up_to_date(root: bytes) -> tuple[Contents, RootKey]:
    """The same keys in the present form: the first version used one root key for the cluster and the log."""
    kek, cluster = RootKey.generate(), RootKey(root)
    return _contents(kek, cluster, [cluster.derive(Purpose.LOG)], store_kek=True), kek


def _wrap(wrapper: AesGcmSealer, key_id: str, material: bytes, role: bytes) -> Wrapped:
    return Wrapped(key_id=key_id, sealed=wrapper.seal(material, role + b":" + key_id.encode()))


def _unwrap(path: Path, wrapper: AesGcmSealer, wrapped: Wrapped, role: bytes) -> bytes:
    try:
        return wrapper.open(wrapped.sealed, role + b":" + wrapped.key_id.encode())
    except StackdError as exc:
        why = f"the key {wrapped.key_id} in {path} doesn't open"
        raise StackdError("security.key.damaged", why, hint="put the key file back from a backup") from exc


def _kek(path: Path, contents: Contents, unlock_key: str) -> RootKey:
    """The key-encryption key: as stored, or as given."""
    if contents.kek:
        if len(contents.kek) != KEY_BYTES:
            raise StackdError("security.key.damaged", f"{path} is not a whole stackd key")
        return RootKey(contents.kek)
    if not unlock_key:
        why = f"the keys in {path} are locked"
        raise StackdError(
            "security.key.locked", why, hint="start with the unlock key that was shown when autolock was turned on"
        )
    kek = _parse_unlock_key(unlock_key)
    if kek.key_id != contents.kek_id:
        why = f"this is not the unlock key of {path}"
        raise StackdError("security.key.wrong_unlock_key", why, hint="it changes when it is rotated: use the newest one")
    return kek


def _form_unlock_key(kek: RootKey) -> str:
    """The unlock key as people keep it: without letters that are easily mixed up, and with a checksum."""
    text = base64.b32encode(kek.material + _check(kek.material)).decode().rstrip("=").lower()
    return _UNLOCK_PREFIX + text


def _parse_unlock_key(text: str) -> RootKey:
    """Raises StackdError("security.key.bad_unlock_key"), which never repeats what was given."""
    bad = StackdError(
        "security.key.bad_unlock_key", "this is not a whole unlock key", hint=f"it begins with {_UNLOCK_PREFIX}; copy all of it"
    )
    body = text.strip().lower().removeprefix(_UNLOCK_PREFIX).upper()
    try:
        raw = base64.b32decode(body + "=" * (-len(body) % 8))
    except ValueError as exc:  # not ASCII, not base32
        raise bad from exc
    material, check = raw[:KEY_BYTES], raw[KEY_BYTES:]
    if len(material) != KEY_BYTES or check != _check(material):
        raise bad
    return RootKey(material)


def _check(material: bytes) -> bytes:
    return hashlib.sha256(b"stackd/v1/unlock key" + material).digest()[:_CHECK_BYTES]
