"""Random histories of a cluster in which everything fails: nothing acknowledged is lost, and in the end all is well.

Each seed is a history of its own. A failure prints its seed, what happened last, and how to see it again.
"""

from __future__ import annotations

from collections import Counter

import pytest
import raft_histories
from raft_cluster import Cluster
from raft_faults import Faults
from stackd.raft.node import Settings

SEEDS = range(80)

happened: Counter[str] = Counter()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_a_cluster_loses_nothing_and_recovers(seed: int) -> None:
    happened.update(raft_histories.run(seed).counts)


def test_every_kind_of_fault_has_happened() -> None:
    """Runs after the histories of this module; a kind that never happens tests nothing."""
    if not happened:
        pytest.skip("no history was run")
    assert set(happened) == set(Faults(Cluster(0, 3, Settings())).kinds)


def test_a_seed_always_tells_the_same_history() -> None:
    assert raft_histories.run(7) == raft_histories.run(7)
