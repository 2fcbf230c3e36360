"""Runs cases_unprivileged.py as a normal user: as oneself, or, under root, as nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("cases_unprivileged.py")
ROOT = Path(__file__).parents[3]
NOBODY = 65534


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="stackd-test-"))
    try:
        if os.geteuid() == 0:
            os.chown(made, NOBODY, NOBODY)
        yield made
    finally:
        shutil.rmtree(made)


def environment(directory: Path) -> dict[str, str]:
    paths = ":".join(filter(None, [str(ROOT), str(ROOT / "tests"), *sys.path[1:]]))
    return {"PATH": "/usr/sbin:/usr/bin:/bin", "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(directory)}


def as_normal_user(directory: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `command`; its files go below `directory`."""
    person = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command,
        cwd=directory,
        env=environment(directory),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        **person,
    )


def interpreter(directory: Path) -> str:
    """One that a normal user may run and that finds what the tests need; under root ours may lie in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/local/bin/{version}", f"/usr/bin/{version}"):
        if os.path.exists(candidate):
            try:
                tried = as_normal_user(directory, [candidate, "-c", "import msgspec, pytest, stackd"])
            except PermissionError:
                continue
            if tried.returncode == 0:
                return candidate
    pytest.skip("no interpreter that a normal user may run")


def test_the_process_executor_works_for_a_normal_user(directory: Path) -> None:
    command = [interpreter(directory), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", str(CASES)]
    done = as_normal_user(directory, [*command, f"--basetemp={directory}/tmp"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.needs("root")
def test_root_without_the_right_to_make_namespaces_is_a_normal_user(directory: Path) -> None:
    """As in a container that was started without any privileges."""
    chosen = ["-k", "plain_process or later_daemon or ends_with_it or claim"]
    limited = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command = [*limited, f"--rootdir={ROOT}", str(CASES), *chosen, f"--basetemp={directory}/tmp"]
    done = subprocess.run(
        command, cwd=directory, env=environment(directory), capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
