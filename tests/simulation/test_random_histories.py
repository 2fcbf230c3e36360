"""Random histories: people change things while everything fails; then the faults end and all must be as wanted.

Each seed is a history of its own. A failure prints its seed; to see one again: `pytest -k 'seed-17'`.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from stackd.simulation.cluster import SimulatedCluster
from stackd.simulation.faults import Faults
from stackd.simulation.loop import run
from stackd.simulation.workload import Workload

SEEDS = range(40)
CHANGES = 25
FAULTS = 20
SPAN_SECONDS = 150.0

seen: Counter[str] = Counter()


async def history(seed: int) -> SimulatedCluster:
    """A whole history; returns the cluster as it was in the end."""
    async with SimulatedCluster(seed, nodes=3 + seed % 3).running() as cluster:
        faults, workload = Faults(cluster), Workload(cluster)
        async with asyncio.TaskGroup() as group:
            trouble = group.create_task(faults.keep_coming(FAULTS, SPAN_SECONDS))
            await workload.run(CHANGES)
            faults.heal()
            await trouble
        await workload.finish()
        await cluster.settle()
    seen.update(faults.counts)
    seen.update(workload.counts)
    return cluster


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_after_every_history_the_cluster_is_as_wanted(seed: int) -> None:
    run(history(seed))


def test_every_kind_of_fault_and_of_change_has_happened() -> None:
    """Runs after the histories of this module; a kind that never happens tests nothing."""
    if not seen:
        pytest.skip("no history was run")
    cluster = SimulatedCluster(0)
    assert not {*Faults(cluster).kinds, *Workload(cluster).kinds} - set(seen)
