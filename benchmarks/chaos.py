"""Chaos for a whole cluster: `make chaos SEED=7 DURATION=120`. Exits with 1 if a promise is broken.

Three managers and two workers run as daemons in network namespaces, each on a small disk of its own; one node's tasks are
containers of a real engine. People deploy all the while with the command. Meanwhile daemons are killed (half of the time the
leader, now and then all managers), paused, cut off; disks fill up, clocks jump, the engine is killed. A recorder outside holds:

    what the command has acknowledged is there, whoever is asked
    a task is started once, ever, whatever happens to its agent
    a service never has fewer tasks than its updates leave running: no daemon's trouble is the tasks' trouble
    when the faults are over, everything comes to be exactly what was deployed last, on record and on the machine

What happens follows the seed; when it happens to hit depends on the machine, so a seed doesn't repeat a run exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from stackd.api.client import Client
from stackd.base.errors import StackdError

from benchmarks.chaos_ground import Ground, prepared
from benchmarks.chaos_recorder import (
    STEADY_REPLICAS,
    Deployers,
    Recorder,
    Violation,
    check_starts,
    command,
    processes_of,
    release_in,
    watch_the_floor,
)
from cluster import ClusterNode

RANDOM_STACKS = ("red", "green", "blue")
STEADY = "steady"
SETTLE_SECONDS = 90.0
"""In which everything has to be right once the faults are over: a node that was cut off is down after 15 seconds, a paused
deploy goes on with the next one."""


ASK_SECONDS = 1.0


class Chaos:
    """The faults. One after the other begins; some last while the next ones happen."""

    def __init__(self, ground: Ground, chance: random.Random) -> None:
        self._ground = ground
        self._chance = chance
        self._lasting: set[asyncio.Task[None]] = set()
        self.counts: dict[str, int] = {}
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
        weights = [weight for weight, _ in self._kinds.values()]
        while time.monotonic() < until_time:
            await asyncio.sleep(self._chance.uniform(1.0, 4.0))
            self._raise_trouble()
            self._ground.revive()
            kind = self._chance.choices(list(self._kinds), weights)[0]
            await self._kinds[kind][1]()
            self._count(kind)
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
            leader = await asyncio.to_thread(leader_of, self._ground.managers)
            if leader is not None and leader.is_running:
                self._count("leader-hit")
                return leader
        return self._chance.choice([node for node in self._ground.nodes if node.is_running])

    async def _kill(self) -> None:
        victim = await self._victim()
        self._ground.kill(victim)
        self._later(self._chance.uniform(0.1, 4.0), lambda: self._ground.bring_back(victim))

    async def _kill_managers(self) -> None:
        for node in self._ground.managers:
            self._ground.kill(node)
        for node in self._ground.managers:
            self._ground.bring_back(node)

    async def _pause(self) -> None:
        victim = await self._victim()
        victim.signal(signal.SIGSTOP)
        pid = victim.pid
        self._later(self._chance.uniform(0.5, 8.0), lambda: _resume(victim, pid))

    async def _pull(self) -> None:
        host = (await self._victim()).host_of
        self._ground.cluster.network.pull(host)
        self._later(self._chance.choice((1.0, 4.0, 20.0)), lambda: self._ground.cluster.network.plug(host))

    async def _block(self) -> None:
        one, other = self._chance.sample(self._ground.cluster.network.hosts, 2)
        self._ground.cluster.network.block(one, other)
        self._later(self._chance.uniform(1.0, 8.0), lambda: self._ground.cluster.network.unblock(other))

    async def _set_clock(self) -> None:
        victim = await self._victim()
        self._ground.set_clock(victim, self._chance.choice((-300.0, -20.0, -2.0, 2.0, 20.0, 300.0)))
        self._later(self._chance.uniform(1.0, 10.0), lambda: self._ground.set_clock(victim, 0))

    async def _fill_disk(self) -> None:
        victim = await self._victim()

        async def fill() -> None:
            with self._ground.full_disk(victim):
                await asyncio.sleep(self._chance.uniform(0.5, 4.0))

        self._lasting.add(asyncio.create_task(fill()))

    async def _kill_engine(self) -> None:
        engine = self._ground.engine
        assert engine is not None
        if engine.is_running:
            await asyncio.to_thread(engine.kill)
            self._later(self._chance.uniform(0.5, 3.0), engine.revive)

    def _later(self, seconds: float, undo: Callable[[], object]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(undo)

        self._lasting.add(asyncio.create_task(wait()))

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1


def _resume(node: ClusterNode, pid: int) -> None:
    """Let the daemon go on, unless it was killed meanwhile."""
    if node.is_running and node.pid == pid:
        node.resume()


def leader_of(nodes: Sequence[ClusterNode]) -> ClusterNode | None:
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


async def run(
    seed: int, seconds: float, directory: Path, *, with_engine: bool = True, logs: Path | None = None
) -> dict[str, object]:
    """One run in `directory`; returns its figures, and leaves the daemons' logs in `logs`. Raises Violation."""
    recorder = Recorder()
    with prepared(directory, with_engine=with_engine) as ground:
        try:
            counts = await _chaos(ground, recorder, directory, seed, seconds)
            settled = await _settle(ground, recorder, directory, seed)
            starts = check_starts(ground.records)
        except Violation as violation:
            raise Violation(f"{violation}\n{ground.cluster.report()}") from violation
        finally:
            if logs is not None:
                for node in ground.nodes:
                    shutil.copyfile(node.home / "daemon.log", logs / f"{node.name}.log")
    return {
        "seed": seed,
        "seconds": seconds,
        "acknowledged": recorder.acknowledged,
        "unknown": recorder.unknown,
        "refused": recorder.refused,
        "reads": recorder.reads,
        "tasks_started": starts,
        "lowest_running": recorder.lowest_running,
        "daemons_ended": ground.ended,
        "settled_s": round(settled, 1),
        **counts,
    }


