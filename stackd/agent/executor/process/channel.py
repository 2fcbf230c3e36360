"""The daemon's end of a monitor: starting one, asking it, and knowing when it has ended. No polling, no thread.

A monitor is started by exec, as a child of the daemon but in a session of its own; a later daemon reaches it through the
socket in the task's directory. Its end is told by a pidfd, after which the exit record is final.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from stackd.agent.executor import monitor
from stackd.agent.executor.process.directory import TaskDirectory
from stackd.agent.executor.process.plan import Plan, encode_plan

_SCRIPT = str(Path(monitor.__file__).with_name("__main__.py"))
_ANSWER_BYTES = 4096


class MonitorGone(Exception):
    """The monitor has ended; the task's directory says how the task did."""


class Monitor:
    """A living monitor, started here or found."""

    def __init__(self, directory: TaskDirectory, pid: int, process: subprocess.Popen[bytes] | None) -> None:
        """Raises ProcessLookupError if the process is gone already."""
        self._directory = directory
        self._pid = pid
        self._process = process
        self._ended = asyncio.Event()
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    @classmethod
    async def spawn(cls, directory: TaskDirectory, plan: Plan) -> tuple[Monitor, str]:
        """Start a monitor and hand it the plan; returns it with its word: `ready PID`, `refused TEXT`, `no-room TEXT` if
        that passes, or "" if it died."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                spawned = cls._exec(directory, theirs)
            ours.setblocking(False)
            try:
                return spawned, await _exchange(ours, encode_plan(plan))
            except BaseException:
                spawned.kill()  # nobody would know of it
                raise

    @classmethod
    def _exec(cls, directory: TaskDirectory, stdin: socket.socket) -> Monitor:
        with open(directory.path / "faults", "wb") as faults:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", _SCRIPT, str(directory.path)],
                stdin=stdin.fileno(),
                stdout=faults,
                stderr=faults,
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                start_new_session=True,
            )
        return cls(directory, process.pid, process)

    @classmethod
    def find(cls, directory: TaskDirectory) -> Monitor | None:
        """The monitor of an earlier daemon; None if it has ended."""
        pid = directory.monitor_pid()
        if not pid:
            return None
        try:
            found = cls(directory, pid, None)
        except ProcessLookupError:
            return None
        if directory.monitor_pid() != pid:  # it ended, and the number was taken, between the two looks
            found.close()
            return None
        return found

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    async def ask(self, request: str) -> str:
        """The monitor's answer to one request; raises MonitorGone."""
        folder = os.open(self._directory.path, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.setblocking(False)
                # Through the descriptor: the address of a socket may be 107 bytes long only.
                await asyncio.get_running_loop().sock_connect(client, f"/proc/self/fd/{folder}/control")
                answer = await _exchange(client, request.encode() + b"\n")
        except OSError as error:
            raise MonitorGone from error
        finally:
            os.close(folder)
        if not answer:
            raise MonitorGone
        return answer

    async def ended(self) -> None:
        """Return when it has ended."""
        await self._ended.wait()

    def kill(self) -> None:
        """The last resort: end the monitor itself; its task ends with it, without an exit record."""
        if self.running:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Stop watching; the monitor lives on."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _on_end(self) -> None:
        if self._process is not None:
            self._process.poll()  # reap it: it is our child
        self.close()
        self._ended.set()


async def _exchange(client: socket.socket, data: bytes) -> str:
    """Send `data` and read one line; "" if the other side closes instead."""
    loop = asyncio.get_running_loop()
    received = b""
    try:
        await loop.sock_sendall(client, data)
        while not received.endswith(b"\n"):
            chunk = await loop.sock_recv(client, _ANSWER_BYTES)
            if not chunk:
                return ""
            received += chunk
    except (ConnectionResetError, BrokenPipeError):
        return ""
    return received.decode(errors="replace").rstrip("\n")
