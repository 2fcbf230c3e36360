"""One task as one container: the controller of the Docker executor.

Every operation finds by label what is already there, so each may be repeated, also by another process. A call that was
cancelled while the engine worked on it is waited for before the next operation begins: there is never more than one change
under way for a container, and none comes late. Faults carry the engine's own words.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from stackd.agent.executor.base import Exit, Found, Handle, LogLine, TaskContext, TaskEnded, check_executor
from stackd.agent.executor.docker.body import DATA_LABEL, TASK_LABEL, Body, Joined, check_supported, create_body
from stackd.agent.executor.docker.engine import DockerEngine, EngineRefused
from stackd.agent.executor.docker.files import TaskFiles
from stackd.agent.executor.docker.images import Images
from stackd.agent.executor.docker.logs import read_lines
from stackd.agent.executor.docker.networks import DockerNetworks
from stackd.agent.executor.docker.spec import UNKNOWN_CODE, Container, exit_of
from stackd.agent.executor.docker.watch import ContainerWatch, Watched
from stackd.agent.expand import expanded
from stackd.base.errors import Retry, TaskFault
from stackd.base.time import SECOND, Instant
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import ContainerSpec

T = TypeVar("T")

KILL_SECONDS = 30.0
"""How long a killed container may take to end (a process stuck in the kernel) before the stop is tried again."""
PROBE_CHARACTERS = 500
"""How much of the last health probe's output goes into a task's error."""
KILLED_CODE = 137
"""128 + SIGKILL: also what the kernel's out-of-memory killer leaves behind."""


_GONE = exit_of(UNKNOWN_CODE, at=Instant(0), cause="the container is gone from the engine")


@dataclass(frozen=True, slots=True)
class DockerHost:
    """What all controllers of one executor share. `describe` tells of the node, as far as it is known."""

    engine: DockerEngine
    watch: ContainerWatch
    files: TaskFiles
    images: Images
    networks: DockerNetworks
    data_id: str
    describe: Callable[[], NodeDescription]


