"""From a fork of the init to the task's own program: who it is, what it may do, and exec with errors in plain words."""

from __future__ import annotations

import errno
import os
import signal

from stackd.agent.executor.monitor import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stackd.agent.executor.monitor.people import Person
    from stackd.agent.executor.process.plan import Plan

    Streams = tuple[int, int, int]
    """Input, output, errors."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit codes of a program that could not be started, as shells and Docker use them."""


class ExecFailed(Exception):
    """The program could not be started: a sentence, and the exit code that stands for it."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Launcher:
    """Starts programs inside the task's world: the task itself and the checks of its health."""

    def __init__(self, plan: Plan, person: Person | None, groups: list[int]) -> None:
        """`person` None: nobody is switched to. `groups` are open `cgroup.procs` files."""
        self._plan = plan
        self._person = person
        self._groups = groups
        self._env = dict(item.split("=", 1) for item in plan.env if "=" in item)
        if person is not None:
            self._env.setdefault("HOME", person.home)

    def start(self, argv: tuple[str, ...], streams: Streams, *, terminal: bool = False) -> int:
        """Start `argv` and return its process id once it runs; raises ExecFailed if it doesn't. `terminal`: its streams are
        one, which becomes that of its session."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            self._become(argv, streams, terminal, writer)
        os.close(writer)
        with open(reader, "rb") as pipe:
            said = pipe.read()  # ends empty when exec closes the pipe
        if not said:
            return child
        os.waitpid(child, 0)
        code, _, text = said.decode(errors="replace").partition(" ")
        raise ExecFailed(text, int(code))

    def _become(self, argv: tuple[str, ...], streams: Streams, terminal: bool, writer: int) -> None:
        """Runs in the child and never returns."""
        try:
            self._dress(streams, terminal)
            self._execute(argv)
        except ExecFailed as failure:
            os.write(writer, f"{failure.code} {failure.text}".encode())
        except OSError as error:
            text = f"{error.filename or 'start'}: {error.strerror}".lower() if error.strerror else str(error)
            os.write(writer, f"{NOT_EXECUTABLE} {text}".encode())
        finally:
            os._exit(NOT_FOUND)

    def _dress(self, streams: Streams, terminal: bool) -> None:
        """All that happens between fork and exec. Rights are given up in this order: each step needs those that follow."""
        for descriptor in self._groups:
            os.write(descriptor, b"0")
        os.setsid()
        for target, source in enumerate(streams):
            os.dup2(source, target)
        if terminal:
            kernel.take_terminal(0)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        rights = self._plan.rights
        for limit, soft, hard in rights.limits:
            kernel.set_limit(limit, soft, hard)
        if rights.oom_score_adj:
            with open("/proc/self/oom_score_adj", "w") as score:
                score.write(str(rights.oom_score_adj))
        if self._person is not None:
            self._switch(self._person, rights.capabilities)
        if rights.no_new_privileges:
            kernel.no_new_privileges()
        try:
            os.chdir(self._plan.working_dir)
        except OSError as error:
            where = self._plan.working_dir
            raise ExecFailed(f'chdir to working directory "{where}": {_words(error)}', NOT_EXECUTABLE) from error

    def _switch(self, person: Person, capabilities: int) -> None:
        kernel.bound_capabilities(capabilities)
        os.setgroups(person.groups)
        os.setresgid(person.gid, person.gid, person.gid)
        os.setresuid(person.uid, person.uid, person.uid)
        kernel.set_capabilities(capabilities if person.uid == 0 else 0)

    def _execute(self, argv: tuple[str, ...]) -> None:
        """execvpe with the task's own PATH, relative to its working directory."""
        program = argv[0]
        found: OSError | None = None
        if "/" in program:
            candidates = [program]
        else:
            candidates = [os.path.join(place, program) for place in self._env.get("PATH", "").split(":") if place]
        for path in candidates:
            try:
                os.execve(path, argv, self._env)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR) or "/" in program:
                    found = error
        if found is None:
            raise ExecFailed(f'exec: "{program}": executable file not found in $PATH', NOT_FOUND)
        code = NOT_FOUND if found.errno == errno.ENOENT else NOT_EXECUTABLE
        raise ExecFailed(f'exec: "{program}": {_words(found)}', code)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
