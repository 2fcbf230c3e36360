"""The monitor itself: lives in the host's namespaces beside the init, serves the daemon, keeps log and exit record.

Everything the daemon knows of a task it learns here, over a socket in the task's directory or from files there:

    monitor   `PID STARTTIME BOOT`: who holds this task; written before anything exists that would have to be cleaned up
    started   exists once the gate has been opened
    exit      how it ended; written whole or not at all
    log*      output

One request per connection, a line, answered with one line: `status`, `reserve`, `start`, `stop SIGNAL SECONDS`, `kill`,
`probe MILLISECONDS`. A monitor that gets SIGTERM (a host going down) stops its task as the plan says.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import signal
import socket
import time
from functools import partial
from types import SimpleNamespace

from stackd.agent.executor.monitor import kernel
from stackd.agent.executor.monitor.identity import identity
from stackd.agent.executor.monitor.init import Init, refusal
from stackd.agent.executor.monitor.logfile import LogFile, NoLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from stackd.agent.executor.process.plan import Plan

_READ_BYTES = 65536
_KILL_PATIENCE_SECONDS = 10.0
"""How long the init may take to end what it was told to kill before it is killed itself."""


def main(directory: str) -> None:
    """Run one task from its plan to its end; never returns."""
    os.umask(0o077)
    os.chdir(directory)
    daemon = socket.socket(fileno=0)
    plan = receive_plan(daemon)
    if plan is not None:
        supervisor = Supervisor(plan, daemon)
        try:
            _write_whole("monitor", identity(os.getpid()))
            supervisor.begin()
        except OSError as error:  # with this process the init ends as well
            _answer(daemon, refusal(error))
            os._exit(1)
        supervisor.serve()
    os._exit(0)  # without the interpreter's farewell: someone waits for this process to end


def receive_plan(daemon: socket.socket) -> Plan | None:
    """The plan from the daemon; None if it went away before it had sent all of it."""
    with daemon.makefile("rb") as stream:
        size = int(stream.readline() or 0)
        body = stream.read(size)
    if not size or len(body) != size:
        return None
    plan: Plan = _with_attributes(marshal.loads(body))  # type: ignore[assignment]  # the same fields, another class
    return plan


def _with_attributes(value: object) -> object:
    """The records of a plan with their fields as attributes. The daemon's own classes would cost too much memory here."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _with_attributes(item) for key, item in value.items()})
    return tuple(map(_with_attributes, value)) if isinstance(value, tuple) else value


