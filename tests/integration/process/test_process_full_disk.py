"""Process tasks whose disk has no room left, for bytes or for files: what passes is repeated, and what was prepared runs to its
end."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from stackd.base.errors import Retry, TaskFault

from process_host import Bench, drive, sh

pytestmark = pytest.mark.needs("root", "net")

PAGE = 4096
STEPS_MAX = 60
"""Of room, after which a task must fit."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB and 200 files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=200", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


class Bytes:
    """Ballast that takes all bytes but for some pages."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"

    def fill(self, but: int = 0) -> None:
        with self._file.open("ab", buffering=0) as file:
            _until_full(lambda: file.write(bytes(PAGE)))
            file.truncate(os.fstat(file.fileno()).st_size - but * PAGE)

    def empty(self) -> None:
        self._file.unlink()


class Files:
    """Ballast that takes all files there may be but for some."""

    def __init__(self, disk: Path) -> None:
        self._directory = disk / "ballast"
        self._directory.mkdir()
        self._names = itertools.count()

    def fill(self, but: int = 0) -> None:
        _until_full(self._add_one)
        for path in list(self._directory.iterdir())[:but]:
            path.unlink()

    def _add_one(self) -> None:
        (self._directory / str(next(self._names))).touch()

    def empty(self) -> None:
        for path in self._directory.iterdir():
            path.unlink()


def _until_full(add: Callable[[], object]) -> None:
    while True:
        try:
            add()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


async def fault_of(step: Awaitable[object]) -> TaskFault | None:
    try:
        await step
    except TaskFault as fault:
        return fault
    return None


@pytest.mark.parametrize("kind", [Bytes, Files])
def test_a_task_for_which_there_is_no_room_is_repeated_and_one_that_was_prepared_runs_to_its_end(
    small_disk: Path, kind: type[Bytes | Files]
) -> None:
    ballast = kind(small_disk)

    async def script(bench: Bench) -> None:
        refused = 0
        task = bench.controller(sh("exit 3"))
        for room in range(STEPS_MAX):
            ballast.fill(but=room)
            fault = await fault_of(task.prepare())
            if fault is None:
                break
            assert fault.retry is Retry.LATER, f"{fault.code}: {fault.message}"
            assert "no space left" in fault.message.lower(), fault.message
            refused += 1
            ballast.empty()
        assert 1 < refused < STEPS_MAX, "it was tried with too little room, and with enough"
        ballast.fill()
        await task.start()
        ended = await task.wait()
        assert (ended.code, ended.error) == (3, "task: non-zero exit (3)")
        ballast.empty()

    drive(small_disk / "state", script)