async def _chaos(ground: Ground, recorder: Recorder, directory: Path, seed: int, seconds: float) -> dict[str, int]:
    """Faults and deploys side by side; the first thing that breaks ends both."""
    deployers = Deployers(ground, recorder, directory, seed)
    chaos = Chaos(ground, random.Random(seed))
    await until(lambda: deployers.deploy_steady(STEADY, random.Random(seed)), SETTLE_SECONDS, "the first deploy is accepted")
    await until(lambda: _runs(ground, STEADY), SETTLE_SECONDS, "the steady service runs")
    try:
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(deployers.deploy_at_random(name)) for name in RANDOM_STACKS]
            watching.append(group.create_task(deployers.roll_steadily(STEADY)))
            watching.append(group.create_task(watch_the_floor(recorder, STEADY, ground.records)))
            await chaos.run(time.monotonic() + seconds)
            for task in watching:
                task.cancel()
    except* Violation as violations:
        raise violations.exceptions[0] from None
    return chaos.counts


async def _settle(ground: Ground, recorder: Recorder, directory: Path, seed: int) -> float:
    """The faults are over: a last release of each stack, and everything has to come to be just that. Returns how long it
    took."""
    began = time.monotonic()
    await asyncio.to_thread(ground.heal)
    deployers, chance = Deployers(ground, recorder, directory, seed), random.Random(seed)
    for name in recorder.deployments:

        async def deployed(name: str = name) -> bool:
            return await deployers.deploy(name, chance, replicas=3, parallelism=2, order="stop-first")

        await until(deployed, SETTLE_SECONDS, f"a deploy of {name} is accepted")
    for name in recorder.deployments:

        async def right(name: str = name) -> bool:
            ground.revive()
            return await _is_right(ground, recorder, name)

        await until(right, SETTLE_SECONDS, f"{name} is what was deployed last")
    return time.monotonic() - began


async def _is_right(ground: Ground, recorder: Recorder, name: str) -> bool:
    """The service has its last release on record, and these tasks and no others run."""
    manager = ground.managers[0]
    code, out, _ = await command(manager, "service", "inspect", f"{name}_job", "-o", "json")
    if code != 0 or release_in(json.loads(out)) != recorder.deployments[name].acknowledged:
        return False
    code, out, _ = await command(manager, "service", "ps", f"{name}_job", "--no-history", "-o", "json")
    if code != 0:
        return False
    tasks = json.loads(out)["items"]
    running = {task["id"] for task in tasks if task["state"] == "running"}
    return len(tasks) == len(running) == 3 and running == set(processes_of(name, ground.records))


async def _runs(ground: Ground, name: str) -> bool:
    return len(processes_of(name, ground.records)) == STEADY_REPLICAS


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not await is_so():
        if time.monotonic() > deadline:
            raise Violation(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.2)


def main(arguments: Sequence[str] = ()) -> int:
    """Print the figures of one run as a JSON object; 1 if there is a violation."""
    parser = argparse.ArgumentParser(prog="chaos", description="kill, cut off, pause and starve a real cluster")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    parser.add_argument("--without-engine", action="store_true", help="run all tasks as processes")
    parser.add_argument("--logs", type=Path, help="copy the daemons' logs to this directory at the end")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="stackd-chaos-") as directory:
        try:
            figures = run(
                options.seed, options.duration, Path(directory), with_engine=not options.without_engine, logs=options.logs
            )
            print(json.dumps(asyncio.run(figures)), flush=True)
        except Violation as violation:
            print(f"seed {options.seed}: VIOLATION: {violation}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
