"""A simulated container host: what outlives its agent, and what the images on it do.

An image's name says how its containers behave, so that a stack file alone tells a scenario:

    img:missing               can't be pulled
    img:fails-at-start        the start is a fault
    img:exits-1-after-2s      runs for two seconds, then ends with code 1
    img:starts-in-30s         its process runs at once, and is healthy after so long (an image with a healthcheck)
    img:pulls-in-60s          slow to prepare
    img:stops-in-8s           slow to stop
    anything else             runs until it is stopped
"""

from __future__ import annotations

import asyncio
import errno
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from stackd.agent.lease import LeaseNote
from stackd.agent.taskfiles import StoredTask
from stackd.base.ids import ServiceId, TaskId
from stackd.base.records import decoder, encode
from stackd.base.time import Instant
from stackd.engine.parts import NodeDescription
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Resources

_EXITS = re.compile(r":exits-(\d+)-after-(\d+)s")
_SLOW = re.compile(r":(pulls|starts|stops)-in-(\d+)s")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What an image's containers do. Seconds of None mean the host's own random delay; `exits_after` None is never."""

    missing: bool = False
    fails_at_start: bool = False
    pull_seconds: float | None = None
    start_seconds: float | None = None
    stop_seconds: float | None = None
    exit_code: int = 0
    exits_after: float | None = None


def behaviour_of(image: str) -> Behaviour:
    """The behaviour that an image's name describes."""
    slow = {kind: float(amount) for kind, amount in _SLOW.findall(image)}
    exits = _EXITS.search(image)
    return Behaviour(
        missing=":missing" in image,
        fails_at_start=":fails-at-start" in image,
        pull_seconds=slow.get("pulls"),
        start_seconds=slow.get("starts"),
        stop_seconds=slow.get("stops"),
        exit_code=int(exits[1]) if exits else 0,
        exits_after=float(exits[2]) if exits else None,
    )


class FencedSlot(NamedTuple):
    """A slot whose tasks must never run on two hosts at once."""

    service_id: ServiceId
    number: int


@dataclass
class Container:
    """One task on the host. `exit_code` None while it hasn't ended; it is healthy from `healthy_at` on, in the loop's time.
    `fenced` is its slot if its service asks to be fenced."""

    task_id: TaskId
    fenced: FencedSlot | None = None
    pid: int = 0
    running: bool = False
    exit_code: int | None = None
    healthy_at: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    lines: list[tuple[Instant, bytes]] = field(default_factory=list)


class MemoryTaskStates:
    """The agent's files on a simulated host's disk. `full` makes every write fail. `moves` counts how tasks went from state to
    state."""

    def __init__(self) -> None:
        self.moves: Counter[tuple[TaskState, TaskState]] = Counter()
        self._tasks: dict[TaskId, bytes] = {}
        self._states: dict[TaskId, TaskState] = {}
        self._lease: LeaseNote | None = None
        self._decode = decoder(StoredTask).decode
        self.full = False

    def load(self) -> tuple[StoredTask, ...]:
        return tuple(self._decode(data) for _, data in sorted(self._tasks.items()))

    def save(self, task: StoredTask) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        task_id, state = task.assignment.id, task.status.state
        before = self._states.get(task_id)
        if before is None:  # the manager has handed it over: what is accepted was assigned
            before = TaskState.ASSIGNED if state is TaskState.ACCEPTED else state
        if state is not before:
            self.moves[before, state] += 1
        self._states[task_id] = state
        self._tasks[task_id] = encode(task)

    def delete(self, task_id: TaskId) -> None:
        self._tasks.pop(task_id, None)
        self._states.pop(task_id, None)

    def load_lease(self) -> LeaseNote | None:
        return self._lease

    def save_lease(self, note: LeaseNote) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        self._lease = note


CAPACITY = Resources(nano_cpus=8_000_000_000, memory_bytes=16 * 1024**3)
"""What a simulated host has, if nothing else is said."""


class FakeHost:
    """The containers of one node, its engine and its disk. `starts` counts how often each task was started, ever: never
    twice. `description` is what its agent finds when it looks. With `registry_up` False no image can be pulled here.
    `on_start` is told of each container that begins to run."""

    def __init__(self, hostname: str, entropy: random.Random) -> None:
        self.hostname = hostname
        self.description = NodeDescription(
            hostname=hostname,
            os="linux",
            arch="x86_64",
            resources=CAPACITY,
            executors=("fake",),
            engine_version="1",
            features=("ports-map",),
        )
        self.containers: dict[TaskId, Container] = {}
        self.states = MemoryTaskStates()
        self.starts: Counter[TaskId] = Counter()
        self.registry_up = True
        self.on_start: Callable[[FakeHost, Container], None] | None = None
        self._engine_up = True
        self._is_attended = False
        self._in_hand_since = 0.0
        self._entropy = entropy
        self._pids = 1000

    @property
    def engine_up(self) -> bool:
        return self._engine_up

    @engine_up.setter
    def engine_up(self, up: bool) -> None:
        self._engine_up = up
        self._in_hand_since = asyncio.get_running_loop().time()

    def attend(self, is_attended: bool) -> None:
        """An agent has begun to look after the host, or has ended."""
        self._is_attended = is_attended
        self._in_hand_since = asyncio.get_running_loop().time()

    @property
    def in_hand_seconds(self) -> float:
        """How long the agent and the engine have both been there, without a break: only together can they end a container."""
        return asyncio.get_running_loop().time() - self._in_hand_since if self._is_attended and self._engine_up else 0.0

    def delay(self, wanted: float | None, low: float, high: float) -> float:
        """How long something takes: as the image says, else as the day goes."""
        return self._entropy.uniform(low, high) if wanted is None else wanted

    def create(self, task_id: TaskId, fenced: FencedSlot | None = None) -> Container:
        """The task's container, made if it isn't there."""
        return self.containers.setdefault(task_id, Container(task_id, fenced))

    def start(self, container: Container, behaviour: Behaviour) -> None:
        """Run the container's process, once more if it has ended."""
        loop = asyncio.get_running_loop()
        self._pids += 1
        self.starts[container.task_id] += 1
        container.pid, container.running, container.exit_code = self._pids, True, None
        container.ended.clear()
        container.healthy_at = loop.time() + (behaviour.start_seconds or 0.0)
        if behaviour.exits_after is not None:
            loop.call_later(behaviour.exits_after, self._exit, container, container.pid, behaviour.exit_code)
        if self.on_start is not None:
            self.on_start(self, container)

    def _exit(self, container: Container, pid: int, exit_code: int) -> None:
        if container.pid == pid:
            self.end(container, exit_code)

    def end(self, container: Container, exit_code: int) -> None:
        """The container's process has ended."""
        if container.running:
            container.running, container.exit_code, container.pid = False, exit_code, 0
            container.ended.set()

    def remove(self, task_id: TaskId) -> None:
        if container := self.containers.pop(task_id, None):
            self.end(container, 137)
            container.ended.set()

    def reboot(self) -> None:
        """Every process on the host is killed; what was created stays."""
        for container in self.containers.values():
            self.end(container, 137)
