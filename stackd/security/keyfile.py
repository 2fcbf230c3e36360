"""The file in which a node keeps its keys: its form, and how it is read, made and replaced.

    stackd-key:1:<root key>:<checksum>        one root key for everything, as the first version wrote it; still read
    stackd-key:2:<checksum>:<contents>        a key-encryption key, unless people keep it, and what it wraps

One line of text, readable by its owner alone. All keys are in one file so that any change of them is one rename: the file
says the old or the new, never half of both. What the keys are for is `keyring.py`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
from pathlib import Path

import msgspec

from stackd.base.errors import StackdError
from stackd.base.records import Record, decoder, encode
from stackd.security.keys import KEY_BYTES

_TAG = "stackd-key"
_FIRST_VERSION = 1
_VERSION = 2
_MAX_BYTES = 256 * 1024
"""Far above what a thousand rotations leave; a larger file is none of ours."""

_FROM_BACKUP = "put the key file back from a backup"


class Wrapped(Record):
    """A key, sealed under the key-encryption key."""

    key_id: str
    sealed: bytes


class Contents(Record):
    """What a key file says. `kek` is empty where autolock is on: people keep the key-encryption key."""

    kek_id: str
    kek: bytes
    cluster: Wrapped
    logs: tuple[Wrapped, ...]
    """Of this node alone, oldest first: the last one seals new files, the others open what they have sealed."""


_decode_contents = decoder(Contents).decode


def read(path: Path) -> Contents | bytes:
    """What the key file says; the bare root key if the first version wrote it.
    Raises StackdError with security.key.missing, .unreadable, .wrong_mode, .damaged or .newer_version."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        why = f"the key {path} is missing; without it the data beside it can't be read"
        raise StackdError("security.key.missing", why, hint=_FROM_BACKUP) from exc
    except OSError as exc:
        raise StackdError("security.key.unreadable", f"can't read the key {path}: {exc.strerror}") from exc
    with os.fdopen(descriptor, "rb") as file:
        _check_mode(path, os.fstat(file.fileno()))
        return parse(str(path), file.read(_MAX_BYTES))


def parse(name: str, content: bytes) -> Contents | bytes:
    """The same from a file's content; `name` is what errors call it. Raises StackdError with security.key.damaged or
    .newer_version."""
    damaged = StackdError("security.key.damaged", f"{name} is not a whole stackd key", hint=_FROM_BACKUP)
    try:
        tag, version, third, fourth = content.decode().strip().split(":")
        if tag == _TAG and version.isdigit() and int(version) > _VERSION:
            why = f"the key {name} was written by a newer stackd"
            raise StackdError("security.key.newer_version", why, hint="upgrade stackd")
        if version == str(_FIRST_VERSION):
            return _parse_first(content, base64.b64decode(third, validate=True))
        contents: Contents = _decode_contents(base64.b64decode(fourth, validate=True))
    except (ValueError, msgspec.DecodeError) as exc:  # not UTF-8, not four parts, not base64, not ours
        raise damaged from exc
    if content.strip() != form(contents).strip() or not contents.logs:
        raise damaged
    return contents


def form(contents: Contents) -> bytes:
    """`contents` as a file's content."""
    plain = encode(contents)
    return f"{_TAG}:{_VERSION}:{_checksum(plain)}:{base64.b64encode(plain).decode()}\n".encode()


def create(path: Path, contents: Contents) -> None:
    """Write a new key file, mode 0600. It is whole and on disk on return, or doesn't exist.
    Raises StackdError("security.key.exists") or ("security.key.not_written")."""
    _put(path, contents, replacing=False)


def replace(path: Path, contents: Contents) -> None:
    """Replace the key file; a crash leaves the old or the new one. Raises StackdError("security.key.not_written")."""
    _put(path, contents, replacing=True)


def _parse_first(content: bytes, key: bytes) -> bytes:
    text = base64.b64encode(key).decode()
    if len(key) != KEY_BYTES or content.strip() != f"{_TAG}:{_FIRST_VERSION}:{text}:{_checksum(key)}".encode():
        raise ValueError("not as it was written")
    return key


def _checksum(plain: bytes) -> str:
    """Tells a damaged file from a key; it is derived one way, so it doesn't weaken the keys."""
    return hashlib.sha256(b"stackd/v1/key file" + plain).hexdigest()[:8]


def _check_mode(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StackdError("security.key.damaged", f"{path} is not a regular file")
    if status.st_mode & 0o077:
        raise StackdError(
            "security.key.wrong_mode",
            f"the key {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"consider it known, or run: chmod 600 {path}",
        )


def _put(path: Path, contents: Contents, *, replacing: bool) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            _write_durably(temporary, form(contents))
            if replacing:
                temporary.rename(path)
            else:
                os.link(temporary, path)  # unlike a rename, a link refuses to replace another key
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except FileExistsError as exc:
        raise StackdError("security.key.exists", f"there is already a key in {path}; it is kept") from exc
    except OSError as exc:
        raise StackdError("security.key.not_written", f"can't write the key {path}: {exc.strerror}") from exc


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
