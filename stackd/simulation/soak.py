"""Plays the corners and many seeds in several processes."""

from __future__ import annotations

import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from stackd.simulation.corners import CORNERS
from stackd.simulation.coverage import Counts
from stackd.simulation.history import Outcome, play, play_corner, prepare_process, wanted

CHUNK = 4
"""Seeds handed to a process at once."""

_QUIET_DUE_TO_FAULTS = logging.CRITICAL
"""Histories are full of faults, and each would be a line in the log."""


def _begin() -> None:
    logging.disable(_QUIET_DUE_TO_FAULTS)
    prepare_process()


def outcomes(seeds: Iterable[int], processes: int) -> Iterator[Outcome]:
    """What became of each corner, and of each seed in their order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin) as pool:
        yield from pool.map(play_corner, CORNERS, chunksize=CHUNK)
        yield from pool.map(play, seeds, chunksize=CHUNK)


def everything_wanted() -> set[tuple[str, str]]:
    """What has to happen in a large set of histories; asked in a process of its own, since branches change the engine."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_begin) as pool:
        return pool.submit(wanted).result()


def summed(played: Iterable[Outcome]) -> Counts:
    """How often everything happened in all of them."""
    total: Counts = Counter()
    for outcome in played:
        total.update(outcome.counts)
    return total
