"""The small port to a directory of files that only grow, and its real form.

Log and snapshots do all their file operations through it, so that tests and the simulator can put an in-memory disk
beneath them that fills up, fails, and loses what was not synced (`memory_disk.py`). Names are plain file names.
All operations raise OSError; nothing here retries or translates.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Protocol

TEMPORARY = ".tmp"
"""Ending of a file that isn't whole yet. Nothing reads one; a start removes those a crash left behind."""


class DiskFile(Protocol):
    """An open file: it is written at its end, or cut. Its end is where the last write ended, or the last cut was made."""

    def write(self, data: bytes | memoryview) -> int:
        """Write `data` at the end or, when the disk is nearly full, only its beginning; returns how many bytes."""
        ...

    def reserve(self, size: int) -> None:
        """Put up to `size` zero bytes behind the end, which stays where it is. What is written next takes their place;
        what is left of them is part of the file until it is cut."""
        ...

    def sync(self) -> None:
        """Return once everything written, and the size, is on the medium."""
        ...

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """One directory."""

    def path_of(self, name: str) -> str:
        """What a person calls the file."""
        ...

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def read_part(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, or what there is of them."""
        ...

    def create(self, name: str) -> DiskFile:
        """Open a new file; raises FileExistsError if there is one."""
        ...

    def extend(self, name: str) -> DiskFile:
        """Open an existing file for appending."""
        ...

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def sync_names(self) -> None:
        """Return once every create, rename and remove is on the medium."""
        ...


def reason(error: OSError) -> str:
    """What the operating system says, without number and path: our messages name the path."""
    return error.strerror or str(error)


def write_all(file: DiskFile, data: bytes) -> None:
    """Append all of `data`, going on after short writes; the error of a full disk then comes from the next write."""
    rest = memoryview(data)
    while rest:
        written = file.write(rest)
        if written <= 0:
            raise OSError(errno.EIO, "the disk took no data")
        rest = rest[written:]


def remove_temporary(disk: Disk) -> None:
    """Remove what a crash left half-written. Nothing names these files, so failing to is harmless."""
    for name in disk.names():
        if name.endswith(TEMPORARY):
            disk.remove(name)


class SystemFile:
    """A file of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = os.fstat(descriptor).st_size

    def write(self, data: bytes | memoryview) -> int:
        written = os.pwrite(self._descriptor, data, self._end)
        self._end += written
        return written

    def reserve(self, size: int) -> None:
        # Blocks that are merely allocated would be no help: a file system takes note of the first write to each of them.
        os.pwrite(self._descriptor, bytes(size), self._end)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)  # includes the size: the data could not be read back without it

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._end = size

    def close(self) -> None:
        os.close(self._descriptor)


class SystemDisk:
    """A directory of the operating system. Files are for their owner alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path_of(self, name: str) -> str:
        return str(self._path / name)

    def names(self) -> list[str]:
        return sorted(os.listdir(self._path))

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def read_part(self, name: str, offset: int, size: int) -> bytes:
        with (self._path / name).open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(size)

    def create(self, name: str) -> SystemFile:
        return self._open(name, os.O_CREAT | os.O_EXCL)

    def extend(self, name: str) -> SystemFile:
        return self._open(name, 0)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._path / old, self._path / new)

    def remove(self, name: str) -> None:
        os.unlink(self._path / name)

    def sync_names(self) -> None:
        sync_directory(self._path)

    def _open(self, name: str, flags: int) -> SystemFile:
        flags |= os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        return SystemFile(os.open(self._path / name, flags, 0o600))


def sync_directory(path: Path) -> None:
    """Return once the names in `path` are on the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
