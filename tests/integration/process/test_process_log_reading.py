"""Logs of process tasks while they are written and rotated."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from process_host import Bench, drive, lines_of, sh, until_logged

pytestmark = pytest.mark.needs("root", "net")


def test_a_follower_sees_every_line_as_it_comes_and_then_the_end(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = await bench.running(sh("echo 0; for i in 1 2 3; do sleep 0.1; echo $i; done; printf 4"))
        lines = await lines_of(task, follow=True)
        assert [line.line for line in lines] == [b"0", b"1", b"2", b"3", b"4"]
        assert lines == await lines_of(task)
        assert [line.at for line in lines] == sorted(line.at for line in lines)

    drive(tmp_path, script)


def test_tail_and_since_choose_what_is_shown(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = await bench.running(sh("for i in $(seq 9); do echo $i; done; sleep 0.1; echo late"))
        await task.wait()
        assert [line.line for line in await lines_of(task, tail=2)] == [b"9", b"late"]
        assert await lines_of(task, tail=0) == []
        last = (await lines_of(task))[-1]
        assert await lines_of(task, since=last.at) == [last]

    drive(tmp_path, script)


def test_logs_are_rotated_and_a_follower_loses_nothing_it_can_keep_up_with(tmp_path: Path) -> None:
    """22 MB of output against 10 MB per file; the newest lines of the follower and of a later reader are the same."""

    async def script(bench: Bench) -> None:
        write = "import sys\nfor i in range(220000): sys.stdout.write(f'{i:09d}' + 'x' * 90 + chr(10))"
        task = bench.controller(sh(f'exec python3 -c "{write}"'))
        await task.prepare()
        following = asyncio.create_task(lines_of(task, follow=True))
        await task.start()
        seen = await following
        numbers = [int(line.line[:9]) for line in seen]
        assert numbers[-1] == 219_999
        assert numbers == sorted(set(numbers))
        kept = await lines_of(task)
        assert kept == seen[-len(kept) :]
        sizes = [path.stat().st_size for path in tmp_path.glob("tasks/*/log*")]
        assert len(sizes) == 3
        assert max(sizes) <= 10_000_000

    drive(tmp_path, script)


def test_a_long_line_is_cut_and_bytes_stay_as_they_are(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = await bench.running(sh("head -c 40000 /dev/zero | tr '\\0' a; echo; printf '\\377\\n\\n'"))
        await task.wait()
        lines = [line.line for line in await lines_of(task)]
        assert [len(line) for line in lines] == [16384, 16384, 7232, 1, 0]
        assert lines[3] == b"\xff"

    drive(tmp_path, script)


def test_a_task_that_says_nothing_has_no_lines(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("true")
        assert await lines_of(bench.controller(context)) == []
        task = await bench.running(context)
        await task.wait()
        assert await lines_of(task, follow=True) == []

    drive(tmp_path, script)


def test_a_follower_that_goes_away_leaves_the_task_alone(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = await bench.running(sh("echo first; sleep 60"))
        await until_logged(task, "first")
        following = asyncio.create_task(lines_of(task, follow=True))
        await asyncio.sleep(0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert await task.pid() > 0

    drive(tmp_path, script)
