"""A whole cluster from one seed: managers on the model of consensus, and agents on fake hosts over simulated wires.

Everything that decides or acts is the real code: writers, engine, stores, dispatchers, intake, agents, workers. Only what
they stand on is simulated: time, disks, network, containers. After each applied entry the state is checked, and so is the
step to it; what is found is kept with its time and fails the run. Processes are killed, not asked to end.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import NodeId, new_id
from stackd.engine.check import check_state
from stackd.engine.inputs import DeployRevision, Input, Reply
from stackd.engine.parts import SYSTEM, Owner
from stackd.engine.step import Decision
from stackd.engine.store import Store
from stackd.engine.view import View
from stackd.manager.intake import deploy, prepare
from stackd.manager.writer import Writer
from stackd.raft.ensemble import Ensemble, Pace
from stackd.security.keys import KEY_BYTES, RootKey
from stackd.simulation.checker import Checker, differing
from stackd.simulation.fences import Fences
from stackd.simulation.host import FakeHost
from stackd.simulation.manager import SimulatedManager
from stackd.simulation.node import SimulatedNode
from stackd.simulation.settled import unsettled
from stackd.spec.stack import StackSpec

T = TypeVar("T")

PACE = Pace(commit_seconds=0.001, lag_seconds=(0.0, 0.3), snapshot_entries=60)
"""Snapshots are frequent, so that a restart usually finds one and a log after it."""

ANSWER_SECONDS = 30.0
"""A command that isn't answered within this went to a manager that died."""

ASK_AGAIN_SECONDS = 0.5
"""Pause before a command is repeated that found no manager, or not the leader."""

ASTRAY = 0.1
"""Share of the commands that first go to any manager and not to the one that leads."""


class Violation(AssertionError):
    """The cluster did what it must never do. Names the seed that leads there."""


