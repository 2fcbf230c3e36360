"""Logs of a service, merged over its tasks and nodes. A node that is away costs a warning, not the rest.

However much there is to read, only a window of lines per task is held: a slow reader slows the nodes' streams.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Protocol

from stackd.api.control import LogsRequest
from stackd.api.dispatch import LogChunk
from stackd.api.views import LogLineView, rfc3339
from stackd.base.errors import StackdError, Unavailable
from stackd.base.time import Instant
from stackd.engine.model import Task
from stackd.engine.store import View
from stackd.manager import present

log = logging.getLogger(__name__)

QUEUE_LIMIT = 1000
"""Lines waiting for a slow client that follows; the tasks' streams wait with it."""

ANSWER_SECONDS = 5.0
"""How long a node that doesn't answer holds up the lines of the others; it may be a while until it is known to be away."""

_Line = tuple[int, LogLineView]
"""A line with its time in nanoseconds, which orders it; warnings have 0 and go first."""


class LogSource(Protocol):
    """The dispatcher, as seen from here."""

    def tail_logs(self, task: Task, *, follow: bool, tail: int, since: Instant) -> AsyncGenerator[LogChunk, None]:
        """Lines of a task's log; closing the generator ends the stream on the node."""
        ...


async def merge_logs(
    view: View,
    source: LogSource,
    tasks: Sequence[Task],
    request: LogsRequest,
) -> AsyncGenerator[LogLineView, None]:
    """Lines of all `tasks`. Without `follow` they come in order of time; with it, as they arrive."""
    streams = [_lines(view, source, task, request) for task in tasks]
    async with AsyncExitStack() as closing:
        for stream in streams:
            await closing.enter_async_context(aclosing(stream))
        merged = await closing.enter_async_context(aclosing(_as_they_arrive(streams) if request.follow else _in_order(streams)))
        async for line in merged:
            yield line


async def _lines(view: View, source: LogSource, task: Task, request: LogsRequest) -> AsyncGenerator[_Line, None]:
    """The lines of one task; whatever goes wrong becomes a warning among them."""
    name, node = present.task_view(view, task).name, present.node_name(view, task.node_id)
    since = Instant(request.since_ns)
    try:
        async with aclosing(source.tail_logs(task, follow=request.follow, tail=request.tail, since=since)) as chunks:
            while (chunk := await _next(chunks, follow=request.follow)) is not None:
                if not chunk.end:
                    yield chunk.at_ns, _line(name, node, chunk)
                    continue
                if chunk.error:
                    yield 0, _warning(name, node, chunk.error)
                return
    except StackdError as error:
        yield 0, _warning(name, node, error.message)
    except Exception as error:  # a fault with one task's log must not hide the others
        log.exception("log stream broke: task=%s", task.id)
        yield 0, _warning(name, node, f"internal error: {type(error).__name__}: {error}")


async def _next(chunks: AsyncGenerator[LogChunk, None], *, follow: bool) -> LogChunk | None:
    """What the node sends next. Raises Unavailable if one that has all of it keeps us waiting."""
    try:
        async with asyncio.timeout(None if follow else ANSWER_SECONDS):
            return await anext(chunks, None)
    except TimeoutError:
        raise Unavailable("manager.logs.unavailable", f"the node has not answered for {ANSWER_SECONDS:.0f} s") from None


async def _in_order(streams: Sequence[AsyncGenerator[_Line, None]]) -> AsyncGenerator[LogLineView, None]:
    """One line of each stream is looked at; the earliest goes next. Each stream is in order by itself."""
    firsts = await asyncio.gather(*(anext(stream, None) for stream in streams))
    heads = [(first[0], number, first[1]) for number, first in enumerate(firsts) if first is not None]
    heapq.heapify(heads)
    while heads:
        _, number, line = heads[0]
        yield line
        following = await anext(streams[number], None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following[0], number, following[1]))


async def _as_they_arrive(streams: Sequence[AsyncGenerator[_Line, None]]) -> AsyncGenerator[LogLineView, None]:
    lines: asyncio.Queue[LogLineView | None] = asyncio.Queue(QUEUE_LIMIT)

    async def read(stream: AsyncGenerator[_Line, None]) -> None:
        async for _, line in stream:
            await lines.put(line)

    async def read_all() -> None:
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(read(stream))
        await lines.put(None)

    reader = asyncio.ensure_future(read_all())
    try:
        while (line := await lines.get()) is not None:
            yield line
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def _line(task: str, node: str, chunk: LogChunk) -> LogLineView:
    text = chunk.line.decode("utf-8", "replace")
    return LogLineView(at=rfc3339(Instant(chunk.at_ns)), task=task, node=node, stream=chunk.stream, line=text)


def _warning(task: str, node: str, why: str) -> LogLineView:
    return LogLineView(at=None, task=task, node=node, stream="stderr", line="", warning=why)
