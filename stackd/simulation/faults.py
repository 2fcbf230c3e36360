"""What goes wrong in a simulated cluster, one fault at a time or many at once, from the cluster's seed.

Every fault is healed again by itself after a random while, and `heal` ends all that are left: then the cluster has no
excuse any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from stackd.base.time import Duration, seconds
from stackd.simulation.cluster import SimulatedCluster, SimulatedNode

SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 40.0
"""A fault lasts between these: from less than a heartbeat to longer than the grace after which a node is down."""

DRIFT = seconds(3)
"""How far a host's clock may be off."""

Fault = Callable[[], Awaitable[None]]


class Faults:
    """Breaks things in `cluster`. `counts` says how often each kind of fault happened."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._chance = cluster.chance("faults")
        self._healed = asyncio.Event()
        self._manager_busy = asyncio.Lock()
        self._kinds: dict[str, Fault] = {
            "agent crash": self._crash_agent,
            "host reboot": self._reboot_host,
            "connection cut": self._cut,
            "connection stalled": self._stall,
            "node unreachable": self._isolate,
            "engine away": self._stop_engine,
            "task crash": self._crash_task,
            "agent's disk full": self._fill_agents_disk,
            "clock off": self._shift_clock,
            "manager crash": self._crash_manager,
            "leadership lost": self._depose_manager,
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
            node.host.reboot()
        await self._last()
        self._cluster.start_agent(node)

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
        node.reachable = False
        if node.wire:
            node.wire.cut()
        await self._last()
        node.reachable = True

    async def _stop_engine(self) -> None:
        host = self._victim().host
        host.engine_up = False
        await self._last()
        host.engine_up = True

    async def _crash_task(self) -> None:
        host = self._victim().host
        if running := [one for one in host.containers.values() if one.running]:
            host.end(self._chance.choice(running), self._chance.choice([0, 1, 137]))

    async def _fill_agents_disk(self) -> None:
        states = self._victim().host.states
        states.full = True
        await self._last()
        states.full = False

    async def _shift_clock(self) -> None:
        self._victim().clock.drift = Duration(self._chance.randint(-DRIFT, DRIFT))

    async def _crash_manager(self) -> None:
        async with self._manager_busy:
            await self._cluster.kill_manager()
            await self._last()
            self._cluster.log.full = False
            await self._cluster.start_manager()

    async def _depose_manager(self) -> None:
        async with self._manager_busy:
            self._cluster.depose_manager()

    async def _fill_log(self) -> None:
        async with self._manager_busy:
            self._cluster.log.full = True
            await self._last()
            self._cluster.log.full = False
