"""`python -m stackd.simulation --seed 1 --count 1000`: the corners and random histories, what fails, and what was covered."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from stackd.simulation.coverage import missing, table
from stackd.simulation.history import Outcome
from stackd.simulation.soak import everything_wanted, outcomes, summed

REPORT_SEEDS = 100
"""A line of progress is printed after so many seeds."""


def main() -> int:
    """Returns 1 if a seed failed."""
    options = _options()
    seeds = range(options.seed, options.seed + options.count)
    began = time.monotonic()
    played: list[Outcome] = []
    for outcome in outcomes(seeds, options.processes):
        played.append(outcome)
        if outcome.error:
            again = "--count 0" if outcome.corner else f"--seed {outcome.seed} --count 1"
            print(f"FAILED {outcome.corner} {outcome.error}\n       again: python -m stackd.simulation {again}", flush=True)
        if (seen := len(_histories(played))) % REPORT_SEEDS == 0 and seen:
            print(f"{seen} seeds, {_failed(played)} failed, {time.monotonic() - began:.0f} s", flush=True)
    counts, wanted = summed(played), everything_wanted()
    if options.table:
        print("\n".join(table(counts, wanted)))
    absent = missing(counts, wanted)
    print(f"never seen: {len(absent)} of {len(wanted)}", *absent, sep="\n  ")
    print(_summary(played, seeds, time.monotonic() - began))
    return 1 if _failed(played) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stackd.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1000, help="how many")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", action="store_true", help="print how often everything happened")
    return parser.parse_args()


def _histories(played: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in played if not outcome.corner]


def _failed(played: list[Outcome]) -> int:
    return sum(bool(outcome.error) for outcome in played)


def _summary(played: list[Outcome], seeds: range, seconds: float) -> str:
    costs = sorted(outcome.cpu_seconds for outcome in _histories(played)) or [0.0]
    return (
        f"commit {_commit()}, seeds {seeds.start} to {seeds.stop - 1}: {_failed(played)} failed; "
        f"{sum(one.changes for one in played)} changes, {sum(one.faults for one in played)} faults, "
        f"{sum(one.entries for one in played)} entries in {seconds:.0f} s; CPU seconds per seed: "
        f"median {costs[len(costs) // 2]:.2f}, highest {costs[-1]:.2f}"
    )


def _commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
