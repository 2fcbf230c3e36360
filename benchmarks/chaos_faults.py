"""What happens to the hosts in chaos: daemons are killed, paused and cut off, disks fill up, clocks jump, the engine is killed.
One fault after the other begins; some last while the next ones happen."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable

from stackd.api.client import Client
from stackd.base.errors import StackdError

from benchmarks.chaos_ground import Ground
from benchmarks.chaos_recorder import Recorder
from cluster import ClusterNode

ASK_SECONDS = 1.0
LONG_CUT_SECONDS = 20.0
"""More than it takes until a node that was cut off is given up."""


class Faults:
    """All of it follows `chance`, but for which node leads."""

    def __init__(self, ground: Ground, recorder: Recorder, chance: random.Random) -> None:
        self._ground = ground
        self._recorder = recorder
        self._chance = chance
        self._lasting: set[asyncio.Task[None]] = set()
        self._cut_until = 0.0
        self._engine_is_away = False
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "kill": (10, self._kill),
            "kill-managers": (1, self._kill_managers),
            "pause": (4, self._pause),
            "pull": (4, self._pull),
            "one-way": (2, self._block),
            "clock": (3, self._set_clock),
            "full-disk": (3, self._fill_disk),
        }
        if ground.engine is not None:
            self._kinds["kill-engine"] = (1, self._kill_engine)

    async def run(self, until_time: float) -> None:
        """Let things happen until then, and come to their end. On a slow machine less happens: a daemon needs the time to be
        back before the next thing hits it, or nothing but beginnings would be looked at."""
        weights = [weight for weight, _ in self._kinds.values()]
        while time.monotonic() < until_time:
            await self._ground.measure()
            await asyncio.sleep(self._chance.uniform(1.0, 4.0) * self._ground.slowness)
            self._raise_trouble()
            self._ground.check_daemons()
            kind = self._chance.choices(list(self._kinds), weights)[0]
            await self._kinds[kind][1]()
            self._recorder.count(kind)
        if self._lasting:
            await asyncio.wait(self._lasting)
            self._raise_trouble()

    def _raise_trouble(self) -> None:
        for task in [task for task in self._lasting if task.done()]:
            self._lasting.discard(task)
            task.result()

    async def _victim(self) -> ClusterNode:
        """Half of the time the leader, if it is known."""
        if self._chance.random() < 0.5:
            leader = await asyncio.to_thread(leader_of, self._managers())
            if leader is not None and leader.is_running:
                self._recorder.count("leader-hit")
                return leader
        return self._chance.choice([node for node in self._ground.nodes if node.is_running])

    def _managers(self) -> list[ClusterNode]:
        return [node for node in self._ground.nodes if node.name in self._recorder.managers()]

    async def _kill(self) -> None:
        victim = await self._victim()
        seconds = self._chance.uniform(0.1, 4.0)
        self._recorder.tell(f"kill {victim.name} for {seconds:.1f} s")
        self._ground.kill(victim)
        self._later(seconds, lambda: self._ground.bring_back(victim))

    async def _kill_managers(self) -> None:
        managers = self._managers()
        self._recorder.tell(f"kill all managers: {' '.join(node.name for node in managers)}")
        for node in managers:
            self._ground.kill(node)
        for node in managers:
            self._ground.bring_back(node)

    async def _pause(self) -> None:
        victim = await self._victim()
        seconds = self._chance.uniform(0.5, 8.0)
        self._recorder.tell(f"pause {victim.name} for {seconds:.1f} s")
        victim.signal(signal.SIGSTOP)
        pid = victim.pid
        self._later(seconds, lambda: _resume(victim, pid))

    async def _pull(self) -> None:
        victim = await self._victim()
        seconds = self._chance.choice((1.0, 4.0, LONG_CUT_SECONDS))
        if time.monotonic() < self._cut_until:
            seconds = min(seconds, 4.0)  # two that are away for long would leave nobody to work with
        self._cut_until = max(self._cut_until, time.monotonic() + seconds)
        self._recorder.tell(f"pull the cable of {victim.name} for {seconds:.0f} s")
        self._ground.cluster.network.pull(victim.host_of)

        def plug() -> None:
            if seconds >= LONG_CUT_SECONDS:
                self._recorder.note_given_up(victim.name)
            self._ground.cluster.network.plug(victim.host_of)

        self._later(seconds, plug)

    async def _block(self) -> None:
        one, other = self._chance.sample(list(self._ground.nodes), 2)
        seconds = self._chance.uniform(1.0, 8.0)
        self._recorder.tell(f"nothing from {one.name} arrives at {other.name} for {seconds:.1f} s")
        self._ground.cluster.network.block(one.host_of, other.host_of)
        self._later(seconds, lambda: self._ground.cluster.network.unblock(other.host_of))

    async def _set_clock(self) -> None:
        victim = await self._victim()
        off, seconds = self._chance.choice((-300.0, -20.0, -2.0, 2.0, 20.0, 300.0)), self._chance.uniform(1.0, 10.0)
        self._recorder.tell(f"the clock of {victim.name} is off by {off:.0f} s for {seconds:.1f} s")
        self._ground.set_clock(victim, off)
        self._later(seconds, lambda: self._ground.set_clock(victim, 0))

    async def _fill_disk(self) -> None:
        victim = await self._victim()
        seconds = self._chance.uniform(0.5, 4.0)
        self._recorder.tell(f"the disk of {victim.name} is full for {seconds:.1f} s")

        async def fill() -> None:
            with self._ground.full_disk(victim):
                await asyncio.sleep(seconds)

        self._lasting.add(asyncio.create_task(fill()))

    async def _kill_engine(self) -> None:
        """Unless it is away, or about to be back, by the last time."""
        engine, seconds = self._ground.engine, self._chance.uniform(0.5, 3.0)
        assert engine is not None
        if self._engine_is_away:
            return

        def revive() -> None:
            engine.revive()
            self._engine_is_away = False

        self._engine_is_away = True
        self._recorder.tell(f"kill the engine for {seconds:.1f} s")
        await asyncio.to_thread(engine.kill)
        self._later(seconds, revive)

    def _later(self, seconds: float, undo: Callable[[], object]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(undo)

        self._lasting.add(asyncio.create_task(wait()))


def _resume(node: ClusterNode, pid: int) -> None:
    """Let the daemon go on, unless it was killed meanwhile."""
    if node.is_running and node.pid == pid:
        node.resume()


def leader_of(nodes: Iterable[ClusterNode]) -> ClusterNode | None:
    """The first of these that says that it leads."""
    for node in nodes:
        if not node.is_running:
            continue
        try:
            with Client(node.host, timeout_seconds=ASK_SECONDS) as client:
                if any(one.self_ and one.manager_status == "leader" for one in client.nodes().items):
                    return node
        except StackdError:
            pass  # it doesn't lead, or can't say so
    return None
