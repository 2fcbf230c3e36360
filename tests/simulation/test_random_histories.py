"""Random histories: people change things while everything fails; then the faults end and all must be as wanted. Beside them
the corners: short histories led on purpose to where random ones seldom come.

Each seed is a history of its own. A failure names its seed; to play one again: `pytest -k 'seed-17'`, or with the log
`python -m stackd.simulation --seed 17 --count 1`.
"""

from __future__ import annotations

import pytest
from stackd.simulation.corners import CORNERS
from stackd.simulation.coverage import missing, table
from stackd.simulation.history import CHANGES, FAULTS, Outcome
from stackd.simulation.soak import everything_wanted, outcomes, summed

FOUND = (
    *(249, 379, 458, 773, 1347, 2016, 2209, 2521, 2663, 3019, 3573, 3586, 3812),
    *(21546, 21975, 24083, 29213, 30208, 70254, 71137, 80885),
)
"""Seeds beyond the usual ones that have found a bug once, of the engine or of what checks it."""

SEEDS = (*range(1, 201), *FOUND)
PROCESSES = 2

NEVER = {
    "branch: rollout.roll_back: previous is None": "who calls it has looked",
}
"""What can't happen to a cluster, and why."""


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> list[Outcome]:
    """What became of the corners, and of the seeds that were asked for."""
    chosen = [item.callspec.params["seed"] for item in request.session.items if _is_a_history(item)]  # type: ignore[attr-defined]
    return list(outcomes(chosen, PROCESSES))


def _is_a_history(item: pytest.Item) -> bool:
    return item.path.name == "test_random_histories.py" and hasattr(item, "callspec") and "seed" in item.callspec.params


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_after_every_history_the_cluster_is_as_wanted(seed: int, played: list[Outcome]) -> None:
    (outcome,) = [one for one in played if one.seed == seed and not one.corner]
    assert not outcome.error, outcome.error
    assert outcome.changes >= CHANGES
    assert outcome.faults >= FAULTS


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CORNERS)
def test_every_corner_is_reached_and_left_as_wanted(name: str, played: list[Outcome]) -> None:
    (outcome,) = [one for one in played if one.corner == name]
    assert not outcome.error, outcome.error


@pytest.mark.timeout(600)
def test_everything_that_can_happen_has_happened(played: list[Outcome]) -> None:
    """A history that never drains a node proves nothing about draining."""
    if len(played) < len(SEEDS) + len(CORNERS):
        pytest.skip("not all histories were played")
    counts, wanted = summed(played), everything_wanted()
    print("\n".join(table(counts, wanted)))
    assert missing(counts, wanted) == list(NEVER)


@pytest.mark.timeout(600)
def test_a_history_costs_little(played: list[Outcome]) -> None:
    """Half a second of a core on an idle machine; the median, and twice that, because machines are seldom idle."""
    costs = sorted(outcome.cpu_seconds for outcome in played if not outcome.corner)
    if not costs:
        pytest.skip("no histories were played")
    assert costs[len(costs) // 2] <= 1.0