class SimulatedCluster:
    """Use as `async with SimulatedCluster(seed).running() as cluster`, in virtual time. `decided` counts the reasons of all
    decisions."""

    def __init__(self, seed: int, *, nodes: int = 3, managers: int = 1, pace: Pace = PACE) -> None:
        self.seed = seed
        self.decided: Counter[str] = Counter()
        self.key = RootKey(bytes(KEY_BYTES))
        self.checker = Checker(Store().view)
        names = [f"manager-{n}" for n in range(1, managers + 1)]
        self.log = Ensemble(names, self.chance("consensus"), pace)
        self.managers = [SimulatedManager(name, self.log, self.chance(name), self.key) for name in names]
        ids = self.chance("ids")
        self.nodes = [self._make_node(f"host-{n}", NodeId(new_id(ids))) for n in range(1, nodes + 1)]
        self.fences = Fences([node.host for node in self.nodes])
        self.checker.observers.append(self.fences.observe)
        self._clients = self.chance("clients")
        self._group: asyncio.TaskGroup | None = None

    def chance(self, purpose: str) -> random.Random:
        """Randomness of its own for each purpose, so that one more draw here changes nothing there."""
        return random.Random(f"{self.seed}/{purpose}")

    def _make_node(self, hostname: str, node_id: NodeId) -> SimulatedNode:
        latency = self.chance(f"{hostname}/latency")
        return SimulatedNode(
            node_id,
            FakeHost(hostname, self.chance(hostname)),
            self.managers,
            self.chance(f"{hostname}/agent"),
            lambda: latency.uniform(0.0005, 0.02),
        )

    @asynccontextmanager
    async def running(self, *, late: int = 0) -> AsyncIterator[SimulatedCluster]:
        """The cluster at work within the block, with all nodes there but the `late` last ones; all of it is killed at the
        end. Raises Violation if any check failed."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for manager in self.managers:
                await self.start_manager(manager)
            for node in self.nodes[: len(self.nodes) - late]:
                self.start_agent(node)
            try:
                await self.settle()
                yield self
                self.require_equal_states()
            finally:
                for node in self.nodes:
                    await self.kill_agent(node)
                for manager in self.managers:
                    await self.kill_manager(manager)
        self.require_no_violations()

    # -- the managers' lives

    @property
    def leader(self) -> SimulatedManager:
        """The manager that leads; raises Unavailable while there is none."""
        for manager in self.managers:
            if manager.leads and manager.name == self.log.leader:
                return manager
        raise Unavailable("simulation.leader.none", "no manager leads")

    @property
    def view(self) -> View:
        """The state as the leader has it; raises Unavailable while there is none."""
        return self.leader.writer.view

    async def start_manager(self, manager: SimulatedManager | None = None) -> None:
        """A new life of a manager (the first, if none is named), from what the one before left on disk."""
        manager = manager or self.managers[0]
        manager.process = self._spawn(manager.run(self.checker.look, self._note), manager.name)
        while not manager.is_running:
            await asyncio.sleep(0)

    async def kill_manager(self, manager: SimulatedManager | None = None) -> None:
        """As kill -9 does (to the leader, if none is named): agents see their connections break."""
        manager = manager or self.leader
        manager.vanish()
        await _kill(manager.process)
        manager.process = None

    def depose_manager(self) -> None:
        """Let another manager be elected; one that is alone wins at once, in a new term."""
        self.log.depose()

    def _note(self, decision: Decision) -> None:
        self.decided.update(decision.reasons.values())

    # -- the agents' lives

    def start_agent(self, node: SimulatedNode) -> None:
        """A new life of a node's agent, from what the host has; the first makes the node join."""
        node.joined = True
        node.process = self._spawn(node.agent().run(), f"agent {node.host.hostname}")

    async def kill_agent(self, node: SimulatedNode) -> None:
        """As kill -9 does; the host's containers go on."""
        process, node.process = node.process, None
        await _kill(process)
        if node.wire:
            node.wire.cut()

    # -- commands

    async def submit(self, command: Input) -> Reply:
        """A command to the leader; waits for one, and asks again after an error."""
        return await self._ask(lambda writer: writer.submit(command))

    async def submit_all(self, commands: Sequence[Input]) -> tuple[Reply, ...]:
        """Commands that are decided in one step."""
        return await self._ask(lambda writer: writer.submit_all(commands))

    async def deploy(self, *stacks: StackSpec, label: str = "", prune: tuple[str, ...] = ()) -> Reply:
        """Deploy stacks, the way a source does."""
        prepared = prepare([(stack, Owner()) for stack in stacks], self.key)
        command = DeployRevision(
            label=label or f"at {asyncio.get_running_loop().time():.3f}",
            source="",
            stacks=prepared.manifests,
            principal=SYSTEM,
            prune=prune,
        )
        return await self._ask(lambda writer: deploy(writer, prepared, command))

    async def _ask(self, question: Callable[[Writer], Awaitable[T]]) -> T:
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await question(self._whom_to_ask().writer)
            except (StackdError, TimeoutError):
                await asyncio.sleep(ASK_AGAIN_SECONDS)

    def _whom_to_ask(self) -> SimulatedManager:
        return self._clients.choice(self.managers) if self._clients.random() < ASTRAY else self.leader

    # -- what must hold

    def require_no_violations(self) -> None:
        """Raises Violation if anything that must always hold didn't."""
        found = [*self.checker.findings, *self.fences.findings, *self._started_twice()]
        if found:
            raise Violation(f"seed {self.seed}: " + "; ".join(found[:10]))

    def require_equal_states(self) -> None:
        """Managers that have applied the same entries have the same state, and it is right. Raises Violation."""
        seen: dict[int, tuple[str, View]] = {}
        for manager in self.managers:
            if manager.is_running:
                view = manager.writer.view
                self.checker.findings += check_state(view)
                name, other = seen.setdefault(view.index, (manager.name, view))
                self.checker.findings += [f"{manager.name} and {name} differ in {table}" for table in differing(view, other)]
        self.require_no_violations()

    def require_nothing_left(self) -> None:
        """After all stacks were removed nothing of them is on record or on a host. Raises Violation."""
        tables = ("stacks", "services", "tasks", "statuses", "specs", "blobs", "rollouts", "endpoints", "network_statuses")
        left = [f"{len(getattr(self.view, name))} {name}" for name in tables if len(getattr(self.view, name, ()))]
        left += [
            f"{len(node.host.containers)} containers on {node.host.hostname}" for node in self.nodes if node.host.containers
        ]
        self.checker.findings += [f"left over: {what}" for what in left]
        self.require_no_violations()

    def _started_twice(self) -> list[str]:
        return [
            f"task {task_id} was started {count} times on {node.host.hostname}"
            for node in self.nodes
            for task_id, count in node.host.starts.items()
            if count > 1
        ]

    async def settle_nodes(self) -> None:
        """Wait until every node that has joined is on record. Raises Violation if that takes longer than it may."""
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                while not self._all_known():
                    await asyncio.sleep(0.25)
        except TimeoutError:
            raise Violation(f"seed {self.seed}: not every node that has joined is on record") from None

    def _all_known(self) -> bool:
        try:
            return all(node.id in self.view.nodes for node in self.nodes if node.joined)
        except Unavailable:
            return False

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
        try:
            return unsettled(self.view, {node.id: node.host for node in self.nodes if node.joined})
        except Unavailable as error:
            return [error.message]

    def _spawn(self, process: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("the cluster is not running")
        return self._group.create_task(process, name=name)


async def _kill(process: asyncio.Task[None] | None) -> None:
    """End a process without giving it a say."""
    if process is not None:
        process.cancel()
        await asyncio.wait((process,))
