"""Logs of a service, merged over its tasks and nodes as they arrive. A node that is away costs a warning, not the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Protocol

from stackd.api.control import LogsRequest
from stackd.api.dispatch import LogChunk
from stackd.api.views import LogLineView, rfc3339
from stackd.base.errors import StackdError
from stackd.base.time import Instant
from stackd.engine.model import Task
from stackd.engine.store import View
from stackd.manager import present

QUEUE_LIMIT = 1000
"""Lines waiting for a slow client; the tasks' streams wait with it."""


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
) -> AsyncIterator[LogLineView]:
    """Lines of all `tasks`. Without `follow` they come in order of time; with it, as they arrive after that."""
    lines: asyncio.Queue[LogLineView | None] = asyncio.Queue(QUEUE_LIMIT)

    async def read(task: Task) -> None:
        name = present.task_view(view, task).name
        node = present.node_name(view, task.node_id)
        try:
            since = Instant(request.since_ns)
            async with aclosing(source.tail_logs(task, follow=request.follow, tail=request.tail, since=since)) as chunks:
                async for chunk in chunks:
                    if chunk.error:
                        await lines.put(_warning(name, node, chunk.error))
                    elif not chunk.end:
                        await lines.put(_line(name, node, chunk))
        except StackdError as error:
            await lines.put(_warning(name, node, error.message))

    async def read_all() -> None:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(read(task))
        await lines.put(None)

    reader = asyncio.ensure_future(read_all())
    try:
        waiting: list[LogLineView] = []
        while (line := await lines.get()) is not None:
            if request.follow:
                yield line
            else:
                waiting.append(line)
        for line in sorted(waiting, key=lambda line: line.at or ""):
            yield line
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def _line(task: str, node: str, chunk: LogChunk) -> LogLineView:
    text = chunk.line.decode("utf-8", "replace")
    return LogLineView(at=rfc3339(Instant(chunk.at_ns)), task=task, node=node, stream=chunk.stream, line=text)


def _warning(task: str, node: str, why: str) -> LogLineView:
    return LogLineView(at=None, task=task, node=node, stream="stderr", line="", warning=why)
