"""A whole cluster from one seed: one manager on the model of consensus, and agents on fake hosts over simulated wires.

Everything that decides or acts is the real code: writer, engine, store, dispatcher, intake, agents, workers. Only what
they stand on is simulated: time, disk, network, containers. After each applied entry the state is checked, and so is the
step to it; what is found is kept with its time and fails the run. Processes are killed, not asked to end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from stackd.agent.session import Agent
from stackd.api.dispatch import FromAgent, FromManager
from stackd.api.stream import Stream
from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import NodeId, new_id
from stackd.engine.check import check_state, check_transition
from stackd.engine.inputs import DeployRevision, Input, Reply
from stackd.engine.model import SYSTEM, Node, Owner
from stackd.engine.store import Changes, Store
from stackd.engine.view import View
from stackd.manager.dispatcher import Dispatcher
from stackd.manager.intake import deploy, prepare
from stackd.manager.writer import Writer
from stackd.raft.model import MemoryConsensus, MemoryLog
from stackd.security.keys import KEY_BYTES, RootKey
from stackd.simulation.executor import FakeExecutor
from stackd.simulation.host import FakeHost
from stackd.simulation.loop import VirtualClock
from stackd.simulation.settled import unsettled
from stackd.simulation.wire import Wire
from stackd.spec.stack import StackSpec

COMMIT_SECONDS = 0.001
"""How long an entry is on its way to the disk."""

SNAPSHOT_ENTRIES = 60
"""Few, so that a restart usually finds a snapshot and a log after it."""

ANSWER_SECONDS = 30.0
"""A command that isn't answered within this went to a manager that died."""

ASK_AGAIN_SECONDS = 0.5
"""Pause before a command is repeated that found no manager."""


class Violation(AssertionError):
    """The cluster did what it must never do. Names the seed that leads there."""


@dataclass(slots=True)
class _Manager:
    """One life of the manager."""

    consensus: MemoryConsensus
    writer: Writer
    dispatcher: Dispatcher
    group: asyncio.TaskGroup
    wires: list[Wire] = field(default_factory=list)


@dataclass(slots=True)
class SimulatedNode:
    """One host and the present life of its agent. `reachable` False keeps the agent from connecting anew."""

    id: NodeId
    host: FakeHost
    clock: VirtualClock
    process: asyncio.Task[None] | None = None
    wire: Wire | None = None
    reachable: bool = True


