"""A real node for tests: `stackd up` as a process of its own on one executor, and nothing left of it afterwards.

Tests look at it as people do, with the command (`cli`) and through the local API; nothing here reaches into the daemon.
Waiting is bounded and follows the daemon's own Watch stream where services are concerned. What a node leaves behind once
it was taken down (containers, monitors, interfaces, mounts, control groups) is a failure of the test that used it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from stackd.api.client import Client
from stackd.api.control import EventsRequest, ListRequest
from stackd.api.locations import socket_path
from stackd.api.views import EventView, ServiceView, StatusView, TaskView
from stackd.base.errors import StackdError

from dockerd import PrivateDockerd
from other_user import as_user, program_for

T = TypeVar("T")
Services = dict[str, ServiceView]

STACKD = (str(Path(sys.executable).with_name("stackd")),)
"""The console script of the environment that runs the tests."""

WAIT_SECONDS = 60.0
"""For whatever is waited for: some hundred times what it takes on a quiet machine."""
LOOK_AGAIN_SECONDS = 0.03
NOBODY = 65534
"""The user and group for nodes without root."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class RunningNode:
    """One node below `home`: sources in `source`, state in `data`. `start`, `stop` and `kill` may follow each other.

    `uid`: run daemon and commands as this user; it must own `home`."""

    def __init__(self, home: Path, executor: str, engine: PrivateDockerd | None = None, uid: int | None = None) -> None:
        self.home = home
        self.source = home / "source"
        self.data = home / "data"
        self.executor = executor
        self.engine = engine
        self.follows: Sequence[str] = (str(self.source),)
        self._uid = uid
        self._stackd = STACKD if uid is None else (program_for(uid).python, "-m", "stackd.cli")
        self._process: subprocess.Popen[bytes] | None = None
        self._bridges: set[str] = set()
        self.source.mkdir()

    # The daemon

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> RunningNode:
        """Start the daemon and return when it answers."""
        self._process = self.launch()
        self.eventually(self._answers, "the daemon answers")
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        """Start `stackd up` without waiting for anything."""
        arguments = ["up", *self.follows, "--data-dir", str(self.data), "--executor", self.executor, "--log-level", "info"]
        if self.engine is not None:
            arguments += ["--docker-host", self.engine.url]
        with (self.home / "daemon.log").open("ab") as log:
            return subprocess.Popen(
                [*self._stackd, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._account(),
            )

    def stop(self) -> int:
        """End the daemon as Ctrl-C does; its exit code."""
        return self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the daemon without warning."""
        self._end(signal.SIGKILL)

    def ended(self) -> int:
        """Wait until the daemon has ended by itself; its exit code."""
        process, self._process = self._process, None
        assert process is not None
        try:
            return process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process = process
            raise

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self.ended()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the daemon has ended\n{self.report()}"
        with contextlib.suppress(StackdError), self.client() as client:
            return bool(client.version().version)
        return False

    def _account(self) -> dict[str, Any]:
        """Popen's arguments for the user that daemon and commands run as."""
        environment = {**os.environ, "STACKD_HOST": self.host, "STACKD_DATA_DIR": str(self.data)}
        if self._uid is None:
            return {"env": environment}
        return {"env": environment | program_for(self._uid).environment, "cwd": self.home, **as_user(self._uid)}

    # Commands and the API

    @property
    def host(self) -> str:
        return f"unix://{socket_path(self.data)}"

    def client(self) -> Client:
        return Client(self.host)

    def cli(self, *arguments: str | Path, seconds: float = WAIT_SECONDS) -> Ended:
        """Run the real command against this node."""
        command = [*self._stackd, *map(str, arguments)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False, **self._account()
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def cli_in_background(self, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """The real command, running for the time of the block."""
        process = subprocess.Popen(
            [*self._stackd, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **self._account(),
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def down(self) -> Ended:
        """`stackd down`, with or without a daemon."""
        engine = () if self.engine is None else ("--docker-host", self.engine.url)
        self._bridges.update(self._interfaces())
        return self.cli("down", "--data-dir", self.data, *engine)

    def status(self) -> StatusView:
        with self.client() as client:
            return client.status()

    def services(self) -> Services:
        with self.client() as client:
            return by_name(client.services(ListRequest()).items)

    def tasks(self, service: str) -> list[TaskView]:
        """The tasks that the service is to have, by slot."""
        return self._tasks(ListRequest(service=service, history=False))

    def history(self, service: str) -> list[TaskView]:
        """All tasks of the service, also those that are over: by slot, the newest first."""
        return self._tasks(ListRequest(service=service))

    def _tasks(self, request: ListRequest) -> list[TaskView]:
        with self.client() as client:
            return list(client.tasks(request).items)

    def events(self) -> list[EventView]:
        with self.client() as client:
            return list(client.events(EventsRequest(limit=1000)))

    # The source

    def write(self, name: str, text: str | bytes) -> Path:
        """Put a file into the source the way editors save: whole or not at all."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.home / "draft"
        draft.write_bytes(text.encode() if isinstance(text, str) else text)
        draft.chmod(0o644)
        return draft.replace(path)

    def change(self, service: str, change: Callable[[], object]) -> ServiceView:
        """Make a change and wait until the service has taken it up and converged."""
        before = self.services()[service].version
        change()
        seen = self.until(
            lambda services: services[service].version > before and services[service].converged, f"{service} has changed"
        )
        return seen[service]

    # Waiting

    def until(self, true: Callable[[Services], object], what: str, seconds: float = WAIT_SECONDS) -> Services:
        """Follow the services until `true` of them; returns them. A service that isn't there doesn't fulfil anything."""
        with self.client() as client:
            overdue = threading.Timer(seconds, client.close)
            overdue.start()
            try:
                for snapshot in client.watch(ListRequest()):
                    services = by_name(snapshot.items)
                    with contextlib.suppress(KeyError):
                        if true(services):
                            return services
            except StackdError as error:
                what = f"{what} ({error})"
            finally:
                overdue.cancel()
        raise AssertionError(f"not within {seconds} s: {what}\n{self.report()}")

    def converged(self, *names: str) -> Services:
        """Wait until these services have converged."""
        return self.until(lambda services: all(services[name].converged for name in names), f"{', '.join(names)} converged")

    def eventually(self, look: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
        """Look until the result is true; returns it."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.report()}")
            time.sleep(LOOK_AGAIN_SECONDS)
        return found

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[Services]]:
        """Everything the daemon says of its services in the block: filled meanwhile, complete afterwards."""
        seen: list[Services] = []
        first = threading.Event()
        client = self.client()

        def read() -> None:
            with contextlib.suppress(StackdError):
                for snapshot in client.watch(ListRequest()):
                    seen.append(by_name(snapshot.items))
                    first.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            assert first.wait(WAIT_SECONDS)
            yield seen
        finally:
            client.close()
            reader.join()

    def report(self) -> str:
        """All that helps to understand a failure."""
        log = (self.home / "daemon.log").read_text(errors="replace")[-4000:] if (self.home / "daemon.log").exists() else ""
        lines = [f"--- daemon's log\n{log}"]
        with contextlib.suppress(StackdError):
            lines += ["--- sources", *(repr(one) for one in self.status().sources)]
            lines += ["--- services", *(repr(one) for one in self.services().values())]
            lines += ["--- tasks", *(repr(one) for name in self.services() for one in self.history(name))]
            lines += ["--- events", *(f"{one.at} {one.kind} {one.subject} {one.message}" for one in self.events()[-30:])]
        return "\n".join(lines)

    # Taking down

    def close(self) -> None:
        """Take everything down and make sure of it. Raises AssertionError if the node left anything behind."""
        try:
            if self.data.exists():
                done = self.down()
                assert done.code == 0, f"stackd down: {done.err}\n{self.report()}"
            if self._process is not None:
                assert self.ended() == 0
            self.eventually(lambda: not self.leftovers(), f"nothing is left: {self.leftovers()}", 10)
        finally:
            self._clear()

    def _clear(self) -> None:
        """Whatever happened, end the daemon and the tasks."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.engine is not None and (containers := self.containers()):
            self.engine.docker("rm", "--force", "--volumes", *containers)
        for interface in self._interfaces():
            subprocess.run(["ip", "link", "delete", interface], check=False, capture_output=True)

    def leftovers(self) -> list[str]:
        """What this node has on the host outside of its directory."""
        group = f"stackd-{_digest(self.data / 'process')}"
        groups = [path for place in ("*/", "") for path in Path("/sys/fs/cgroup").glob(f"{place}{group}")]
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{self.data}/" in line]
        processes = [f"process {pid}: {_content(Path(f'/proc/{pid}/cmdline'))!r}" for pid in self._processes()]
        network = [*self._interfaces(), *self._tables()]
        return [*processes, *map(str, groups), *mounts, *network, *self.containers(), *self._secrets()]

    def _processes(self) -> list[int]:
        """Those with the data directory in their command line: daemon and monitors."""
        place = str(self.data).encode()
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if place in _content(path)]

    def _interfaces(self) -> list[str]:
        if self.executor != "process" or os.geteuid():
            return []
        said = subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, text=True, check=True).stdout
        return [link["ifname"] for link in json.loads(said) if str(self.data) in link.get("ifalias", "")]

    def _tables(self) -> list[str]:
        """The firewall tables of this node's bridges."""
        if not self._bridges:
            return []
        said = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        return [line for line in said.splitlines() if line.split()[-1] in self._bridges]

    def containers(self) -> list[str]:
        """Every container of this node on the engine."""
        if self.engine is None or not (self.data / "docker/id").exists():
            return []
        return self.engine.docker("ps", "--all", "--quiet", "--filter", f"label=stackd.data={self._engine_id()}").split()

    def _secrets(self) -> list[str]:
        if self.engine is None or not (self.data / "docker/id").exists():
            return []
        return [str(path) for path in Path("/run").glob(f"stackd-*/{self._engine_id()}")]

    def _engine_id(self) -> str:
        return (self.data / "docker/id").read_text().strip()


@contextlib.contextmanager
def running_node(
    executor: str, engine: PrivateDockerd | None = None, *, uid: int | None = None, started: bool = True
) -> Iterator[RunningNode]:
    """A node in a directory of its own; all of it is gone at the end."""
    home = Path(tempfile.mkdtemp(prefix="stackd-node-"))
    try:
        node = RunningNode(home, executor, engine, uid)
        if uid is not None:
            for path in (home, node.source):
                os.chown(path, uid, uid)
        try:
            yield node.start() if started else node
        except BaseException:
            with contextlib.suppress(Exception):  # the first failure is the one to tell
                node.close()
            raise
        node.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def by_name(services: Sequence[ServiceView]) -> Services:
    return {service.name: service for service in services}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def http(port: int) -> str:
    """What the web server on the port answers; "" if nothing does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
            body: bytes = answer.read()
            return body.decode()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie doesn't)."""
    return bool(_content(Path(f"/proc/{pid}/cmdline")))


def _digest(path: Path) -> str:
    """The id of a process executor's directory, as its control groups carry it."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
