"""The executor port. One `Controller` holds one task; the worker calls one operation at a time and may cancel it.

Operations are idempotent: after a restart of the agent the same step is called again and finds what is already there.
They raise `TaskFault`; with Retry.LATER the worker repeats the step after a pause, else the task is rejected (before the
start) or has failed. A host without room on its disk may also show as a plain OSError, which the worker takes for such a
passing fault. Texts of faults are the engine's own words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from stackd.api.dispatch import Assignment
from stackd.base.errors import TaskFault
from stackd.base.ids import BlobDigest, TaskId
from stackd.base.time import Instant
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import NetworkSpec, TaskSpec


@dataclass(frozen=True, slots=True)
class TaskContext:
    """All an executor needs to know of a task. `files` holds the contents of its configs and secrets by digest; contents
    of secrets live in memory only. `networks` holds what is known of the cluster's networks, by name."""

    assignment: Assignment
    spec: TaskSpec
    files: Mapping[BlobDigest, bytes] = field(repr=False)
    networks: Mapping[str, NetworkSpec] = field(default_factory=dict)

    @property
    def id(self) -> TaskId:
        return self.assignment.id


def check_executor(context: TaskContext, name: str) -> None:
    """Raise TaskFault if the task asks for an executor other than `name`."""
    wanted = context.spec.executor
    if wanted not in ("", name):
        raise TaskFault("agent.executor.other", f"the service asks for the {wanted} executor, and this node has {name}")


@dataclass(frozen=True, slots=True)
class Handle:
    """How the running task is known on the host."""

    container_id: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a task ended. `error` is "" for exit code 0, else a sentence such as `task: non-zero exit (1)`; `oom` when the
    kernel killed it for memory."""

    code: int
    error: str = ""
    oom: bool = False
    at: Instant = Instant(0)


class TaskEnded(TaskFault):
    """The task ended while it was being started: before it was healthy. `exit` says how."""

    def __init__(self, ended: Exit) -> None:
        super().__init__("agent.task.ended", ended.error or "the task ended before it was healthy")
        self.exit = ended


@dataclass(frozen=True, slots=True)
class Found:
    """What `adopt` found of a task: prepared but not started (no handle.pid, no exit), running, or ended."""

    handle: Handle
    running: bool
    exit: Exit | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output without its newline; `at` is when it was written, `stream` is stdout or stderr."""

    at: Instant
    stream: str
    line: bytes


class Controller(Protocol):
    """One task on one executor."""

    async def adopt(self) -> Found | None:
        """What already exists of this task, e.g. after a restart of the agent; None if nothing."""
        ...

    async def prepare(self) -> Handle:
        """Pull, create, lay out files and network: all that can be done ahead of the start."""
        ...

    async def start(self) -> Handle:
        """Start it and return when it runs (and, with a healthcheck, is healthy)."""
        ...

    async def wait(self) -> Exit:
        """Return when it has ended. An unhealthy container is killed and ends with an error that says so."""
        ...

    async def stop(self) -> Exit | None:
        """Stop signal, grace period, kill; None if it never ran. Also ends a task that was only prepared."""
        ...

    async def remove(self) -> None:
        """Remove every trace from the host, also when parts are already gone."""
        ...

    def logs(self, *, follow: bool, tail: int, since: Instant) -> AsyncIterator[LogLine]:
        """Lines so far (the last `tail`, all if negative), and with `follow` those to come until it ends."""
        ...

    async def pid(self) -> int:
        """The host's process id of the task's first process; 0 if it doesn't run."""
        ...


class Executor(Protocol):
    """A way to run tasks on this host."""

    @property
    def name(self) -> str:
        """`docker` or `process`."""
        ...

    async def start(self) -> None:
        """Connect and begin to watch. An engine that is away is not an error here: it is waited for in the background."""
        ...

    async def describe(self) -> NodeDescription:
        """The host as this executor sees it."""
        ...

    def available(self) -> bool:
        """Whether the engine answers at present. While it doesn't, operations raise TaskFault with Retry.LATER and
        `wait` goes on waiting: an engine that is away says nothing about its tasks."""
        ...

    def controller(self, context: TaskContext) -> Controller: ...

    async def known_tasks(self) -> tuple[TaskId, ...]:
        """Tasks of this data directory that exist on the host, running or not; what isn't assigned is then removed."""
        ...

    async def close(self) -> None:
        """Let go; tasks keep running."""
        ...
