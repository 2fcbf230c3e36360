"""Answers the manager's requests for logs over the agent's stream, without ever crowding out anything else on it.

Each log stream may send `LOG_WINDOW` lines ahead of what the reader has taken; the dispatcher grants more as lines are
read. A reader that stops costs one paused stream, not the node's heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

from stackd.agent.worker import Worker
from stackd.api.dispatch import LOG_WINDOW, FromAgent, FromManager, LogChunk, LogRequest
from stackd.api.stream import Stream
from stackd.base.errors import StackdError
from stackd.base.ids import TaskId
from stackd.base.time import Instant

log = logging.getLogger(__name__)

STREAMS_LIMIT = 128
"""Log streams open at once on a node: each holds a connection to the engine and a pump."""


class LogStreams:
    """The open log streams of one session; they run in `group`."""

    def __init__(
        self,
        find: Callable[[TaskId], Worker | None],
        stream: Stream[FromManager, FromAgent],
        group: asyncio.TaskGroup,
    ) -> None:
        self._find = find
        self._stream = stream
        self._group = group
        self._open: dict[int, tuple[asyncio.Task[None], asyncio.Semaphore]] = {}

    def handle(self, request: LogRequest) -> None:
        """Open, extend or cancel a stream."""
        known = self._open.get(request.request)
        if request.cancel:
            if known:
                known[0].cancel()
        elif request.more:
            if known:
                _grant(known[1], request.more)
        elif known is None:
            credit = asyncio.Semaphore(LOG_WINDOW)
            pump = self._group.create_task(self._pump(request, credit), name=f"logs {request.task_id}")
            self._open[request.request] = (pump, credit)
            pump.add_done_callback(lambda _: self._open.pop(request.request, None))

    async def _pump(self, request: LogRequest, credit: asyncio.Semaphore) -> None:
        error = ""
        try:
            await self._send_lines(request, credit)
        except StackdError as exc:
            error = exc.message
        except Exception as exc:
            log.exception("log stream broke: task=%s", request.task_id)
            error = f"internal error: {type(exc).__name__}: {exc}"
        await self._stream.send(LogChunk(request=request.request, end=True, error=error))

    async def _send_lines(self, request: LogRequest, credit: asyncio.Semaphore) -> None:
        worker = self._find(request.task_id)
        if worker is None:
            raise StackdError("agent.logs.unknown_task", f"task {request.task_id} is not on this node")
        if len(self._open) > STREAMS_LIMIT:
            raise StackdError("agent.logs.too_many", f"more than {STREAMS_LIMIT} log streams are open on this node")
        lines = worker.controller.logs(follow=request.follow, tail=request.tail, since=Instant(request.since_ns))
        try:
            async for line in lines:
                await credit.acquire()
                chunk = LogChunk(request=request.request, at_ns=line.at, stream=line.stream, line=line.line)
                await self._stream.send(chunk)
        finally:
            if isinstance(lines, AsyncGenerator):
                await lines.aclose()


def _grant(credit: asyncio.Semaphore, lines: int) -> None:
    for _ in range(min(lines, LOG_WINDOW)):
        credit.release()
