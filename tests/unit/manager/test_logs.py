"""Logs of several tasks as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from stackd.api.control import LogsRequest
from stackd.api.dispatch import LogChunk
from stackd.api.views import LogLineView
from stackd.base.errors import Unavailable
from stackd.base.ids import TaskId
from stackd.base.time import Instant
from stackd.engine.model import Task
from stackd.engine.store import Store
from stackd.manager.logs import QUEUE_LIMIT, merge_logs
from stackd.simulation.loop import run

from control_builders import MemoryLogs, first
from manager_builders import a_task

VIEW = Store().view
TASKS = [a_task("t1"), a_task("t2")]


def lines(*times: int) -> list[LogChunk]:
    return [*(LogChunk(request=1, at_ns=at, line=str(at).encode()) for at in times), LogChunk(request=1, end=True)]


def a_source(**chunks: list[LogChunk] | Exception) -> MemoryLogs:
    source = MemoryLogs()
    source.chunks = dict(chunks)
    return source


async def read(source: MemoryLogs, *, follow: bool = False) -> list[LogLineView]:
    return [line async for line in merge_logs(VIEW, source, TASKS, LogsRequest(name="shop_web", follow=follow))]


def test_lines_of_all_tasks_come_in_order_of_time() -> None:
    source = a_source(t1=lines(1, 4, 5), t2=lines(2, 3, 6))
    assert [line.line for line in run(read(source))] == ["1", "2", "3", "4", "5", "6"]
    assert source.open == 0


def test_no_task_has_no_lines() -> None:
    source = a_source()

    async def story() -> list[LogLineView]:
        return [line async for line in merge_logs(VIEW, source, [], LogsRequest(name="x"))]

    assert run(story()) == []


def test_a_node_that_is_away_costs_a_warning_and_nothing_else() -> None:
    source = a_source(t1=Unavailable("manager.logs.unavailable", "node n1 is not connected"), t2=lines(1, 2))
    for follow in (False, True):
        found = run(read(source, follow=follow))
        assert [line.line for line in found if not line.warning] == ["1", "2"]
        assert [line.warning for line in found if line.warning] == ["node n1 is not connected"]


def test_a_stream_that_breaks_keeps_what_came_before() -> None:
    broken = [*lines(1)[:-1], LogChunk(request=1, end=True, error="the connection to the node was lost")]
    found = run(read(a_source(t1=broken, t2=lines(5))))
    assert [line.line or line.warning for line in found] == ["1", "the connection to the node was lost", "5"]


def test_a_node_that_does_not_answer_costs_a_warning_after_a_while() -> None:
    source = a_source(t1=lines(1), t2=lines(2)[:-1])
    source.endless = True
    found = run(read(source))
    assert [line.line or line.warning for line in found] == ["1", "2", "the node has not answered for 5 s"]
    assert source.open == 0


def test_a_fault_of_ours_with_one_log_does_not_hide_the_others() -> None:
    source = a_source(t1=ZeroDivisionError("division by zero"), t2=lines(1))
    for follow in (False, True):
        found = run(read(source, follow=follow))
        assert sorted(line.line or line.warning for line in found) == [
            "1",
            "internal error: ZeroDivisionError: division by zero",
        ]


def test_bytes_that_are_no_text_are_shown_all_the_same() -> None:
    source = a_source(t1=[LogChunk(request=1, at_ns=1, line=b"\xff\xfe ok", stream="stderr")])
    (line,) = run(read(source))
    assert (line.line, line.stream) == ("\ufffd\ufffd ok", "stderr")


def test_following_gives_lines_at_once_and_closing_ends_every_stream() -> None:
    async def story() -> None:
        source = a_source(t1=lines(1)[:-1], t2=lines(2)[:-1])
        source.endless = True
        merged = merge_logs(VIEW, source, TASKS, LogsRequest(name="x", follow=True))
        assert sorted(line.line for line in await first(merged, 2)) == ["1", "2"]
        assert source.open == 0

    run(story())


def test_a_cancelled_reader_ends_every_stream_also_in_the_middle_of_a_wait() -> None:
    async def story() -> None:
        for follow in (False, True):
            source = a_source(t1=lines(1)[:-1], t2=[])
            source.endless = True
            reading = asyncio.ensure_future(read(source, follow=follow))
            await asyncio.sleep(1)
            assert source.open == 2
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert reading.cancelled()
            assert source.open == 0

    run(story())


class Torrent:
    """Logs without end; counts what is taken from them."""

    def __init__(self) -> None:
        self.taken = 0

    async def tail_logs(self, task: Task, *, follow: bool, tail: int, since: Instant) -> AsyncGenerator[LogChunk, None]:
        while True:
            self.taken += 1
            yield LogChunk(request=1, at_ns=self.taken, line=TaskId(task.id).encode())
            await asyncio.sleep(0)


def test_a_slow_reader_holds_the_streams_back() -> None:
    async def story(follow: bool) -> int:
        source = Torrent()
        merged = merge_logs(VIEW, source, TASKS, LogsRequest(name="x", follow=follow))
        await anext(merged)
        await asyncio.sleep(10)
        await merged.aclose()
        return source.taken

    assert run(story(follow=False)) <= 4
    assert run(story(follow=True)) <= QUEUE_LIMIT + 4
