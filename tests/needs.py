"""What a machine may have or lack: a test or a run that needs something says so by one of these names."""

from __future__ import annotations

import os
import shutil


def _search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _docker() -> str | None:
    if os.geteuid() != 0:
        return "not root, so no dockerd of our own can be started"
    return None if shutil.which("dockerd", path=_search_path()) else "no dockerd"


def _net() -> str | None:
    if os.geteuid() != 0:
        return "not root, so no network namespaces"
    missing = [tool for tool in ("ip", "nsenter") if not shutil.which(tool, path=_search_path())]
    return f"missing: {', '.join(missing)}" if missing else None


def _git() -> str | None:
    return None if shutil.which("git") else "no git"


_CHECKS = {"root": _root, "docker": _docker, "net": _net, "git": _git}


def lack_of(need: str) -> str | None:
    """What is missing on this machine for `need`; None if nothing is."""
    return _CHECKS[need]()
