"""The path on the host that the source of a bind mount means."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from stackd.base.errors import StackdError
from stackd.spec.mounts import is_windows_path


def host_path(source: str, directory: str | None, environment: Mapping[str, str]) -> str:
    """The absolute path of `source`: `~` is the home of who deploys, relative paths start from the project's `directory`,
    which is None for a stack from git. Raises StackdError `spec.mount.home` or `spec.mount.relative_in_git`."""
    if source.startswith("~"):
        home = environment.get("HOME", "")
        if not home or source[1:2] not in ("", "/"):
            raise StackdError("spec.mount.home", f'"{source}" means nothing here', hint="write the whole path")
        return home + source[1:]
    if source.startswith(("/", "\\")) or is_windows_path(source):
        return source
    if directory is None:
        message = f'"{source}" is relative, and a stack from git has no folder on the node'
        hint = "use a config for a small file, a named volume for data, or an absolute path of the node"
        raise StackdError("spec.mount.relative_in_git", message, hint=hint)
    return posixpath.normpath(posixpath.join(directory, source))
