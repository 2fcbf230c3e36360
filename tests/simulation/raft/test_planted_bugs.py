"""The simulation can fail: with any one of these mistakes in the node, it does, within a few seeds."""

from __future__ import annotations

from collections.abc import Callable

import planted_bugs
import pytest
import raft_histories

SEEDS = 100
"""Most are found by one of the first five; a stale read takes twenty or more."""


@pytest.mark.parametrize("plant", planted_bugs.BUGS, ids=lambda plant: plant.__name__)
def test_the_simulation_finds_a_planted_bug(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")  # a broken member says a lot
    plant(monkeypatch)
    with pytest.raises(raft_histories.HistoryFailed):
        run_all(planted_bugs.SHOWN_BY.get(plant, ""))


def run_all(favourite: str) -> None:
    for seed in range(SEEDS):
        raft_histories.run(seed, favourite)
