"""One random history from one seed, from the first node to the moment in which everything is as wanted; or a corner."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from stackd.manager.clustertime import SLOWEST
from stackd.raft.ensemble import Pace
from stackd.simulation.branches import Branches
from stackd.simulation.cluster import SimulatedCluster
from stackd.simulation.corners import CORNERS, GRAIN, NODES, SEED
from stackd.simulation.coverage import Counts, Recorder, required
from stackd.simulation.faults import Faults
from stackd.simulation.loop import run
from stackd.simulation.population import furnish
from stackd.simulation.stage import Stage
from stackd.simulation.workload import Workload

CHANGES = 500
FAULTS = 20
SPAN_SECONDS = 60.0
"""How long things are changed and break, about, in virtual time."""

COLLECTABLE_SECONDS = 660.0
"""After this long in cluster time, content that nothing refers to is no longer spared."""

SETTLED_SECONDS = 600.0
NODE_SECONDS = 20.0
"""How long it may take, in virtual time, until all is as wanted: so much, and for each node what an update may take there
that goes from one to the next, when tasks are slow to stop."""

LARGE_EVERY = 50
MANY_NODES = 50
"""One seed in so many has a cluster with so many nodes, and costs several times as much as the others."""

BRANCHES_OF = ("update", "rollout", "restart", "evict", "reap")
"""The modules of the engine whose every branch should be taken."""

branches = Branches()


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of cluster a seed has. `late` nodes join in the middle. `grain` is the loop's: coarse ones put much into one
    decision, fine ones little. With `teardown` everything is removed in the end, late enough for content to be collected."""

    nodes: int
    late: int
    managers: int
    grain: float
    teardown: bool

    @classmethod
    def of(cls, seed: int) -> Shape:
        chance = random.Random(f"{seed}/shape")
        return cls(
            nodes=MANY_NODES if seed % LARGE_EVERY == 0 else chance.randint(2, 5),
            late=chance.randint(0, 1),
            managers=chance.choice([1, 3, 3]),
            grain=chance.choice([0.25, 0.5, 0.5, 1.0]),
            teardown=chance.random() < 0.1,
        )


@dataclass(slots=True)
class Outcome:
    """What became of a seed; `error` is "" if all went well. `changes` and `faults` are those that happened. A corner has its
    name and no changes or faults."""

    seed: int
    corner: str = ""
    error: str = ""
    changes: int = 0
    faults: int = 0
    entries: int = 0
    cpu_seconds: float = 0.0
    counts: Counts = field(default_factory=Counter)


async def history(seed: int, *, changes: int = CHANGES, faults: int = FAULTS) -> Outcome:
    """Raises Violation if anything went wrong."""
    shape = Shape.of(seed)
    pace = Pace(commit_seconds=0.001, lag_seconds=(0.0, 0.3), snapshot_entries=60)
    recorder = Recorder()
    cluster = SimulatedCluster(seed, nodes=shape.nodes, managers=shape.managers, pace=pace)
    cluster.checker.observers.append(recorder.observe)
    furnish(cluster.nodes)
    async with cluster.running(late=shape.late):
        trouble, workload = Faults(cluster), Workload(cluster)
        async with asyncio.TaskGroup() as group:
            coming = group.create_task(trouble.keep_coming(faults, SPAN_SECONDS))
            await workload.run(changes)
            trouble.heal()
            await coming
        await workload.finish()
        await cluster.settle(SETTLED_SECONDS + shape.nodes * NODE_SECONDS)
        if shape.teardown:
            await asyncio.sleep(COLLECTABLE_SECONDS / SLOWEST)
            await workload.remove_everything()
            await cluster.settle()
            cluster.require_nothing_left()
    counts = _counted(recorder, cluster)
    counts.update({("change", kind): count for kind, count in workload.counts.items()})
    counts.update({("fault", kind): count for kind, count in trouble.counts.items()})
    return Outcome(
        seed,
        changes=workload.counts.total(),
        faults=trouble.counts.total(),
        entries=cluster.log.last_index,
        counts=counts,
    )


def _counted(recorder: Recorder, cluster: SimulatedCluster) -> Counts:
    for node in cluster.nodes:
        recorder.add_moves(node.host.states.moves)
    recorder.add_handed_on(cluster.fences.handed_on)
    return recorder.counts


async def corner(name: str) -> Outcome:
    """Play the corner of this name. Raises Violation if anything went wrong, or it doesn't come to what it is there for."""
    recorder = Recorder()
    cluster = SimulatedCluster(SEED, nodes=NODES)
    cluster.checker.observers.append(recorder.observe)
    async with cluster.running():
        await CORNERS[name](Stage(cluster))
    return Outcome(SEED, corner=name, entries=cluster.log.last_index, counts=_counted(recorder, cluster))


def play(seed: int) -> Outcome:
    """A history in virtual time; never raises for what went wrong in it."""
    return _play(history(seed), Outcome(seed), Shape.of(seed).grain)


def play_corner(name: str) -> Outcome:
    """A corner in virtual time; never raises for what went wrong in it."""
    return _play(corner(name), Outcome(SEED, corner=name), GRAIN)


def _play(what: Coroutine[Any, Any, Outcome], failed: Outcome, grain: float) -> Outcome:
    """`failed` is what becomes of it if anything goes wrong."""
    branches.counts.clear()
    began = time.process_time()
    try:
        outcome = run(what, grain=grain)
    except Exception as error:
        outcome = failed
        outcome.error = _first(error)
    outcome.cpu_seconds = time.process_time() - began
    gc.collect()
    outcome.counts.update({("branch", name): count for name, count in branches.counts.items()})
    return outcome


def _first(error: BaseException) -> str:
    """What went wrong, out of the groups that it is wrapped in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def prepare_process() -> None:
    """Once in each process that plays histories: count branches, and keep the garbage collector out of the way, since a
    history leaves little behind and is soon over."""
    for name in BRANCHES_OF:
        branches.follow(import_module(f"stackd.engine.{name}"))
    gc.freeze()
    gc.disable()


def wanted() -> set[tuple[str, str]]:
    """Everything that has to be in the table of coverage, in a process that counts branches."""
    cluster = SimulatedCluster(0)
    return {
        *required(),
        *(("fault", kind) for kind in Faults(cluster).kinds),
        *(("change", kind) for kind in Workload(cluster).kinds),
        *(("branch", name) for name in branches.names),
    }
