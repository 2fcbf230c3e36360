"""A real process, killed without warning in the middle of its writes, loses nothing that it acknowledged."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.raft.directory import DirectoryLock

APPENDER = Path(__file__).with_name("appender.py")
ROUNDS = 8


def run_and_kill(data_dir: Path, acknowledgements: int) -> tuple[list[int], list[int]]:
    """Run an appender until it has acknowledged so many numbers, kill it, and return what it found and acknowledged."""
    process = subprocess.Popen([sys.executable, str(APPENDER), str(data_dir)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        word, *found = process.stdout.readline().split()
        assert word == "found"
        lines = [process.stdout.readline() for _ in range(acknowledgements)]
    finally:
        process.kill()
        rest = process.communicate()[0]
    lines += rest.splitlines(keepends=True)
    return [int(number) for number in found], [int(line) for line in lines if line.endswith("\n")]


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: set[int] = set()
    for _ in range(ROUNDS):
        found, more = run_and_kill(tmp_path / "data", chance.randrange(1, 400))
        assert acknowledged <= set(found)
        assert len(found) == len(set(found))
        acknowledged = set(found) | set(more)
    assert len(acknowledged) > 200


def test_the_lock_names_the_process_and_ends_with_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    process = subprocess.Popen([sys.executable, str(APPENDER), str(data_dir)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StackdError) as refused:
            DirectoryLock.acquire(data_dir)
        assert refused.value.code == "raft.directory.in_use"
        assert f"process {process.pid}" in refused.value.message
    finally:
        process.kill()
        process.communicate()
    DirectoryLock.acquire(data_dir).release()
