"""Random histories: people change things while everything fails; then the faults end and all must be as wanted.

Each seed is a history of its own. A failure names its seed; to play one again: `pytest -k 'seed-17'`, or with the log
`python -m stackd.simulation --seed 17 --count 1`.
"""

from __future__ import annotations

import pytest
from stackd.simulation.coverage import missing, table
from stackd.simulation.history import CHANGES, FAULTS, Outcome
from stackd.simulation.soak import everything_wanted, outcomes, summed

SEEDS = range(1, 201)
PROCESSES = 2

NEVER = {
    "branch: rollout.roll_back: previous is None": "who calls it has looked",
}
"""What can't happen to a cluster, and why."""

RARE = {
    "branch: evict._leave: (failed := failed_mover(draft, now, task)) is not None and (not is_lost(draft, task))",
    "branch: evict._orphan_lost: not (due > draft.now)",
    "branch: reap._has_room: draft.full",
    "branch: reap.collect_content: blob.staged_at > young",
    "branch: reap.collect_content: not (_has_room(draft))",
    "branch: restart.replace_task: any((is_mover(other) and other.replaces == task.id for other in others))",
    "branch: rollout._act_on_failure: action is FailureAction.ROLLBACK if service.previous is None",
    "branch: rollout.account_failures: 0 < progress_due(rollout, config) <= draft.now",
    "branch: update._make_room: place.held and place.up and (place.new is not None) and place.new.node_id",
    "branch: update._prepare_ahead: not self._whole and (not place.up) and (place.slot.key not in known)",
    "branch: update.take: not self._prepare_ahead(later, unseen, limit)",
}
"""What these seeds may miss: it takes more of them, or hours of virtual time. Unit and property tests get there."""

MISSED_MAX = 5
"""Things, beside the rare ones, that so few seeds may miss after a change that shifts their histories; they are printed."""

UNSOLVED = {113: "fails since what is prepared gives way to a slot that waits for a node"}
"""Seeds that fail, and what is known of it: to be solved, not to be forgotten."""


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> dict[int, Outcome]:
    """What became of the seeds that were asked for. All of them are played for the table of coverage."""
    chosen = [item.callspec.params["seed"] for item in request.session.items if _is_a_history(item)]  # type: ignore[attr-defined]
    return {outcome.seed: outcome for outcome in outcomes(chosen, PROCESSES)}


def _is_a_history(item: pytest.Item) -> bool:
    return item.path.name == "test_random_histories.py" and hasattr(item, "callspec")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
def test_after_every_history_the_cluster_is_as_wanted(seed: int, played: dict[int, Outcome]) -> None:
    outcome = played[seed]
    if outcome.error and seed in UNSOLVED:
        pytest.xfail(f"{UNSOLVED[seed]}: {outcome.error}")
    assert not outcome.error, outcome.error
    assert outcome.changes >= CHANGES
    assert outcome.faults >= FAULTS


@pytest.mark.timeout(600)
def test_everything_that_can_happen_has_happened(played: dict[int, Outcome]) -> None:
    """A history that never drains a node proves nothing about draining."""
    if len(played) < len(SEEDS):
        pytest.skip("not all histories were played")
    counts, wanted = summed(played.values()), everything_wanted()
    print("\n".join(table(counts, wanted)))
    absent = [line for line in missing(counts, wanted) if line not in NEVER and line not in RARE]
    assert len(absent) <= MISSED_MAX, absent
    assert not [line for line in NEVER if line not in missing(counts, wanted)], "what can't happen has happened"


@pytest.mark.timeout(600)
def test_a_history_costs_little(played: dict[int, Outcome]) -> None:
    """Half a second of a core on an idle machine; the median, and twice that, because machines are seldom idle."""
    costs = sorted(outcome.cpu_seconds for outcome in played.values())
    assert costs[len(costs) // 2] <= 1.0
