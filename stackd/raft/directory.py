"""The directory of a member on a real disk: who may use it, and how it comes into being.

    DATA_DIR/lock                 held while a process uses DATA_DIR; holds its pid
    DATA_DIR/raft/identity.json   whose directory it is
    DATA_DIR/raft/log-*           see wal.py
    DATA_DIR/raft/snapshot-*      see snapshot.py

A new directory is built under another name and then renamed, so it exists whole or not at all. One that isn't whole was
not left by a crash: it is refused, and nothing in it is changed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stackd.base.errors import StackdError
from stackd.raft.consensus import Keyring, StorageFailed
from stackd.raft.disk import TEMPORARY, SystemDisk, reason, sync_directory, write_all
from stackd.raft.frame import FROM_BACKUP, HEADER_BYTES, LOG_MAGIC, SNAPSHOT_MAGIC, Identity, read_header
from stackd.raft.wal import Log

_IDENTITY = "identity.json"
_IDENTITY_FORMAT = 1
_SEALED = {"log-": LOG_MAGIC, "snapshot-": SNAPSHOT_MAGIC, "received-": SNAPSHOT_MAGIC}


class DirectoryLock:
    """The right to use a data directory. It ends with `release` or with the process, however that dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, data_dir: Path) -> DirectoryLock:
        """Lock `data_dir`, which is made if it doesn't exist.
        Raises StackdError("raft.directory.in_use") naming the process that has it, or ("raft.directory.unusable")."""
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise _unusable(data_dir, exc) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # In this order it needs no room on a full disk: the former process's id made it.
            os.ftruncate(descriptor, os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0))
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise _in_use(data_dir, holder) from exc
        except OSError as exc:
            os.close(descriptor)
            raise _unusable(data_dir, exc) from exc
        return cls(descriptor)

    def release(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Directory:
    """A member's directory, ready to be opened by a member."""

    disk: SystemDisk
    identity: Identity


class _IdentityFile(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    cluster: str
    member: str


def is_created(path: Path) -> bool:
    """Whether there is a member's directory at `path`, whole or not. An empty directory doesn't count."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def open_directory(path: Path, keys: Keyring, identity_if_new: Identity) -> Directory:
    """The member's directory at `path`; a new one gets an empty log. The caller holds the lock of the data directory.

    Raises StackdError with raft.directory.incomplete, .damaged_identity, .newer_version or .unusable; StorageFailed when
    there is no room for a new one."""
    if not is_created(path):
        create_directory(path, identity_if_new, lambda disk: Log.create(disk, keys, identity_if_new))
    return read_directory(path)


def read_directory(path: Path) -> Directory:
    """The member's directory at `path`, which must be there. Raises StackdError with raft.directory.incomplete,
    .damaged_identity, .newer_version or .unusable."""
    try:
        return Directory(SystemDisk(path), _read_identity(path))
    except OSError as exc:
        raise _unusable(path, exc) from exc


def create_directory(path: Path, identity: Identity, fill: Callable[[SystemDisk], None]) -> None:
    """Make the member's directory at `path`, and have `fill` put log and snapshot into it. Whatever either raises, nothing
    of it is left at `path`. Raises StorageFailed."""
    unfinished = path.with_name(path.name + ".new")
    try:
        _remove_unfinished(unfinished)
        unfinished.mkdir(mode=0o700, parents=True)
        try:
            disk = SystemDisk(unfinished)
            _write_identity(disk, identity)
            fill(disk)
            os.rename(unfinished, path)
        except BaseException:
            _remove_unfinished(unfinished)
            raise
        sync_directory(path.parent)
    except OSError as exc:
        raise StorageFailed(f"can't create {path}: {reason(exc)}") from exc


def key_ids(path: Path) -> set[str]:
    """The keys with which the files of the member's directory at `path` are sealed, apart from a snapshot that is still
    being written. Raises StackdError with raft.file.*, or raft.directory.unusable."""
    found = set()
    try:
        for file in path.iterdir():
            magic = next((magic for prefix, magic in _SEALED.items() if file.name.startswith(prefix)), None)
            if magic is not None and file.suffix != TEMPORARY:
                with file.open("rb") as opened:
                    found.add(read_header(str(file), opened.read(HEADER_BYTES), magic).key_id)
    except OSError as exc:
        raise _unusable(path, exc) from exc
    return found


def _write_identity(disk: SystemDisk, identity: Identity) -> None:
    file = disk.create(_IDENTITY)
    try:
        stored = _IdentityFile(format=_IDENTITY_FORMAT, cluster=identity.cluster, member=identity.member)
        write_all(file, msgspec.json.format(msgspec.json.encode(stored)) + b"\n")
        file.sync()
    finally:
        file.close()


def _remove_unfinished(path: Path) -> None:
    """Remove what a crash or an error in `create_directory` left: it never held anything that was acknowledged."""
    if path.exists():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


def _read_identity(path: Path) -> Identity:
    file = path / _IDENTITY
    try:
        content = file.read_bytes()
    except FileNotFoundError as exc:
        why = f"{path} is not a whole data directory: {_IDENTITY} is missing"
        raise StackdError("raft.directory.incomplete", why, hint=FROM_BACKUP) from exc
    try:
        stored = msgspec.json.decode(content, type=_IdentityFile)
    except msgspec.DecodeError as exc:
        raise StackdError("raft.directory.damaged_identity", f"{file} can't be read: {exc}", hint=FROM_BACKUP) from exc
    if stored.format > _IDENTITY_FORMAT:
        raise StackdError("raft.directory.newer_version", f"{path} was made by a newer stackd", hint="upgrade stackd")
    return Identity(stored.cluster, stored.member)


def _in_use(data_dir: Path, holder: str) -> StackdError:
    return StackdError(
        "raft.directory.in_use",
        f"{data_dir} is in use by process {holder or 'unknown'}",
        hint="stop that one first, or choose another directory with --data-dir",
    )


def _unusable(path: Path, error: OSError) -> StackdError:
    return StackdError("raft.directory.unusable", f"can't use {path}: {reason(error)}")
