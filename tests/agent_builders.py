"""Builders for tests of the agent: assignments, a host to run them on, a manager's end to speak from."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from stackd.agent.session import Agent
from stackd.api.dispatch import (
    Assignment,
    Assignments,
    FileContent,
    Heartbeat,
    Hello,
    Renewal,
    SpecContent,
    TaskReports,
    Welcome,
)
from stackd.api.stream import memory_pair
from stackd.base.errors import Unavailable
from stackd.base.ids import BlobDigest, NodeId, ServiceId, TaskId
from stackd.base.time import SECOND, Duration, Instant
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.simulation.executor import FakeExecutor
from stackd.simulation.host import FakeHost
from stackd.simulation.loop import VirtualClock
from stackd.spec.digest import blob_digest, spec_digest
from stackd.spec.stack import ContainerSpec, FileRef, TaskSpec

NODE = NodeId("n1")
HEARTBEAT = Duration(5 * SECOND)
LEASE = Duration(15 * SECOND)


def a_spec(image: str = "img:v1", *, secrets: Sequence[bytes] = ()) -> TaskSpec:
    refs = tuple(FileRef(source=f"s{n}", target=f"/s{n}", digest=blob_digest(data)) for n, data in enumerate(secrets))
    return TaskSpec(container=ContainerSpec(image=image, secrets=refs))


def a_status(task_id: str = "t1", state: TaskState = TaskState.ASSIGNED) -> TaskStatus:
    return TaskStatus(id=TaskId(task_id), state=state, at=Instant(0))


def an_assignment(
    task_id: str = "t1",
    *,
    desired: TaskState = TaskState.RUNNING,
    spec: TaskSpec | None = None,
    state: TaskState = TaskState.ASSIGNED,
) -> Assignment:
    return Assignment(
        id=TaskId(task_id),
        service_id=ServiceId("s1"),
        stack="shop",
        service="shop_web",
        slot=1,
        node_id=NODE,
        spec_digest=spec_digest(spec or a_spec()),
        desired=desired,
        status=a_status(task_id, state),
    )


def desiring(assignment: Assignment, desired: TaskState) -> Assignment:
    return msgspec.structs.replace(assignment, desired=desired)


def assignments(
    sequence: int,
    *tasks: Assignment,
    specs: Sequence[TaskSpec] = (),
    files: Sequence[bytes] = (),
    removed: Sequence[str] = (),
    dropped: Sequence[str] = (),
    complete: bool | None = None,
) -> Assignments:
    return Assignments(
        sequence=sequence,
        complete=sequence == 1 if complete is None else complete,
        tasks=tasks,
        removed=tuple(TaskId(one) for one in removed),
        specs=tuple(SpecContent(digest=spec_digest(spec), spec=spec) for spec in specs),
        files=tuple(FileContent(digest=BlobDigest(blob_digest(data)), data=data, secret=True) for data in files),
        dropped=tuple(dropped),
    )


def a_host(seed: int = 1) -> FakeHost:
    return FakeHost("host-1", random.Random(seed))


async def until(predicate: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait, in virtual time, until `predicate` holds."""
    async with asyncio.timeout(seconds):
        while not predicate():
            await asyncio.sleep(0.01)


class ManagerEnd:
    """The manager's side of sessions, played by a test. It notes every status it was told, and answers heartbeats while it
    `renews`."""

    def __init__(self) -> None:
        self.reachable = True
        self.renews = True
        self.hellos: list[Hello] = []
        self.reports: list[TaskStatus] = []
        self.others: list[Any] = []
        self._stream: Any = None
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()

    async def connect(self) -> Any:
        if not self.reachable:
            raise Unavailable("test.unreachable", "no manager")
        agent, manager = memory_pair()
        await self._arrived.put(manager)
        return agent

    async def accept(self, *tasks: Assignment, specs: Sequence[TaskSpec] = (), files: Sequence[bytes] = ()) -> None:
        """Take the next session and open it with a complete set."""
        self._stream = await self._arrived.get()
        hello = await self._stream.receive()
        assert isinstance(hello, Hello)
        self.hellos.append(hello)
        await self._stream.send(Welcome(session=str(len(self.hellos)), heartbeat_ns=HEARTBEAT, lease_ns=LEASE))
        await self._stream.send(assignments(1, *tasks, specs=specs, files=files))

    async def send(self, message: Any) -> None:
        await self._stream.send(message)

    async def listen(self) -> None:
        """Take in what the agent says until the session ends."""
        while True:
            message = await self._stream.receive()
            if isinstance(message, TaskReports):
                self.reports += message.statuses
            else:
                self.others.append(message)
            if isinstance(message, Heartbeat) and self.renews:
                await self._stream.send(Renewal(number=message.number))

    async def hang_up(self) -> None:
        await self._stream.close()

    def states(self, task_id: str = "t1") -> list[TaskState]:
        """The states reported of a task, each once."""
        states: list[TaskState] = []
        for status in self.reports:
            if status.id == task_id and (not states or states[-1] != status.state):
                states.append(status.state)
        return states

    def last(self, task_id: str = "t1") -> TaskStatus:
        return next(status for status in reversed(self.reports) if status.id == task_id)


@asynccontextmanager
async def an_agent(host: FakeHost, manager: ManagerEnd, clock: VirtualClock | None = None) -> Any:
    """An agent that runs within the block and is killed at its end, as by a signal; the host stays."""
    clock = clock or VirtualClock()
    agent = Agent(NODE, FakeExecutor(host, clock), manager.connect, host.states, clock, random.Random(7))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(agent.run())
        yield agent
        running.cancel()
