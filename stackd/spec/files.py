"""Where side files come from: env files, configs and secrets that a stack file names.

The loader is pure, so it reads through a `Files` capability that it is handed. Limits and escape checks live in the
implementations: `DictFiles` here, a directory or a git tree elsewhere. What a kind of object may weigh is checked by the
loader, because only it knows what a file is for.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Protocol

from stackd.base.errors import StackdError

MAX_CONFIG_BYTES = 1000 * 1024 - 1
"""A config is smaller than 1000 KiB (semantics 26): it travels in log entries and agent streams."""

MAX_SECRET_BYTES = 500 * 1024 - 1
"""A secret is smaller than 500 KiB (semantics 26)."""

MAX_FILE_BYTES = MAX_CONFIG_BYTES
"""No implementation needs to hand out more than the largest thing that may be made of a file."""


class Files(Protocol):
    """Reads side files by the path that the stack file gives, relative to the stack file's folder."""

    @property
    def directory(self) -> str | None:
        """The absolute folder on the host that relative bind mounts start from; None where there is none (a git tree)."""
        ...

    def read(self, path: str) -> bytes:
        """The file's content; raises StackdError `spec.file.missing`, `spec.file.escapes` or `spec.file.too_large`."""
        ...


class DictFiles:
    """Files held in memory, by normalised relative path."""

    def __init__(self, contents: Mapping[str, bytes], *, directory: str | None = None) -> None:
        self._contents = {posixpath.normpath(path): data for path, data in contents.items()}
        self._directory = directory

    @property
    def directory(self) -> str | None:
        return self._directory

    def read(self, path: str) -> bytes:
        data = self._contents.get(path_inside(path))
        if data is None:
            raise StackdError(
                "spec.file.missing", f'there is no file "{path}"', hint="paths start from the stack file's folder"
            )
        return checked_size(path, data)


def path_inside(path: str) -> str:
    """`path` normalised; raises StackdError `spec.file.escapes` if it is absolute or leads out of the folder it starts from."""
    normal = posixpath.normpath(path)
    if posixpath.isabs(normal) or normal == ".." or normal.startswith("../") or "\0" in path:
        raise StackdError(
            "spec.file.escapes",
            f'"{path}" lies outside of the stack\'s source',
            hint="move the file beside the stack file and name it by a relative path",
        )
    return normal


def checked_size(path: str, data: bytes) -> bytes:
    """`data`; raises StackdError `spec.file.too_large` above the limit of any side file."""
    if len(data) > MAX_FILE_BYTES:
        raise StackdError("spec.file.too_large", f'"{path}" has {len(data)} bytes; the limit is {MAX_FILE_BYTES}')
    return data
