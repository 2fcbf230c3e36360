"""Many histories of consensus, one seed each: `make soak-raft SEED=1 COUNT=1000`.

Prints the range and the commit first, then each failing seed as it is found, and at the end what happened and how long it
took. Exits with 1 if a seed failed.
"""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
import time
from collections import Counter

import click
import raft_histories

REPORT_EVERY = 100


def attempt(seed: int) -> raft_histories.Report | str:
    """The report of one seed, or why it failed."""
    try:
        return raft_histories.run(seed)
    except raft_histories.HistoryFailed as failure:
        return str(failure)


def quieten() -> None:
    """Members say a lot about the faults they meet."""
    logging.disable(logging.CRITICAL)


def commit() -> str:
    told = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


@click.command()
@click.option("--seed", default=1, help="The first one.")
@click.option("--count", default=1000)
@click.option("--jobs", default=1, help="Processes that share the range.")
def main(seed: int, count: int, jobs: int) -> None:
    """Run COUNT histories from SEED on."""
    started = time.monotonic()
    print(f"seeds {seed} to {seed + count - 1} at commit {commit()}", flush=True)
    failed, entries, acknowledged, faults = 0, 0, 0, Counter[str]()
    with multiprocessing.get_context("spawn").Pool(jobs, quieten) as pool:
        for done, result in enumerate(pool.imap_unordered(attempt, range(seed, seed + count)), 1):
            if isinstance(result, str):
                failed += 1
                print(result, flush=True)
            else:
                entries += result.entries
                acknowledged += result.acknowledged
                faults += result.counts
            if done % REPORT_EVERY == 0:
                print(f"{done} of {count}, {failed} failed, {time.monotonic() - started:.0f} s", flush=True)
    took = time.monotonic() - started
    print(f"{count} seeds, {failed} failed, {entries} entries, {acknowledged} acknowledged writes, {took:.0f} s")
    print(", ".join(f"{kind} {times}" for kind, times in faults.most_common()))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