class DockerController:
    """One task; see the `Controller` port for what each operation promises."""

    def __init__(self, host: DockerHost, context: TaskContext) -> None:
        self._host = host
        self._engine = host.engine
        self._context = context
        self._container_id = ""
        self._fresh = False
        """Created by this object and not started since: nobody else can have done anything to it yet."""
        self._cause = ""
        """Why it was ended from here, to go with its exit."""
        self._pending: Future[Any] | None = None

    async def adopt(self) -> Found | None:
        await self._settled()
        container = await self._find()
        if container is None:
            return None
        running = container.started and not container.ended
        return Found(container.handle, running, container.exit if container.ended else None)

    async def prepare(self) -> Handle:
        await self._settled()
        check_executor(self._context, "docker")
        node = self._host.describe()
        check_supported(self._context.spec, self._engine.api, node.os)
        context = expanded(self._context, node)
        files = self._host.files.lay_out(context, node)
        joined = await self._host.networks.join(context)
        body = create_body(context, self._host.data_id, files, joined)
        with self._networks_doubted():
            await self._create_with_image(context.spec.container, body)
            for network in joined[1:]:
                await self._connect(network)
        return Handle(container_id=self._container_id)

    async def start(self) -> Handle:
        """The engine starts a container that has ended once more, so only one that was never started is started."""
        await self._settled()
        container = None if self._fresh else await self._find()
        if not self._container_id:
            raise TaskFault("agent.docker.gone", "the container was removed before it was started")
        watched = self._host.watch.track(self._container_id)
        if container is None or not container.started:
            self._lay_out_again()
            self._fresh = False
            with self._networks_doubted(), _faults("agent.docker.start"):
                await self._call(self._engine.start, self._container_id)
        container = await self._look(watched)
        if container is None:
            return Handle(container_id=self._container_id)
        if container.health:
            await self._healthy(watched)
        return container.handle

    async def wait(self) -> Exit:
        if not self._container_id and await self._find() is None:
            return _GONE
        watched = self._host.watch.track(self._container_id)
        while True:
            change = watched.next_change()
            try:
                if await self._ended(watched):
                    return await self._exit(watched)
                if watched.health == "unhealthy":
                    return await self._end_unhealthy(watched)
            except TaskFault:
                if self._engine.available:
                    raise
            await change.wait()

    async def stop(self) -> Exit | None:
        await self._settled()
        container = await self._find()
        if container is None or not container.started:
            return None
        watched = self._host.watch.track(container.id)
        if not await self._ended(watched):
            grace_seconds = self._context.spec.container.stop_grace_ns / SECOND
            await self._signal(watched, container.stop_signal, grace_seconds)
        if not await self._ended(watched):
            await self._signal(watched, "SIGKILL", KILL_SECONDS)
        if not await self._ended(watched):
            raise TaskFault("agent.docker.stop", f"the container survives SIGKILL for {KILL_SECONDS:.0f} s", retry=Retry.LATER)
        return await self._exit(watched)

    async def remove(self) -> None:
        await self._settled()
        for container_id in await self._own_containers():
            try:
                await self._call(self._engine.remove, container_id)
            except EngineRefused as refused:
                if refused.status not in (404, 409):  # 409: somebody else is just removing it
                    raise TaskFault("agent.docker.remove", refused.words) from refused
            self._host.watch.forget(container_id)
        await self._host.networks.leave(self._context.id)
        self._host.files.remove(self._context.id)
        self._container_id = ""

    async def logs(self, *, follow: bool, tail: int, since: Instant) -> AsyncIterator[LogLine]:
        container = await self._find()
        if container is None:
            return
        if follow and not container.started:
            await self._started(self._host.watch.track(container.id))
        with _faults("agent.docker.logs"):
            tty = self._context.spec.container.tty
            opening = self._engine.open_logs(container.id, tty=tty, follow=follow, tail=tail, since=since)
            stream = await asyncio.wrap_future(opening)
        async with contextlib.aclosing(read_lines(self._engine, stream)) as lines:
            async for line in lines:
                yield line

    async def pid(self) -> int:
        container = await self._find()
        return container.pid if container is not None else 0

    def _lay_out_again(self) -> None:
        """A reboot loses the files of secrets, and the daemon may have been another one when they were made."""
        node = self._host.describe()
        self._host.files.lay_out(expanded(self._context, node), node)

    @contextlib.contextmanager
    def _networks_doubted(self) -> Iterator[None]:
        """A failure may be that somebody has removed a network: the next task had better look."""
        try:
            yield
        except TaskFault:
            self._host.networks.forget()
            raise

    async def _create_with_image(self, spec: ContainerSpec, body: Body) -> None:
        """Create the container, pulling its image if that is missing or the policy wants it."""
        with _faults("agent.docker.image"):
            await self._host.images.before_create(spec)
        missing = await self._create_unless_missing(spec, body)
        if missing is None:
            return
        with _faults("agent.docker.image"):
            await self._host.images.when_missing(spec, missing)
        if missing := await self._create_unless_missing(spec, body):
            raise TaskFault("agent.docker.image", missing.words)

    async def _create_unless_missing(self, spec: ContainerSpec, body: Body) -> EngineRefused | None:
        """Create the container; the engine's refusal if it lacks the image."""
        with _faults("agent.docker.create"):
            try:
                await self._create(body, spec.platform)
            except EngineRefused as refused:
                if not _says_no_such_image(refused):
                    raise
                return refused
        return None

    async def _connect(self, network: Joined) -> None:
        """Join one more network, unless an earlier attempt has."""
        try:
            await self._call(self._engine.connect, network.name, self._container_id, network.endpoint)
        except EngineRefused as refused:
            if "already exists" not in refused.words:
                raise TaskFault("agent.docker.network", refused.words) from refused

    async def _create(self, body: Body, platform: str) -> None:
        """A container of this task that is already there is taken as it is: the spec of a task never changes."""
        try:
            self._container_id = await self._call(self._engine.create, self._context.assignment.name, body, platform)
            self._fresh = True
        except EngineRefused as refused:
            if refused.status != 409 or await self._find() is None:
                raise

    async def _healthy(self, watched: Watched) -> None:
        """Return when the health check has passed; raises TaskEnded if the container ends before or because of it."""
        while True:
            change = watched.next_change()
            if await self._ended(watched):
                raise TaskEnded(await self._exit(watched))
            if watched.health == "unhealthy":
                raise TaskEnded(await self._end_unhealthy(watched))
            if watched.health == "healthy":
                return
            await change.wait()

    async def _started(self, watched: Watched) -> None:
        while True:
            change = watched.next_change()
            if await self._ended(watched) or watched.started:
                return
            await change.wait()

    async def _end_unhealthy(self, watched: Watched) -> Exit:
        """Stop the container; the last probe's output goes with the exit, or the evidence would be gone with it."""
        container = await self._look(watched)
        probe = container.last_probe[:PROBE_CHARACTERS] if container is not None else ""
        self._cause = f"unhealthy container: {probe}" if probe else "unhealthy container"
        await self.stop()
        return await self._exit(watched)

    async def _signal(self, watched: Watched, signal: str, seconds: float) -> None:
        """Send a signal and return when the container has ended, or after `seconds`."""
        try:
            await self._call(self._engine.kill, watched.container_id, signal)
        except EngineRefused as refused:
            if refused.status not in (404, 409):
                raise TaskFault("agent.docker.stop", refused.words) from refused
            watched.stale = True  # gone, or not running any more: see for yourself
        try:
            async with asyncio.timeout(seconds):
                while True:
                    change = watched.next_change()
                    if await self._ended(watched):
                        return
                    await change.wait()
        except TimeoutError:
            return

    async def _ended(self, watched: Watched) -> bool:
        """Whether it has ended, as far as the events say; looked up after a gap in them."""
        if watched.stale and not watched.ended:
            await self._look(watched)
        return watched.ended

    async def _exit(self, watched: Watched) -> Exit:
        """How it ended. The engine tells the exit code some 50 ms before it has cleaned up, and answers an inspection only
        after that: so it is asked only where that matters, which is when ports must be free or memory may have run out."""
        code, spec = watched.exit_code, self._context.spec
        lookup = code is None or bool(spec.ports) or (code == KILLED_CODE and spec.limits.memory_bytes > 0)
        container = await self._look(watched) if lookup and not watched.gone else None
        if container is not None:
            cause = container.error or self._cause
            return exit_of(container.exit_code, at=container.finished_at, oom=container.oom or watched.oom, cause=cause)
        if code is None:
            return _GONE
        return exit_of(code, at=watched.ended_at, oom=watched.oom, cause=self._cause)

    async def _look(self, watched: Watched) -> Container | None:
        """Inspect a watched container; None if it is gone."""
        container = await self._inspect(watched.container_id)
        if container is None:
            watched.missing()
        else:
            watched.seen(container)
        return container

    async def _find(self) -> Container | None:
        """The task's container, wherever it comes from."""
        for container_id in await self._own_containers():
            if container := await self._inspect(container_id):
                self._container_id = container_id
                return container
        self._container_id = ""
        return None

    async def _inspect(self, container_id: str) -> Container | None:
        try:
            return await asyncio.wrap_future(self._engine.inspect(container_id))
        except EngineRefused as refused:
            if refused.status == 404:
                return None
            raise TaskFault("agent.docker.inspect", refused.words) from refused

    async def _own_containers(self) -> tuple[str, ...]:
        if self._container_id:
            return (self._container_id,)
        labels = {TASK_LABEL: self._context.id, DATA_LABEL: self._host.data_id}
        with _faults("agent.docker.list"):
            found = await asyncio.wrap_future(self._engine.find(labels))
        return tuple(found)

    async def _call(self, operation: Callable[..., Future[T]], *arguments: Any) -> T:
        """Do something to the container; if this is cancelled, `_settled` knows what is still being done."""
        future = operation(*arguments)
        self._pending = future
        return await asyncio.wrap_future(future)

    async def _settled(self) -> None:
        """Wait for a call that a cancelled operation has left behind."""
        if self._pending is not None and not self._pending.done():
            earlier = asyncio.wrap_future(self._pending)
            earlier.add_done_callback(_noted)
            await asyncio.wait([earlier])


@contextlib.contextmanager
def _faults(code: str) -> Iterator[None]:
    """Make a final fault of the engine's refusal, in its own words."""
    try:
        yield
    except EngineRefused as refused:
        taken = any(sign in refused.words for sign in _PORT_TAKEN)
        raise TaskFault("agent.docker.port_in_use" if taken else code, refused.words) from refused


_PORT_TAKEN = ("port is already allocated", "address already in use")


def _says_no_such_image(refused: EngineRefused) -> bool:
    """Whether the engine lacks the image, or has it for another platform only."""
    words = refused.words.lower()
    return refused.status == 404 and ("no such image" in words or "does not match the specified platform" in words)


def _noted(future: asyncio.Future[Any]) -> None:
    """Take note of an outcome that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