class SimulatedCluster:
    """Use as `async with SimulatedCluster(seed).running() as cluster`, in virtual time."""

    def __init__(self, seed: int, *, nodes: int = 3) -> None:
        self.seed = seed
        self.log = MemoryLog()
        self.violations: list[str] = []
        self.clock = VirtualClock()
        ids = self.chance("ids")
        self.nodes = [self._make_node(f"host-{n}", NodeId(new_id(ids))) for n in range(1, nodes + 1)]
        self._key = RootKey(bytes(KEY_BYTES))
        self._ids = self.chance("decisions")
        self._latency = self.chance("latency")
        self._manager: _Manager | None = None
        self._manager_process: asyncio.Task[None] | None = None
        self._manager_ready = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._before: View | None = None

    def chance(self, purpose: str) -> random.Random:
        """Randomness of its own for each purpose, so that one more draw here changes nothing there."""
        return random.Random(f"{self.seed}/{purpose}")

    def _make_node(self, hostname: str, node_id: NodeId) -> SimulatedNode:
        return SimulatedNode(node_id, FakeHost(hostname, self.chance(hostname)), VirtualClock())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SimulatedCluster]:
        """The cluster at work within the block, with all nodes there; all of it is killed at the end. Raises Violation if
        any check failed."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self.start_manager()
            for node in self.nodes:
                self.start_agent(node)
            try:
                await self.settle()
                yield self
            finally:
                for node in self.nodes:
                    await self.kill_agent(node)
                await self.kill_manager()
        self.require_no_violations()

    @property
    def view(self) -> View:
        """The state as the present manager has it; raises Unavailable while there is none."""
        return self._present().writer.view

    # -- the manager's lives

    async def start_manager(self) -> None:
        """A new life of the manager, from what the one before left on disk; returns once it leads."""
        self._manager_process = self._spawn(self._run_manager(), "manager")
        await self._manager_ready.wait()
        await self._present().writer.wait_ready()

    async def kill_manager(self) -> None:
        """As kill -9 does: entries under way are lost, agents see their connections break."""
        manager, self._manager = self._manager, None
        self._manager_ready.clear()
        if manager is not None:
            manager.consensus.crash()
            for wire in manager.wires:
                wire.cut()
        await _kill(self._manager_process)

    def depose_manager(self) -> None:
        """Lose leadership and win it back at once, in a new term."""
        consensus = self._present().consensus
        consensus.step_down()
        consensus.lead()

    async def _run_manager(self) -> None:
        consensus = MemoryConsensus(self.log, delay_seconds=COMMIT_SECONDS, snapshot_entries=SNAPSHOT_ENTRIES)
        snapshot = await consensus.start()
        store = Store() if snapshot is None else Store.restore(snapshot)
        writer = Writer(store, consensus, self.clock, self._ids)
        dispatcher = Dispatcher(writer.view, writer.submit, self._key.open_blob)
        writer.listen(dispatcher.notice)
        self._before = store.freeze().view
        writer.listen(lambda changes: self._check(store, changes))
        async with asyncio.TaskGroup() as group:
            self._manager = _Manager(consensus, writer, dispatcher, group)
            group.create_task(writer.run())
            await writer.wait_ready()
            group.create_task(dispatcher.run())
            self._manager_ready.set()

    def _present(self) -> _Manager:
        if self._manager is None:
            raise Unavailable("simulation.manager.down", "the manager is down")
        return self._manager

    # -- the agents' lives

    def start_agent(self, node: SimulatedNode) -> None:
        """A new life of a node's agent, from what the host has."""

        async def connect() -> Stream[FromManager, FromAgent]:
            return self._connect(node)

        entropy = self.chance(f"{node.host.hostname}/agent")
        agent = Agent(node.id, FakeExecutor(node.host, node.clock), connect, node.host.states, node.clock, entropy)
        node.process = self._spawn(agent.run(), f"agent {node.host.hostname}")

    async def kill_agent(self, node: SimulatedNode) -> None:
        """As kill -9 does; the host's containers go on."""
        await _kill(node.process)
        node.process = None
        if node.wire:
            node.wire.cut()

    def _connect(self, node: SimulatedNode) -> Stream[FromManager, FromAgent]:
        manager = self._present()
        if not node.reachable or not self._manager_ready.is_set():
            raise Unavailable("simulation.unreachable", "the manager can't be reached")
        wire = node.wire = Wire(lambda: self._latency.uniform(0.0005, 0.02))
        manager.wires = [one for one in manager.wires if one.is_open]
        manager.wires.append(wire)
        record = Node(id=node.id, created_at=self.clock.now())
        manager.group.create_task(manager.dispatcher.serve(wire.manager_end, node=record))
        ours: Stream[FromManager, FromAgent] = wire.agent_end
        return ours

    # -- commands

    async def submit(self, command: Input) -> Reply:
        """A command to whichever manager there is; waits for one, and asks again after an error."""
        return await self._ask(lambda writer: writer.submit(command))

    async def deploy(self, *stacks: StackSpec, label: str = "", prune: tuple[str, ...] = ()) -> Reply:
        """Deploy stacks, the way a source does."""
        prepared = prepare([(stack, Owner()) for stack in stacks], self._key)
        command = DeployRevision(
            label=label or f"at {asyncio.get_running_loop().time():.3f}",
            source="",
            stacks=prepared.manifests,
            principal=SYSTEM,
            prune=prune,
        )
        return await self._ask(lambda writer: deploy(writer, prepared, command))

    async def _ask(self, question: Callable[[Writer], Awaitable[Reply]]) -> Reply:
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await question(self._present().writer)
            except (StackdError, TimeoutError):
                await asyncio.sleep(ASK_AGAIN_SECONDS)

    # -- what must hold

    def _check(self, store: Store, changes: Changes) -> None:
        """After each applied entry: the state, and the step to it."""
        after = store.freeze().view
        found = check_state(after)
        if self._before is not None:
            found += check_transition(self._before, after)
        self._before = after
        self.violations += [f"entry {changes.index}: {finding}" for finding in found]

    def require_no_violations(self) -> None:
        """Raises Violation if anything that must always hold didn't."""
        found = [*self.violations, *self._started_twice()]
        if found:
            raise Violation(f"seed {self.seed}: " + "; ".join(found[:10]))

    def _started_twice(self) -> list[str]:
        return [
            f"task {task_id} was started {count} times on {node.host.hostname}"
            for node in self.nodes
            for task_id, count in node.host.starts.items()
            if count > 1
        ]

    async def settle(self, seconds: float = 600.0) -> None:
        """Wait until everything is as wanted. Raises Violation, saying what isn't, if that takes longer."""
        try:
            async with asyncio.timeout(seconds):
                while self.unsettled():
                    await asyncio.sleep(0.25)
        except TimeoutError:
            self.require_no_violations()
            raise Violation(f"seed {self.seed}: not settled: " + "; ".join(self.unsettled()[:10])) from None

    def unsettled(self) -> list[str]:
        """What isn't as wanted, on record or on the hosts; nothing is well."""
        if self._manager is None:
            return ["the manager is down"]
        return unsettled(self.view, {node.id: node.host for node in self.nodes})

    def _spawn(self, process: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("the cluster is not running")
        return self._group.create_task(process, name=name)


async def _kill(process: asyncio.Task[None] | None) -> None:
    """End a process without giving it a say."""
    if process is not None:
        process.cancel()
        await asyncio.wait((process,))