class Supervisor:
    """State of one monitor."""

    def __init__(self, plan: Plan, daemon: socket.socket) -> None:
        self._plan = plan
        self._daemon = daemon
        self._handlers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._asked_start: list[socket.socket] = []
        self._asked_probe: list[socket.socket] = []
        self._reserved: list[socket.socket] = []
        self._reports = b""
        self._state = "preparing"
        self._task_pid = 0
        self._code: int | None = None
        self._error = ""
        self._deadline: float | None = None
        self._killed = False

    def begin(self) -> None:
        """Start the init, and take now what a full disk must not deny later. Raises OSError."""
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        self._outputs = self._fork_init()
        self._plan.files = self._plan.etc = ()  # type: ignore[misc]  # secrets: the init has laid them out, forget them
        self._log = LogFile(self._plan.log_bytes, self._plan.log_files) if self._plan.log_files else NoLog()
        _reserve_space("exit.new")
        open("started.new", "wb").close()
        self._listen()
        self._watch_termination()
        for descriptor, stream in zip(self._outputs, "oe", strict=True):
            self._watch(descriptor, partial(self._copy, descriptor, stream))

    def serve(self) -> None:
        """Serve until the init has ended; then write down how."""
        while self._init_pid:
            for descriptor, _ in self._poll.poll(self._patience_ms()):
                if descriptor in self._handlers:
                    self._handlers[descriptor]()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._kill()
        for descriptor, stream in zip(self._outputs, "oe", strict=True):
            self._drain(descriptor, stream)
        self._log.close()
        self._record_exit()

    def _fork_init(self) -> tuple[int, int]:
        """Start the init; returns the reading ends of the task's output and error streams."""
        commands, self._commands = os.pipe()
        self._reports_end, reports = os.pipe()
        output_end, output = os.pipe()
        errors_end, errors = os.pipe()
        gc.freeze()
        gc.disable()  # nothing here makes cycles, and a collection would copy the pages shared with the init
        if self._plan.isolated:
            kernel.unshare(kernel.CLONE_NEWPID)
        self._init_pid = os.fork()
        if self._init_pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for descriptor in (self._commands, self._reports_end, output_end, errors_end):
                os.close(descriptor)
            Init(self._plan, commands, reports, output, errors).run()
        for descriptor in (commands, reports, output, errors):
            os.close(descriptor)
        self._watch(self._reports_end, self._hear_init)
        return output_end, errors_end

    def _listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("control")
        self._listener.listen(16)
        self._watch(self._listener.fileno(), self._accept)

    def _watch_termination(self) -> None:
        waker, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, lambda number, frame: None)

        def terminated() -> None:
            if os.read(waker, 64):
                self._stop(self._plan.stop_signal, self._plan.stop_grace_seconds)

        self._watch(waker, terminated)

    def _watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.POLLIN)

    def _forget(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None):
            self._poll.unregister(descriptor)

    # The daemon's requests

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setblocking(False)
        self._watch(client.fileno(), partial(self._serve, client))

    def _serve(self, client: socket.socket) -> None:
        """Read one request (it fits one packet) and answer; `start` and `probe` are answered when the init has."""
        self._forget(client.fileno())
        try:
            word, *arguments = client.recv(256).decode().split()
        except (OSError, ValueError):
            client.close()
            return
        if word == "start" and self._state == "ready":
            self._asked_start.append(client)
            self._open_gate()
        elif word == "start" and self._state == "starting":
            self._asked_start.append(client)
        elif word == "probe" and self._state == "running":
            self._asked_probe.append(client)
            if len(self._asked_probe) == 1:
                self._tell(f"probe {arguments[0]}")
        elif word == "reserve":
            _answer(client, self._reserve())
        elif word == "stop":
            self._stop(int(arguments[0]), float(arguments[1]))
            _answer(client, "ok")
        elif word == "kill":
            self._kill()
            _answer(client, "ok")
        else:
            _answer(client, self._status())

    def _status(self) -> str:
        return f"{self._state} {self._init_pid} {self._task_pid}"

    def _reserve(self) -> str:
        """Hold the published ports: they are forwarded by rules, so only a bound socket keeps others from taking them."""
        if self._reserved:
            return "ok"
        for port in self._plan.ports:
            kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
            holder = socket.socket(socket.AF_INET, kind)
            self._reserved.append(holder)
            try:
                if kind == socket.SOCK_STREAM:
                    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                holder.bind((port.host_ip, port.number))
                if kind == socket.SOCK_STREAM:
                    holder.listen(0)
            except OSError as error:
                self._release_ports()
                return f"unusable {port.number}/{port.protocol} {error.errno}"
        return "ok"

    def _release_ports(self) -> None:
        for holder in self._reserved:
            holder.close()
        self._reserved.clear()

    def _open_gate(self) -> None:
        self._state = "starting"
        os.replace("started.new", "started")
        self._tell("start")

    def _stop(self, number: int, grace_seconds: float) -> None:
        """Signal now and kill after the grace period. What never started just goes."""
        if self._state == "running" and not self._killed:
            self._tell(f"signal {number}")
            deadline = time.monotonic() + grace_seconds
            self._deadline = min(self._deadline or deadline, deadline)
        else:
            self._kill()

    def _kill(self) -> None:
        """End everything; the second time, or before the start, by ending the init."""
        if self._killed or self._state in ("preparing", "ready"):
            os.kill(self._init_pid, signal.SIGKILL)
            self._deadline = None
            return
        self._killed = True
        self._tell("kill")
        self._deadline = time.monotonic() + _KILL_PATIENCE_SECONDS

    def _tell(self, line: str) -> None:
        try:
            os.write(self._commands, line.encode() + b"\n")
        except BrokenPipeError:
            pass  # it is ending; the report pipe says so

    def _patience_ms(self) -> int | None:
        return None if self._deadline is None else max(0, int((self._deadline - time.monotonic()) * 1000) + 1)

    # The init's reports

    def _hear_init(self) -> None:
        data = os.read(self._reports_end, _READ_BYTES)
        *lines, self._reports = (self._reports + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            self._heard(word, rest)
        if not data:
            # It has ended, and before it everything that ran. Taking down the namespaces takes the kernel much longer;
            # that is worth waiting for only if the init was killed, because then the kernel does the killing as well.
            self._forget(self._reports_end)
            if self._code is None:
                os.waitpid(self._init_pid, 0)
            if self._code is None and self._state not in ("preparing", "ready"):
                self._code, self._error = 128 + signal.SIGKILL, "its first process was killed"
            self._ended_at = time.time_ns()
            self._init_pid = 0

    def _heard(self, word: str, rest: str) -> None:
        if word == "ready":
            self._state = "ready"
            _answer(self._daemon, f"ready {self._init_pid}")
        elif word in ("refused", "no-room"):
            _answer(self._daemon, f"{word} {rest}")
        elif word == "running":
            self._task_pid = _only_child(self._init_pid)
            self._state = "running"
            self._answer_all(self._asked_start, f"running {self._task_pid}")
        elif word == "failed":
            self._error = rest.partition(" ")[2]
            self._answer_all(self._asked_start, f"failed {self._error}")
        elif word == "probed":
            self._answer_all(self._asked_probe, f"probed {rest}")
        elif word == "exited":
            self._code = int(rest)

    def _answer_all(self, clients: list[socket.socket], line: str) -> None:
        for client in clients:
            _answer(client, line)
        clients.clear()

    # Output and end

    def _copy(self, descriptor: int, stream: str) -> None:
        data = os.read(descriptor, _READ_BYTES)
        if data:
            self._log.write(stream, data)
        else:
            self._forget(descriptor)

    def _drain(self, descriptor: int, stream: str) -> None:
        """What is left in the pipe now that every writer is dead (or, without namespaces, out of reach)."""
        os.set_blocking(descriptor, False)
        try:
            while data := os.read(descriptor, _READ_BYTES):
                self._log.write(stream, data)
        except BlockingIOError:
            pass

    def _record_exit(self) -> None:
        """Write the exit record, unless the task never started."""
        if self._code is None:
            return
        oom = self._code == 128 + signal.SIGKILL and _oom_kills(self._plan.oom_counter) > 0
        record = f"code={self._code}\noom={int(oom)}\nat={self._ended_at}\nerror={self._error}\n".encode()
        descriptor = os.open("exit.new", os.O_WRONLY)
        os.write(descriptor, record)
        os.ftruncate(descriptor, len(record))
        os.close(descriptor)
        os.replace("exit.new", "exit")


def _answer(client: socket.socket, line: str) -> None:
    try:
        client.sendall(line.encode() + b"\n")
    except OSError:
        pass  # whoever asked has gone; the next one asks again
    client.close()


def _only_child(pid: int) -> int:
    """The host's number of the init's one child: the init itself sees it under another number."""
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return int((children.read().split() or ["0"])[0])


def _oom_kills(path: str) -> int:
    """The count in the line `oom_kill N` of a memory group's file; 0 without such a group."""
    if not path:
        return 0
    with open(path) as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _write_whole(name: str, text: str) -> None:
    with open(f"{name}.new", "w") as file:
        file.write(text)
    os.replace(f"{name}.new", name)


def _reserve_space(name: str) -> None:
    """Take disk space now, so that what is to be written later finds room even on a full disk."""
    with open(name, "wb") as file:
        file.write(b" " * 4096)
