"""A container's log as lines with their times, from the engine's frames, without a thread per waiting reader's line.

A thread of the log lane reads frames and fills a bounded buffer; the reader in the event loop empties it. Closing the
reader ends the stream, which releases the thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator

from stackd.agent.executor.base import LogLine
from stackd.agent.executor.docker.engine import DockerEngine, LogStream
from stackd.agent.executor.docker.spec import instant_of

BUFFER_LINES = 1000
"""A reader that is slower than the log makes the engine wait, not this process grow."""
STREAMS = {1: "stdout", 2: "stderr"}


async def read_lines(engine: DockerEngine, stream: LogStream) -> AsyncGenerator[LogLine, None]:
    """The stream's lines until it ends or the reader stops reading."""
    buffer = _Buffer(asyncio.get_running_loop())

    def pump() -> None:
        try:
            for line in lines_of(stream.frames()):
                if not buffer.put(line):
                    return
        finally:
            buffer.end()

    pumping = engine.run(pump)
    try:
        while batch := await buffer.take():
            for line in batch:
                yield line
    finally:
        buffer.close()
        stream.close()
        pumping.cancel()


def lines_of(frames: Iterable[tuple[int, bytes]]) -> Iterator[LogLine]:
    """Cut frames into lines. A long line comes in several frames, each with a time of its own; the first one counts."""
    parts: dict[int, list[tuple[bytes, bytes]]] = {}
    for stream, frame in frames:
        stamp, _, text = frame.partition(b" ")
        parts.setdefault(stream, []).append((stamp, text))
        if text.endswith(b"\n"):
            yield _joined(stream, parts.pop(stream))
    for stream, rest in parts.items():
        yield _joined(stream, rest)


def _joined(stream: int, parts: list[tuple[bytes, bytes]]) -> LogLine:
    text = b"".join(text for _, text in parts).removesuffix(b"\n")
    return LogLine(at=instant_of(parts[0][0].decode("ascii", "replace")), stream=STREAMS.get(stream, "stdout"), line=text)


class _Buffer:
    """Lines on their way from the reading thread to the loop, at most BUFFER_LINES."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: deque[LogLine] = deque()
        self._slots = threading.Semaphore(BUFFER_LINES)
        self._filled = asyncio.Event()
        self._ended = False
        self._closed = False

    def put(self, line: LogLine) -> bool:
        """Called in the thread: add a line, waiting for room. False when nobody reads any more."""
        self._slots.acquire()
        if self._closed:
            return False
        self._lines.append(line)
        self._wake()
        return True

    def end(self) -> None:
        """Called in the thread: there is nothing more to come."""
        self._ended = True
        self._wake()

    async def take(self) -> list[LogLine]:
        """All lines that wait; none at the end."""
        while not self._lines and not self._ended:
            await self._filled.wait()
            self._filled.clear()
        batch = [self._lines.popleft() for _ in range(len(self._lines))]
        self._slots.release(max(1, len(batch)))
        return batch

    def close(self) -> None:
        """Called in the loop: let a waiting thread go."""
        self._closed = True
        self._slots.release(BUFFER_LINES)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._filled.set)
        except RuntimeError:  # the loop has closed: nobody reads any more
            self._closed = True
