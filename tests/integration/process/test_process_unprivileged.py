"""Runs cases_unprivileged.py as a normal user: as oneself, or, under root, as nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from other_user import NOBODY, ROOT, Program, as_user, program_for

CASES = Path(__file__).with_name("cases_unprivileged.py")


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="stackd-test-"))
    try:
        if os.geteuid() == 0:
            os.chown(made, NOBODY, NOBODY)
        yield made
    finally:
        shutil.rmtree(made)


def test_the_process_executor_works_for_a_normal_user(directory: Path) -> None:
    uid = NOBODY if os.geteuid() == 0 else os.geteuid()
    program = program_for(uid)
    done = run_cases(directory, [program.python], program, **as_user(uid))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.needs("root")
def test_root_without_the_right_to_make_namespaces_is_a_normal_user(directory: Path) -> None:
    """As in a container that was started without any privileges."""
    limited = ["setpriv", "--bounding-set=-sys_admin", sys.executable]
    own = Program(sys.executable, ROOT, ":".join(map(str, (ROOT, ROOT / "tests", *filter(None, sys.path)))))
    done = run_cases(directory, limited, own, "-k", "plain_process or later_daemon or ends_with_it or claim")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def run_cases(
    directory: Path, python: list[str], program: Program, *chosen: str, **person: Any
) -> subprocess.CompletedProcess[str]:
    """Run cases_unprivileged.py; its files go below `directory`."""
    command = [
        *python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={program.root}",
        f"--basetemp={directory}/tmp",
    ]
    cases = program.root / CASES.relative_to(ROOT)
    environment = {"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(directory), **program.environment}
    return subprocess.run(
        [*command, str(cases), *chosen],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        **person,
    )
