"""A directory as a tree of stack files, and the side files that a stack in it may read.

Symbolic links are followed to find stack files, wherever they lead: whoever may write to the directory put them there.
Side files are another matter, because a stack file may come from elsewhere: the path it names has to end inside the
directory, or inside the folder its stack file stands in. Nothing is ever written.
"""

from __future__ import annotations

import os
import posixpath
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from stackd.base.errors import StackdError
from stackd.gitops.discovery import may_be_stack_file
from stackd.spec.files import MAX_FILE_BYTES
from stackd.spec.load import MAX_BYTES

UNSETTLED_NS = 100_000_000
"""A file changed less than 0.1 s ago may change again within one tick of the file system's clock (up to 10 ms), unseen
by its times: it is read again at the next look."""

MAX_ENTRIES = 200_000
"""A directory with more entries isn't a source but a mistake (a whole home, say)."""


class DirectoryFiles:
    """The files of folder `base` (relative to `root`, "" is the root itself). `confined` False lifts all limits on where
    a path may lead: for files that a person applies from their own machine."""

    def __init__(self, root: Path, base: str = "", *, confined: bool = True) -> None:
        self._folder = Path(os.path.abspath(root / base))
        self._confined = confined
        self._allowed = (os.path.realpath(root), os.path.realpath(self._folder))

    @property
    def directory(self) -> str:
        return str(self._folder)

    def text(self, name: str) -> bytes:
        # A link to a stack file may lead out of the directory.
        return _read(os.path.join(self._folder, name), name, MAX_BYTES + 1)

    def read(self, path: str) -> bytes:
        data = _read(self._locate(path), path, MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise StackdError("spec.file.too_large", f'"{path}" is larger than {MAX_FILE_BYTES} bytes')
        return data

    def fingerprint(self, path: str) -> str | None:
        try:
            found = os.stat(os.path.join(self._folder, path))
        except (OSError, ValueError) as exc:
            return f"error {type(exc).__name__}"
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < UNSETTLED_NS:
            return None
        return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"

    def _locate(self, path: str) -> str:
        if "\0" in path:
            raise _missing(path)
        if not self._confined:
            return os.path.join(self._folder, path)
        real = os.path.realpath(os.path.join(self._folder, path))
        if os.path.isabs(path) or not any(os.path.commonpath((real, top)) == top for top in self._allowed):
            raise StackdError(
                "spec.file.escapes",
                f'"{path}" lies outside of the source',
                hint="put the file into the source and name it by a relative path",
            )
        return real


class DirectoryTree:
    """All of a directory. `exclude` are folders that don't belong to it, such as the daemon's own data directory."""

    def __init__(self, root: Path, *, exclude: tuple[Path, ...] = (), confined: bool = True) -> None:
        self._root = root
        self._exclude = frozenset(os.path.realpath(path) for path in exclude)
        self._confined = confined
        self.linked_folders: set[str] = set()
        """Real paths of the folders that the last walk reached through links."""

    def files(self, folder: str) -> DirectoryFiles:
        return DirectoryFiles(self._root, folder, confined=self._confined)

    def paths(self) -> list[str]:
        """What may be stack files, relative to the root. Raises StackdError `source.unreadable` if any folder can't be
        listed: stacks that can't be seen must not look like stacks that were deleted."""
        self.linked_folders = set()
        found: list[str] = []
        visited: set[tuple[int, int]] = set()
        # Links are followed last, so that a folder inside the directory is known by its own path.
        links: list[str] = []
        budget = MAX_ENTRIES
        waiting = [""]
        while waiting or links:
            linked = not waiting
            folder = links.pop(0) if linked else waiting.pop()
            if not self._enter(folder, visited):
                continue
            if linked:
                self.linked_folders.add(os.path.realpath(self._root / folder))
            for entry in self._list(folder):
                budget -= 1
                path = posixpath.join(folder, entry.name)
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif may_be_stack_file(entry.name) and _is_file(entry):
                    found.append(path)
                elif entry.is_symlink() and _is_folder(entry):
                    links.append(path)
            if budget < 0:
                raise StackdError(
                    "source.too_large", f"{self._root} has more than {MAX_ENTRIES} entries", hint="name a smaller folder"
                )
        return found

    def _enter(self, folder: str, visited: set[tuple[int, int]]) -> bool:
        """Whether the folder is still to be walked: each real folder is, once."""
        try:
            found = os.stat(self._root / folder)
        except FileNotFoundError:
            if not folder:
                raise _unreadable(self._root, "it doesn't exist") from None
            return False
        except OSError as exc:
            raise _unreadable(self._root / folder, _reason(exc)) from exc
        identity = (found.st_dev, found.st_ino)
        if identity in visited or os.path.realpath(self._root / folder) in self._exclude:
            return False
        visited.add(identity)
        return True

    def _list(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                yield from entries
        except FileNotFoundError:
            return  # removed since its parent was listed
        except OSError as exc:
            raise _unreadable(self._root / folder, _reason(exc)) from exc


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A dangling link counts: its stack file is missing, not deleted."""
    try:
        return entry.is_file() or (entry.is_symlink() and not entry.is_dir())
    except OSError:
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _read(real: str, shown: str, limit: int) -> bytes:
    """Up to `limit` bytes of a regular file. Opened without blocking, or a named pipe would hold the reader for ever."""
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StackdError("spec.file.missing", f'"{shown}" is not a file')
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(limit)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise _missing(shown) from exc
    except OSError as exc:
        raise StackdError("spec.file.unreadable", f'"{shown}" can\'t be read: {_reason(exc)}') from exc


def _missing(path: str) -> StackdError:
    return StackdError("spec.file.missing", f'there is no file "{path}"', hint="paths start from the stack file's folder")


def _unreadable(path: Path, reason: str) -> StackdError:
    return StackdError("source.unreadable", f"{path} can't be read: {reason}")


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()
