"""Reading a task's log while its monitor may be writing and rotating it (format: stackd.agent.executor.monitor.logfile).

No more than a block of lines, or the last ones asked for, is in memory at a time. Whoever follows is woken by inotify
on the task's directory, not by polling.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from stackd.agent.executor.base import LogLine
from stackd.agent.executor.process.channel import Monitor
from stackd.base.time import Instant

_READ_BYTES = 1 << 18
_IN_MODIFY, _IN_CREATE = 0x2, 0x100
_STREAMS = {b"o": "stdout", b"e": "stderr"}


async def read_log(directory: Path, monitor: Monitor | None, *, tail: int, since: Instant) -> AsyncIterator[LogLine]:
    """Lines so far (the last `tail`, all if negative) not older than `since`; with a `monitor` also those to come until
    it ends."""
    reader = _Reader(directory)
    try:
        if tail >= 0:
            # Everything has to be read to know the last ones, but only those are kept.
            for line in await asyncio.to_thread(lambda: deque(reader.lines(since), maxlen=tail)):
                yield line
            if monitor is None:
                return
        with _Wakeups(directory) as wakeups:
            while True:
                last = monitor is None or not monitor.running  # what is read after its end is complete
                for line in reader.lines(since):
                    yield line
                if monitor is None or last:
                    return
                await wakeups.next(monitor)
    finally:
        reader.close()


class _Reader:
    """Reads `log.N` ... `log.1`, `log` in the order of writing and remembers where it stopped."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = -1
        self._rest = b""

    def lines(self, since: Instant) -> Iterator[LogLine]:
        """What has been written since the last call, as far as lines are complete."""
        while True:
            following = self._following()  # looked for first: what isn't the newest file is complete when it is read
            if self._file >= 0:
                yield from self._read(since)
            if following is None:
                return
            self._open(following)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def _read(self, since: Instant) -> Iterator[LogLine]:
        while data := os.read(self._file, _READ_BYTES):
            *whole, self._rest = (self._rest + data).split(b"\n")
            for text in whole:
                line = _parse(text)
                if line is not None and line.at >= since:
                    yield line

    def _following(self) -> Path | None:
        """The file after the one that is open; None if that is the newest. Rotation renames files, so the place in the
        row is told by the inode. A file that is no longer in the row was dropped: on with the oldest."""
        files = self._files()
        here = os.fstat(self._file).st_ino if self._file >= 0 else -1
        places = [number for number, path in enumerate(files) if _inode(path) == here]
        remaining = files[places[0] + 1 :] if places else files
        return remaining[0] if remaining else None

    def _open(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return  # rotated just now: look again
        self.close()
        self._file, self._rest = descriptor, b""

    def _files(self) -> list[Path]:
        """Oldest first."""
        found = [path for path in self._directory.glob("log*") if re.fullmatch(r"log(\.\d+)?", path.name)]
        return sorted(found, key=lambda path: -int(path.suffix[1:] or 0))


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _parse(text: bytes) -> LogLine | None:
    """A line of the file; None for a torn one (the host went down while it was written)."""
    at, _, rest = text.partition(b" ")
    stream = _STREAMS.get(rest[:1])
    if stream is None or not at.isdigit():
        return None
    return LogLine(at=Instant(int(at)), stream=stream, line=rest[2:])


class _Wakeups:
    """Tells when something is written in a directory (inotify(7))."""

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _IN_MODIFY | _IN_CREATE)
        self._written = asyncio.Event()

    def __enter__(self) -> _Wakeups:
        asyncio.get_running_loop().add_reader(self._descriptor, self._drain)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    async def next(self, monitor: Monitor) -> None:
        """Return when there may be more to read, or the monitor has ended."""
        waits = [asyncio.ensure_future(self._written.wait()), asyncio.ensure_future(monitor.ended())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._written.clear()

    def _drain(self) -> None:
        try:
            os.read(self._descriptor, 65536)
        except BlockingIOError:
            pass
        self._written.set()
