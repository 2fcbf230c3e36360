"""The program as another user can run it: an interpreter and an import path that this user may read.

The environment of the tests may lie in root's home, and a checkout in a folder that only its owner may enter. Then checkout
and libraries are copied, once per run, to a temporary folder that everybody may read.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOBODY = 65534
NEEDED = "import stackd.cli.main, grpc, msgspec, pytest, ruamel.yaml"


@dataclass(frozen=True)
class Program:
    """`python` runs `root`/stackd with `path` as its PYTHONPATH."""

    python: str
    root: Path
    path: str

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": self.path, "PYTHONDONTWRITEBYTECODE": "1"}


def as_user(uid: int) -> dict[str, Any]:
    """Arguments of subprocess calls that run as `uid` and nothing else; none where we are that user."""
    if uid == os.geteuid():
        return {}
    return {"user": uid, "group": uid, "extra_groups": ()}


@functools.cache
def program_for(uid: int) -> Program:
    """A program that `uid` can run. Raises AssertionError where there is none, which is no reason to skip."""
    for program in _candidates():
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **program.environment}
            command = [program.python, "-c", NEEDED]
            subprocess.run(command, check=True, capture_output=True, cwd="/", env=environment, timeout=60, **as_user(uid))
            return program
    raise AssertionError(f"no Python {_version()} here that user {uid} may run with what the tests need")


def _version() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _candidates() -> Iterator[Program]:
    pythons = [sys.executable, f"/usr/local/bin/{_version()}", f"/usr/bin/{_version()}"]
    libraries = [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    yield from (_program(python, ROOT, libraries) for python in pythons)
    root, copied = _copies(libraries)
    yield from (_program(python, root, copied) for python in pythons)


def _program(python: str, root: Path, libraries: list[Path]) -> Program:
    return Program(python, root, os.pathsep.join(map(str, (root, root / "tests", *libraries))))


@functools.cache
def _copied() -> Path:
    place = Path(tempfile.mkdtemp(prefix="stackd-readable-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)
    return place


def _copies(libraries: list[Path]) -> tuple[Path, list[Path]]:
    place = _copied()
    ignore = shutil.ignore_patterns("__pycache__", "mypy", "mypyc", "ruff*", "pip")
    for name in ("stackd", "tests", "examples", "schemas"):
        shutil.copytree(ROOT / name, place / "checkout" / name, ignore=ignore)
    targets = [place / f"libraries{number}" for number, _ in enumerate(libraries)]
    for library, target in zip(libraries, targets, strict=True):
        shutil.copytree(library, target, ignore=ignore)
    for folder, _, files in os.walk(place):
        os.chmod(folder, 0o755)
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)
    return place / "checkout", targets
