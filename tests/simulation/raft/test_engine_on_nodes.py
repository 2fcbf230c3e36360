"""The engine's histories on the real consensus: what holds on the model of it holds on nodes."""

from __future__ import annotations

import pytest
from stackd.simulation import cluster as simulated
from stackd.simulation import history
from stackd.simulation.loop import run

from node_ensemble import NodeEnsemble

CHANGES = 60
FAULTS = 12
GRAIN_SECONDS = 0.1
SEEDS = range(10)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_a_history_of_the_engine_ends_well_on_nodes(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")  # a history is full of faults
    ensembles: list[NodeEnsemble] = []

    def make(*arguments: object) -> NodeEnsemble:
        ensembles.append(NodeEnsemble(*arguments))  # type: ignore[arg-type]
        return ensembles[-1]

    monkeypatch.setattr(simulated, "Ensemble", make)
    outcome = run(history.history(seed, changes=CHANGES, faults=FAULTS), grain=GRAIN_SECONDS)
    assert outcome.changes >= CHANGES
    assert outcome.faults >= FAULTS
    (ensemble,) = ensembles
    assert ensemble.failures == []
