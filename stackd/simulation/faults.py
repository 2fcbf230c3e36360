"""What goes wrong in a simulated cluster, one fault at a time or many at once, from the cluster's seed.

Every fault is healed again by itself after a random while, and `heal` ends all that are left: then the cluster has no
excuse any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from stackd.base.time import Duration, seconds
from stackd.engine.parts import NodeDescription
from stackd.simulation.cluster import SimulatedCluster
from stackd.simulation.manager import SimulatedManager
from stackd.simulation.node import SimulatedNode
from stackd.spec.stack import Resources

SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 40.0
"""A fault lasts between these: from less than a heartbeat to longer than the grace after which a node is down."""

DRIFT = seconds(3)
"""How far a host's clock may be off."""

JUMP = seconds(300)
"""How far a manager's clock is set off at most, so far that everything would be due at once."""

Fault = Callable[[], Awaitable[None]]


class Faults:
    """Breaks things in `cluster`. `counts` says how often each kind of fault happened."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._chance = cluster.chance("faults")
        self._healed = asyncio.Event()
        self._managers_busy = asyncio.Lock()
        self._usual: dict[str, NodeDescription] = {}
        self._kinds: dict[str, Fault] = {
            "agent crash": self._crash_agent,
            "host reboot": self._reboot_host,
            "agent restarts cut off": self._restart_agent_cut_off,
            "connection cut": self._cut,
            "connection stalled": self._stall,
            "node unreachable": self._isolate,
            "engine away": self._stop_engine,
            "task crash": self._crash_task,
            "host changes": self._change_host,
            "agent's disk full": self._fill_agents_disk,
            "clock off": self._shift_clock,
            "manager's clock off": self._shift_managers_clock,
            "manager's clock jumps": self._jump_managers_clock,
            "leader crash": self._crash_leader,
            "follower crash": self._crash_follower,
            "leader cut off": self._cut_leader_off,
            "follower cut off": self._cut_follower_off,
            "leadership lost": self._depose_leader,
            "log full": self._fill_log,
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    async def one(self) -> None:
        """A random fault, from its beginning to its end."""
        kind = self._chance.choice(self.kinds)
        self.counts[kind] += 1
        await self._kinds[kind]()

    async def keep_coming(self, count: int, within_seconds: float) -> None:
        """`count` faults, beginning at random times within the span; returns when all are over."""
        starts = sorted(self._chance.uniform(0, within_seconds) for _ in range(count))
        begun = 0.0
        async with asyncio.TaskGroup() as group:
            for start in starts:
                await asyncio.sleep(start - begun)
                begun = start
                group.create_task(self.one())

    def heal(self) -> None:
        """End all faults now."""
        self._healed.set()

    async def _last(self) -> None:
        """The duration of a fault."""
        try:
            async with asyncio.timeout(self._chance.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)):
                await self._healed.wait()
        except TimeoutError:
            return

    def _victim(self) -> SimulatedNode:
        return self._chance.choice(self._cluster.nodes)

    async def _crash_agent(self) -> None:
        await self._without_agent(self._victim(), reboot=False)

    async def _reboot_host(self) -> None:
        await self._without_agent(self._victim(), reboot=True)

    async def _without_agent(self, node: SimulatedNode, *, reboot: bool) -> None:
        if node.process is None:
            return
        await self._cluster.kill_agent(node)
        if reboot:
            node.reboot()
        await self._last()
        self._cluster.start_agent(node)

    async def _restart_agent_cut_off(self) -> None:
        node = self._victim()
        node.cut_off(True)
        await self._last()
        await self._without_agent(node, reboot=False)
        await self._last()
        node.cut_off(False)

    async def _cut(self) -> None:
        if wire := self._victim().wire:
            wire.cut()

    async def _stall(self) -> None:
        if wire := self._victim().wire:
            wire.stall()
            await self._last()
            wire.stall(False)

    async def _isolate(self) -> None:
        node = self._victim()
        node.cut_off(True)
        await self._last()
        node.cut_off(False)

    async def _stop_engine(self) -> None:
        host = self._victim().host
        host.engine_up = False
        await self._last()
        host.engine_up = True

    async def _crash_task(self) -> None:
        host = self._victim().host
        if running := [one for one in host.containers.values() if one.running]:
            host.end(self._chance.choice(running), self._chance.choice([0, 1, 137]))

    async def _change_host(self) -> None:
        """A host loses most of its processors, or its place, for a while."""
        host = self._victim().host
        usual = self._usual.setdefault(host.hostname, host.description)
        changes = ({"resources": Resources(nano_cpus=1_000_000_000)}, {"engine_labels": (("zone", "c"),)}, {"executors": ()})
        host.description = msgspec.structs.replace(usual, **self._chance.choice(changes))
        await self._last()
        host.description = usual

    async def _fill_agents_disk(self) -> None:
        states = self._victim().host.states
        states.full = True
        await self._last()
        states.full = False

    async def _shift_clock(self) -> None:
        self._victim().clock.drift = Duration(self._chance.randint(-DRIFT, DRIFT))

    async def _shift_managers_clock(self) -> None:
        manager = self._chance.choice(self._cluster.managers)
        manager.clock.drift = Duration(self._chance.randint(-DRIFT, DRIFT))

    async def _jump_managers_clock(self) -> None:
        manager = self._chance.choice(self._cluster.managers)
        manager.clock.drift = Duration(self._chance.randint(-JUMP, JUMP))

    # Of the managers one at a time is in trouble: without a majority nothing could be looked at.

    async def _crash_leader(self) -> None:
        await self._restart(leader=True)

    async def _crash_follower(self) -> None:
        await self._restart(leader=False)

    async def _restart(self, *, leader: bool) -> None:
        async with self._managers_busy:
            if manager := self._manager(leader=leader):
                await self._cluster.kill_manager(manager)
                await self._last()
                await self._cluster.start_manager(manager)

    async def _cut_leader_off(self) -> None:
        await self._separate(leader=True)

    async def _cut_follower_off(self) -> None:
        await self._separate(leader=False)

    async def _separate(self, *, leader: bool) -> None:
        async with self._managers_busy:
            if manager := self._manager(leader=leader):
                self._cluster.log.cut(manager.name)
                await self._last()
                self._cluster.log.join(manager.name)

    async def _depose_leader(self) -> None:
        async with self._managers_busy:
            self._cluster.depose_manager()

    async def _fill_log(self) -> None:
        async with self._managers_busy:
            if manager := self._manager(leader=True):
                self._cluster.log.set_full(manager.name, True)
                await self._last()
                self._cluster.log.set_full(manager.name, False)

    def _manager(self, *, leader: bool) -> SimulatedManager | None:
        """The leader or any follower, if there is one."""
        present = self._cluster.log.leader
        fitting = [manager for manager in self._cluster.managers if (manager.name == present) == leader]
        return self._chance.choice(fitting) if fitting else None
