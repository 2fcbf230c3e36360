"""The task's log: one line per line of output, `NANOSECONDS o|e TEXT`, in `log`, older ones in `log.1`, `log.2`, ...

A line longer than 16 KiB is cut into several, as Docker does. When the disk refuses, output is dropped and counted, and
the number of lost lines is written once there is room again: a full disk must not end the task.
"""

from __future__ import annotations

import os
import time

LINE_BYTES = 16384


class NoLog:
    """Where the output of a task goes that keeps no log."""

    def write(self, stream: str, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class LogFile:
    """Appends to the log in the current directory and rotates it."""

    def __init__(self, limit_bytes: int, files: int) -> None:
        """`files` counts the current one too."""
        self._limit = limit_bytes
        self._files = files
        self._partial = {"o": b"", "e": b""}
        self._lost = 0
        self._descriptor, self._size = _new_file("log"), 0

    def write(self, stream: str, data: bytes) -> None:
        """Take output of `stream` ("o" or "e") in pieces of any size; whole lines are written."""
        stamp = b"%d %s " % (time.time_ns(), stream.encode())
        *lines, rest = (self._partial[stream] + data).split(b"\n")
        while len(rest) >= LINE_BYTES:
            lines.append(rest[:LINE_BYTES])
            rest = rest[LINE_BYTES:]
        self._partial[stream] = rest
        pieces = (line[at : at + LINE_BYTES] for line in lines for at in range(0, len(line) or 1, LINE_BYTES))
        self._append([stamp + piece + b"\n" for piece in pieces])

    def close(self) -> None:
        """Write what has no newline yet."""
        for stream, rest in self._partial.items():
            if rest:
                self._append([b"%d %s %s\n" % (time.time_ns(), stream.encode(), rest)])

    def _append(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self._lost:
            lines.insert(0, b"%d e (%d lines of output lost: no room on disk)\n" % (time.time_ns(), self._lost))
        data = b"".join(lines)
        try:
            if self._size and self._size + len(data) > self._limit:
                self._rotate()
            written = os.write(self._descriptor, data)
            self._size += written
            if written < len(data):  # the disk filled up in the middle: no torn line may stay
                self._size -= written
                os.ftruncate(self._descriptor, self._size)
                raise OSError
            self._lost = 0
        except OSError:
            self._lost += len(lines) - bool(self._lost)

    def _rotate(self) -> None:
        fresh = _new_file("log.new")  # first: if there is no room, everything stays as it is
        for number in range(self._files - 1, 0, -1):
            older = f"log.{number}"
            newer = f"log.{number - 1}" if number > 1 else "log"
            if os.path.exists(newer):
                os.replace(newer, older)
        os.replace("log.new", "log")
        os.close(self._descriptor)
        self._descriptor, self._size = fresh, 0


def _new_file(name: str) -> int:
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
