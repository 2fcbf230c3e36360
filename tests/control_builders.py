"""A live manager for tests: real writer, engine and store over the model of consensus, in virtual time, and a node that
carries out what it is given. `play` runs a story against it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import msgspec
from stackd.api.control import ApplyRequest, ApplyResponse, Caller, PlanRequest
from stackd.api.dispatch import LogChunk
from stackd.api.views import PlanView
from stackd.base.ids import NodeId
from stackd.base.time import Instant
from stackd.engine.explain import ServiceHealth, service_health
from stackd.engine.inputs import DeployRevision, Input, RegisterNode, Reply, ReportTasks
from stackd.engine.model import Service, Task
from stackd.engine.parts import NodeDescription, Owner, Principal, PrincipalKind
from stackd.engine.status import TaskStatus
from stackd.engine.store import Changes, Store
from stackd.engine.taskstate import Step, TaskState, next_step
from stackd.engine.view import View
from stackd.manager.control import Control, Identity
from stackd.manager.intake import deploy, prepare
from stackd.manager.writer import Writer
from stackd.raft.model import MemoryConsensus, MemoryLog
from stackd.security.keys import KEY_BYTES, RootKey
from stackd.simulation.loop import VirtualClock, run
from stackd.spec.stack import Resources, StackSpec

from engine_builders import a_node

T = TypeVar("T")

NODE = NodeId("node1")
ANN = Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name="ann"))
OPERATION_SECONDS = 0.2
"""What the node takes for each operation."""

_LEADS_TO = {
    Step.ACCEPT: TaskState.PREPARING,
    Step.PREPARE: TaskState.READY,
    Step.START: TaskState.RUNNING,
    Step.STOP: TaskState.SHUTDOWN,
}


async def _at_once(function: Callable[..., T], *arguments: object) -> T:
    return function(*arguments)


class MemorySources:
    """Sources that only note what is asked of them."""

    def __init__(self) -> None:
        self.synced: list[tuple[str, bool]] = []
        self.stopped = False

    async def sync_now(self, source: str, *, approve_prune: bool) -> None:
        self.synced.append((source, approve_prune))

    async def stop_sources(self) -> None:
        self.stopped = True


class MemoryLogs:
    """Logs of tasks by id; an error in place of the lines is how the stream breaks. `endless` streams wait for more at their
    end. `open` counts those that are being read."""

    def __init__(self) -> None:
        self.chunks: dict[str, list[LogChunk] | Exception] = {}
        self.endless = False
        self.open = 0

    async def tail_logs(self, task: Task, *, follow: bool, tail: int, since: Instant) -> AsyncGenerator[LogChunk, None]:
        content = self.chunks.get(task.id, [])
        if isinstance(content, Exception):
            raise content
        self.open += 1
        try:
            for chunk in content:
                yield chunk
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.open -= 1


class LiveManager:
    """One life of a manager over `log`. `node_works` False: the node has stopped carrying out anything."""

    def __init__(
        self,
        log: MemoryLog | None = None,
        *,
        delay_seconds: float = 0.001,
        snapshot_entries: int = 10_000,
        threads: bool = False,
    ) -> None:
        """`threads` lets plans run in one, as they do in real time; virtual time knows none."""
        self.log = log or MemoryLog()
        self.consensus = MemoryConsensus(self.log, delay_seconds=delay_seconds, snapshot_entries=snapshot_entries)
        self.key = RootKey(bytes(KEY_BYTES))
        self.sources = MemorySources()
        self.logs = MemoryLogs()
        self.node_works = True
        self.stops = 0
        self._threads = threads
        self.writer: Writer
        self.control: Control
        self._group: asyncio.TaskGroup

    @asynccontextmanager
    async def running(self, *, node: bool = True) -> AsyncIterator[LiveManager]:
        snapshot = await self.consensus.start()
        store = Store() if snapshot is None else Store.restore(snapshot)
        self.writer = Writer(store, self.consensus, VirtualClock(), random.Random(7))
        self.writer.listen(self._work)
        self.control = Control(
            identity=Identity(node_id=NODE, version="1.2.3", data_dir="/var/lib/stackd", pid=42),
            writer=self.writer,
            keeper=self.key,
            sources=self.sources,
            logs=self.logs,
            node_idle=self._idle,
            stop=self._stop,
            off_loop=asyncio.to_thread if self._threads else _at_once,
        )
        async with asyncio.TaskGroup() as group:
            self._group = group
            life = group.create_task(self.writer.run())
            await self.writer.wait_ready()
            if node:
                await self.writer.submit(self.registration())
            try:
                yield self
            finally:
                self.node_works = False
                life.cancel()

    @staticmethod
    def registration() -> RegisterNode:
        description = NodeDescription(
            hostname="host1", executors=("fake",), features=("ports-map",), resources=Resources(nano_cpus=8 * 10**9)
        )
        return RegisterNode(id=NODE, description=description, node=a_node(1))

    async def _idle(self) -> None:
        """The fake node holds nothing once its tasks are gone."""

    async def _stop(self) -> None:
        self.stops += 1

    def _work(self, changes: Changes) -> None:
        """The node: one operation of each task that was touched, a while later."""
        for row in changes.puts:
            task_id = row.id if isinstance(row, Task | TaskStatus) else None
            if task_id is not None and self.view.tasks.get(task_id) is not None:
                asyncio.get_running_loop().call_later(OPERATION_SECONDS, self._operate, task_id)

    def _operate(self, task_id: str) -> None:
        task = self.view.tasks.get(task_id)
        status = self.view.statuses.get(task_id)
        if not self.node_works or task is None or status is None or status.state < TaskState.ASSIGNED:
            return
        if state := _LEADS_TO.get(next_step(status.state, task.desired)):
            report = msgspec.structs.replace(status, state=state, message="done")
            self._group.create_task(self._report(ReportTasks(node_id=NODE, statuses=(report,))))

    async def _report(self, report: ReportTasks) -> None:
        try:
            await self.writer.submit(report)
        except Exception:
            if self.node_works:
                raise

    # What tests do and look at.

    @property
    def view(self) -> View:
        return self.writer.view

    async def submit(self, *inputs: Input) -> tuple[Reply, ...]:
        return await self.writer.submit_all(inputs)

    async def apply(self, *stacks: StackSpec, adopt: bool = False, base_version: int = 0) -> ApplyResponse:
        files = tuple(f"{stack.name}.yaml" for stack in stacks)
        return await self.control.apply(ApplyRequest(stacks=stacks, files=files, adopt=adopt, base_version=base_version), ANN)

    async def deploy_from_source(self, *stacks: StackSpec, prune: tuple[str, ...] = (), source: str = "main") -> Reply:
        """Deploy as a source does, which then owns the stacks."""
        content = prepare([(stack, Owner(source=source, file=f"{stack.name}.yaml")) for stack in stacks], self.key)
        command = DeployRevision(
            label=f"commit of {stacks[0].name}" if stacks else "empty",
            source=source,
            stacks=content.manifests,
            principal=Principal(kind=PrincipalKind.SOURCE, name=source),
            prune=prune,
        )
        return await deploy(self.writer, content, command)

    async def plan(self, *stacks: StackSpec) -> PlanView:
        return await self.control.plan(PlanRequest(stacks=stacks, files=tuple(f"{stack.name}.yaml" for stack in stacks)), ANN)

    def service(self, name: str = "shop_web") -> Service:
        service = self.view.service_named(name)
        assert service is not None
        return service

    def tasks(self, name: str = "shop_web") -> Sequence[Task]:
        return self.view.tasks_of_service(self.service(name).id)

    def running_tasks(self, name: str = "shop_web") -> int:
        return sum(self.view.status_of(task.id).state is TaskState.RUNNING for task in self.tasks(name))

    async def until(self, predicate: Callable[[], bool], seconds: float = 300.0) -> None:
        """Wait until the predicate holds after some entry."""
        async with asyncio.timeout(seconds):
            while not predicate():
                await self.writer.feed.wait_past(self.writer.feed.index)

    async def settle(self) -> None:
        """Wait until all stacks have converged."""

        def settled() -> bool:
            return all(item.converged for item in self._services())

        await self.until(settled)

    def _services(self) -> Sequence[ServiceHealth]:
        return [service_health(self.view, service) for service in self.view.services.values()]


def play(story: Callable[[LiveManager], Awaitable[T]], manager: LiveManager | None = None, *, node: bool = True) -> T:
    """Run the story beside a live manager, in virtual time."""

    async def main() -> T:
        async with (manager or LiveManager()).running(node=node) as live:
            return await story(live)

    return run(main())


async def first(items: AsyncIterator[T], number: int, seconds: float = 60.0) -> list[T]:
    """The first `number` items of a stream, which is then closed."""
    found: list[T] = []
    async with asyncio.timeout(seconds):
        assert isinstance(items, AsyncGenerator)
        async with aclosing(items):
            async for item in items:
                found.append(item)
                if len(found) == number:
                    break
    return found
