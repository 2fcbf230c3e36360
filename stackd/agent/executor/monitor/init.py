"""The first process of a task's world: prepares it, waits at the gate, starts the task, reaps, and ends with it.

In its own pid namespace it is process 1, so when it ends the kernel ends all the rest; elsewhere it adopts its orphaned
descendants and ends them itself. It is driven by lines on one pipe and answers with lines on another:

    commands   start | signal N | kill | probe MILLISECONDS
    reports    ready | refused TEXT | no-room TEXT | running | failed CODE TEXT | probed CODE TEXT | exited CODE

The end of the command pipe means that the monitor is gone: then the task must not stay either.
"""

from __future__ import annotations

import os
import select
import signal
import time

from stackd.agent.executor.monitor import kernel, people, root
from stackd.agent.executor.monitor.launch import ExecFailed, Launcher
from stackd.agent.executor.monitor.room import is_full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stackd.agent.executor.monitor.launch import Streams
    from stackd.agent.executor.process.plan import Plan

PROBE_TIMED_OUT = -1
"""What is reported of a health check that had to be killed."""

_PROBE_TEXT_BYTES = 300
"""How much of a health check's output is reported."""


class Init:
    """State of one init process."""

    def __init__(self, plan: Plan, commands: int, reports: int, output: int, errors: int) -> None:
        self._plan = plan
        self._commands = commands
        self._reports = reports
        self._output = output
        self._errors = errors
        self._task = 0
        self._terminal = -1
        """Our end of the task's terminal, while it has one."""
        self._probe = 0
        self._probe_output = -1
        self._probe_deadline = 0.0
        self._buffer = b""

    def run(self) -> None:
        """Prepare, then serve until the task has ended. Returns nothing and leaves only by `os._exit`."""
        try:
            self._launcher = self._prepare()
        except (OSError, LookupError, ValueError) as error:
            self._report(refusal(error))
            os._exit(1)
        waker, wakeup = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wakeup, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self._report("ready")
        self._poll = select.poll()
        self._poll.register(self._commands, select.POLLIN)
        self._poll.register(waker, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll(self._patience_ms()):
                if descriptor == waker:
                    os.read(waker, 4096)
                elif descriptor == self._terminal:
                    self._copy_terminal()
                else:
                    self._obey()
            self._reap()
            if self._probe and time.monotonic() >= self._probe_deadline:
                self._end_probe(PROBE_TIMED_OUT)

    def _prepare(self) -> Launcher:
        plan = self._plan
        groups = [os.open(path, os.O_WRONLY) for path in plan.limit_groups]
        if not plan.isolated:
            kernel.adopt_orphans()
            return Launcher(plan, None, groups)
        os.umask(0o022)
        kernel.die_with_parent(signal.SIGKILL)
        network = 0 if plan.host_network else kernel.CLONE_NEWNET
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | network)
        kernel.set_hostname(plan.hostname)
        root.build(plan)
        plan.files = plan.etc = ()  # type: ignore[misc]  # secrets: laid out, so forgotten
        person = people.resolve(plan.user)
        person.groups += [people.group_id(name) for name in plan.rights.groups]
        os.makedirs(plan.working_dir, exist_ok=True)
        if plan.read_only:
            root.make_read_only(plan)
        return Launcher(plan, person, groups)

    def _obey(self) -> None:
        data = os.read(self._commands, 4096)
        if not data:
            self._finish(128 + signal.SIGKILL)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            word, *arguments = line.decode().split(" ")
            if word == "start":
                self._start()
            elif word == "signal" and self._task:
                _kill(self._task, int(arguments[0]))
            elif word == "kill":
                self._kill_all()
            elif word == "probe":
                self._start_probe(int(arguments[0]))

    def _start(self) -> None:
        streams, ours = self._streams()
        try:
            self._task = self._launcher.start(self._plan.argv, streams, terminal=self._plan.terminal)
        except ExecFailed as failure:
            self._report(f"failed {failure.code} {failure.text}")
            self._finish(failure.code)
        for descriptor in ours:
            os.close(descriptor)
        self._report("running")

    def _streams(self) -> tuple[Streams, tuple[int, ...]]:
        """The task's input, output and errors, and which of them are nothing to us once it has them."""
        if self._plan.terminal:
            self._terminal, slave = os.openpty()
            os.set_inheritable(self._terminal, False)
            self._poll.register(self._terminal, select.POLLIN)
            return (slave, slave, slave), (slave, self._errors)
        if self._plan.stdin_open:
            reader, _ = os.pipe()  # whose other end stays open as long as we are there
            return (reader, self._output, self._errors), (reader, self._output, self._errors)
        null = os.open(os.devnull, os.O_RDONLY)
        return (null, self._output, self._errors), (null, self._output, self._errors)

    def _copy_terminal(self) -> bool:
        """Pass on what the task shows; False once nobody has the terminal open any more."""
        try:
            shown = os.read(self._terminal, 65536)
        except OSError:
            shown = b""
        if shown:
            os.write(self._output, shown.replace(b"\r\n", b"\n"))
            return True
        self._poll.unregister(self._terminal)
        os.close(self._terminal)
        self._terminal = -1
        return False

    def _start_probe(self, patience_ms: int) -> None:
        """Begin one check of health; a check that can't be started is a failed one."""
        self._probe_output = os.memfd_create("probe")
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            self._probe = self._launcher.start(self._plan.probe, (null, self._probe_output, self._probe_output))
            self._probe_deadline = time.monotonic() + patience_ms / 1000
        except ExecFailed as failure:
            os.close(self._probe_output)
            self._report(f"probed {failure.code} {failure.text}")
        finally:
            os.close(null)

    def _end_probe(self, code: int) -> None:
        if code == PROBE_TIMED_OUT:
            _kill(-self._probe, signal.SIGKILL)  # a session leader, so its children as well
        self._probe = 0
        said = os.pread(self._probe_output, _PROBE_TEXT_BYTES, 0).decode(errors="replace").strip()
        os.close(self._probe_output)
        self._report(f"probed {code} {said}")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid == self._task:
                self._finish(code if code >= 0 else 128 - code)
            elif pid == self._probe:
                self._end_probe(code if code >= 0 else 128 - code)

    def _finish(self, code: int) -> None:
        """The task has ended: whatever it left behind ends too, then the monitor hears of it."""
        self._task = self._probe = 0
        self._end_descendants()
        while self._terminal >= 0 and self._copy_terminal():
            pass  # to its end: everybody who had it open is dead
        self._report(f"exited {code}")
        os._exit(0)

    def _kill_all(self) -> None:
        if self._plan.isolated:
            _kill(-1, signal.SIGKILL)  # everything in this pid namespace but ourselves
        elif self._task:
            _kill(-self._task, signal.SIGKILL)  # its process group; what left that is ended in _finish
            _kill(self._task, signal.SIGKILL)

    def _end_descendants(self) -> None:
        """End children until none is left; those of a dead child become ours, so this reaches all of them."""
        while True:
            if self._plan.isolated:
                _kill(-1, signal.SIGKILL)
            try:
                with open(f"/proc/self/task/{os.getpid()}/children") as children:
                    for child in children.read().split():
                        _kill(int(child), signal.SIGKILL)
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _patience_ms(self) -> int | None:
        return max(0, int((self._probe_deadline - time.monotonic()) * 1000) + 1) if self._probe else None

    def _report(self, line: str) -> None:
        try:
            os.write(self._reports, line.replace("\n", " ").encode() + b"\n")
        except BrokenPipeError:
            pass  # the monitor is gone; the command pipe has ended too and says what to do


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended; its status is on its way


def refusal(error: Exception) -> str:
    """What is reported when the task can't be prepared: `refused TEXT`, or `no-room TEXT` for a full disk, which passes."""
    word = "no-room" if is_full(error) else "refused"
    return f"{word} {_sentence(error)}"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}".lower() if error.filename else error.strerror.lower()
    return str(error.args[0]) if error.args else type(error).__name__
