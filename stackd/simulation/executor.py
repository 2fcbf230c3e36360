"""The executor of simulated hosts: the same port as docker and process, passing through the same states.

Every operation takes a random while, is idempotent and may be cancelled anywhere, as the port demands. No more than that: the
engine starts a container once more that has ended, and a controller knows of it only what it has done itself or `adopt` has
found. So it shows if a worker doesn't look before it acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from stackd.agent.executor.base import Controller, Exit, Found, Handle, LogLine, TaskContext, TaskEnded
from stackd.base.errors import Retry, TaskFault, Unavailable
from stackd.base.ids import TaskId
from stackd.base.time import Clock, Instant
from stackd.engine.parts import NodeDescription
from stackd.simulation.host import Container, FakeHost, FencedSlot, behaviour_of

_GONE = Exit(code=137, error="the container is gone")


class FakeController:
    """One task on a FakeHost."""

    def __init__(self, host: FakeHost, context: TaskContext, clock: Clock) -> None:
        self._host = host
        self._context = context
        self._clock = clock
        self._behaviour = behaviour_of(context.spec.container.image)
        self._is_started = False
        """By this object, or found so."""

    async def adopt(self) -> Found | None:
        self._check_engine()
        container = self._host.containers.get(self._context.id)
        if container is None:
            return None
        self._is_started = container.running or container.exit_code is not None
        return Found(handle=_handle(container), running=container.running, exit=_exit(container))

    async def prepare(self) -> Handle:
        await self._take(self._behaviour.pull_seconds, 0.02, 0.5)
        if self._behaviour.missing or not self._host.registry_up:
            image = self._context.spec.container.image
            raise TaskFault("fake.image.missing", f"No such image: {image}")
        self._check_files()
        return _handle(self._host.create(self._context.id, self._fenced()))

    async def start(self) -> Handle:
        container = self._container()
        if not (container.running or self._is_started):
            await self._take(None, 0.01, 0.2)
            if self._behaviour.fails_at_start:
                raise TaskFault("fake.start.failed", "exec: no such file or directory")
            self._host.start(container, self._behaviour)
            container.lines.append((self._clock.now(), b"started"))
        self._is_started = True
        await self._until_healthy(container)
        return _handle(container)

    async def _until_healthy(self, container: Container) -> None:
        """Raises TaskEnded if its process ends before it is healthy."""
        loop = asyncio.get_running_loop()
        if loop.time() >= container.healthy_at:
            return
        try:
            async with asyncio.timeout_at(container.healthy_at):
                await container.ended.wait()
        except TimeoutError:
            return
        self._check_engine()
        raise TaskEnded(_exit(container) or _GONE)

    async def wait(self) -> Exit:
        container = self._host.containers.get(self._context.id)
        if container is None:
            return _GONE
        await container.ended.wait()
        while not self._host.engine_up:
            await asyncio.sleep(1.0)
        return _exit(container) or _GONE

    async def stop(self) -> Exit | None:
        container = self._host.containers.get(self._context.id)
        if container is None or not (container.running or container.ended.is_set()):
            return None
        await self._take(self._behaviour.stop_seconds, 0.01, 0.3)
        self._host.end(container, 143)
        return _exit(container)

    async def remove(self) -> None:
        await self._take(None, 0.01, 0.1)
        self._host.remove(self._context.id)

    async def logs(self, *, follow: bool, tail: int, since: Instant) -> AsyncIterator[LogLine]:
        container = self._host.containers.get(self._context.id)
        if container is None:
            return
        lines = [line for line in container.lines if line[0] > since]
        for at, line in lines if tail < 0 else lines[len(lines) - tail :]:
            yield LogLine(at=at, stream="stdout", line=line)
        if follow and container.exit_code is None:
            await container.ended.wait()

    async def pid(self) -> int:
        container = self._host.containers.get(self._context.id)
        return container.pid if container else 0

    def _container(self) -> Container:
        self._check_engine()
        container = self._host.containers.get(self._context.id)
        if container is None:
            raise TaskFault("fake.container.missing", f"No such container: {self._context.assignment.name}")
        return container

    def _fenced(self) -> FencedSlot | None:
        """A global task has no number: its slot is its node, where it can't but run."""
        assignment = self._context.assignment
        is_fenced = self._context.spec.fence and assignment.slot
        return FencedSlot(assignment.service_id, assignment.slot) if is_fenced else None

    def _check_files(self) -> None:
        container = self._context.spec.container
        for ref in (*container.configs, *container.secrets):
            if ref.digest not in self._context.files:
                raise TaskFault("fake.file.missing", f"no content for {ref.source}")

    def _check_engine(self) -> None:
        if not self._host.engine_up:
            raise TaskFault("fake.engine.away", "the engine does not answer", retry=Retry.LATER)

    async def _take(self, wanted: float | None, low: float, high: float) -> None:
        self._check_engine()
        await asyncio.sleep(self._host.delay(wanted, low, high))
        self._check_engine()


class FakeExecutor:
    """An agent's executor on a FakeHost; the host outlives it."""

    name = "fake"

    def __init__(self, host: FakeHost, clock: Clock) -> None:
        self._host = host
        self._clock = clock

    async def start(self) -> None:
        self._host.attend(True)

    async def describe(self) -> NodeDescription:
        if not self._host.engine_up:
            raise Unavailable("fake.engine.away", "the engine does not answer")
        return self._host.description

    def available(self) -> bool:
        return self._host.engine_up

    def controller(self, context: TaskContext) -> Controller:
        return FakeController(self._host, context, self._clock)

    async def known_tasks(self) -> tuple[TaskId, ...]:
        if not self._host.engine_up:
            raise Unavailable("fake.engine.away", "the engine does not answer")
        return tuple(self._host.containers)

    async def close(self) -> None:
        self._host.attend(False)


def _handle(container: Container) -> Handle:
    return Handle(container_id=f"c-{container.task_id}", pid=container.pid)


def _exit(container: Container) -> Exit | None:
    code = container.exit_code
    if code is None:
        return None
    return Exit(code=code, error=f"task: non-zero exit ({code})" if code else "")
