"""Bugs planted by hand, one at a time, and how soon the simulator or the property tests find each: `make mutants`.

A bug takes the place of one function, in the module that uses it. It must be found within SEEDS histories, in a corner, or by
the named tests; one that isn't shows a hole in the checks.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from itertools import count, repeat
from multiprocessing import get_context
from typing import Any

import msgspec
from stackd.agent.lease import LeaseNote
from stackd.base.time import seconds

SEEDS = 60
"""Histories in which a planted bug must show."""


@dataclass(frozen=True, slots=True)
class Bug:
    """`change` gets the right function (or value) of `where` and returns the wrong one. `found_by` are tests to run in place
    of histories."""

    name: str
    where: str
    change: Callable[[Any], Any]
    found_by: tuple[str, ...] = ()

    def plant(self) -> None:
        module_name, _, path = self.where.partition(":")
        owner: Any = import_module(module_name)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, self.change(getattr(owner, name)))


def _one_more_at_once(right: Any) -> Any:
    def config_of(*given: Any) -> Any:
        config = right(*given)
        return msgspec.structs.replace(config, parallelism=config.parallelism + 1) if config.parallelism else config

    return config_of


def _forgets_failures(right: Any) -> Any:
    def full_pass(draft: Any, dirty: Any, given: Any) -> Any:
        for rollout in list(draft.rollouts.values()):
            draft.put(msgspec.structs.replace(rollout, failed=()))
        return right(draft, dirty, given)

    return full_pass


def _but_for_drains(right: Any) -> Any:
    def why_evicting(view: Any, node_id: Any) -> str:
        reason: str = right(view, node_id)
        return "" if "drain" in reason else reason

    return why_evicting


def _without_observations(right: Any) -> Any:
    return lambda self, pendings: right(self, [one for one in pendings if not one.is_observation])


def _as_if_healthy(right: Any) -> Any:
    def service_health(*given: Any, **options: Any) -> Any:
        return right(*given, **options)._replace(converged=True, health="healthy")

    return service_health


def _never(_right: Any) -> Any:
    return lambda *_given, **_options: False


def _always(_right: Any) -> Any:
    return lambda *_given, **_options: True


def _nothing(_right: Any) -> Any:
    return lambda *_given, **_options: ()


def _all_numbers(_right: Any) -> Any:
    return lambda filled: count(1)


def _at_once(_right: Any) -> Any:
    return lambda *_given, **_options: 0


def _knows_the_host(right: Any) -> Any:
    def init(self: Any, *given: Any) -> None:
        right(self, *given)
        self._host_known = True

    return init


def _no_slots(_right: Any) -> Any:
    return lambda *_given: set()


def _all_it_held(_right: Any) -> Any:
    return lambda described, held: held


def _all_equal(_right: Any) -> Any:
    return lambda info: (0, 0, 0)


def _begun_anew(right: Any) -> Any:
    def init(self: Any, boot: str, noted: Any = None) -> None:
        if noted is not None:
            noted = LeaseNote(boot, seconds(asyncio.get_running_loop().time()), noted.lasts)
        right(self, boot, noted)

    return init


def _no_wakeups(right: Any) -> Any:
    return lambda self, at, service: None


BUGS = (
    Bug("one slot too many is updated at once", "stackd.engine.update:config_of", _one_more_at_once),
    Bug("ports in use are not looked at", "stackd.engine.schedule.filters:FreePorts.check", _always),
    Bug("nodes that take no tasks get some", "stackd.engine.schedule.filters:Ready.check", _always),
    Bug("drained nodes keep their tasks", "stackd.engine.orchestrate.slots:why_evicting", _but_for_drains),
    Bug("a new leader forgets the failures of an update", "stackd.engine.admit:_full_pass", _forgets_failures),
    Bug("restarts are not counted", "stackd.engine.restart:attempts_after", _nothing),
    Bug("a successor doesn't wait for its predecessor", "stackd.engine.restart:is_down", _always),
    Bug("a slot is given out twice", "stackd.engine.orchestrate.replicated:free_numbers", _all_numbers),
    Bug("what happens to a node is not looked at", "stackd.engine.dirty:Dirty.mark_node", _nothing),
    Bug("a session goes on when it should end", "stackd.manager.agent_session:AgentSession.end", _nothing),
    Bug("nobody waits for what a service depends on", "stackd.engine.step:is_held_back", _never),
    Bug("nobody waits for a fenced task", "stackd.engine.orchestrate.fence:_out_of_reach_at", _at_once),
    Bug("a clock that is set ahead ends a fence", "stackd.manager.writer:is_fencing", _never),
    Bug("a restart of the agent begins its lease anew", "stackd.agent.lease:Lease.__init__", _begun_anew),
    Bug("late reports take a task back", "stackd.engine.admit.nodes:may_move", _always),
    Bug("a revision has converged when it begins", "stackd.engine.revisions:service_health", _as_if_healthy),
    Bug(
        "reports are lost with an entry that failed",
        "stackd.manager.inbox:Inbox.put_back",
        _without_observations,
        found_by=("tests/unit/manager/test_writer.py",),
    ),
    Bug("nothing is looked at again later", "stackd.manager.timers:Timers.add", _no_wakeups),
    Bug("agents keep what nobody assigns any more", "stackd.agent.workforce:Workforce._departed", _nothing),
    Bug("a restarted agent doesn't look at its host", "stackd.agent.worker:Worker.__init__", _knows_the_host),
    Bug(
        "the end of a job's last attempt is not looked at",
        "stackd.engine.orchestrate.runs:_doubtful",
        _no_slots,
        found_by=("tests/property/engine/test_job_properties.py",),
    ),
    Bug(
        "a resource that has gone is passed on",
        "stackd.engine.schedule.nodes:still_offered",
        _all_it_held,
        found_by=("tests/unit/engine/test_scheduling.py",),
    ),
    Bug(
        "what is prepared gives way to nothing",
        "stackd.engine.update:_Turn._make_room",
        _nothing,
        found_by=("tests/unit/engine/test_progress.py",),
    ),
    Bug("a spec of the past counts as the wanted one", "stackd.engine.orchestrate.slots:Wanted.is_clean", _always),
    Bug(
        "tasks are not spread",
        "stackd.engine.schedule.spread:rank",
        _all_equal,
        found_by=("tests/property/engine/test_placement_properties.py",),
    ),
)


def is_good(seed: int) -> bool:
    """Whether a history goes well without any bug of ours: else it tells nothing."""
    logging.disable(logging.CRITICAL)
    from stackd.simulation.history import play

    return not play(seed).error


def hunt(number: int, seeds: Sequence[int]) -> tuple[int, str]:
    """Plant a bug and play histories, then the corners, until it shows; returns how many histories that took (-1: it doesn't
    show), and what showed."""
    logging.disable(logging.CRITICAL)
    bug = BUGS[number]
    bug.plant()
    if bug.found_by:
        import pytest

        with redirect_stdout(StringIO()):
            failed = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *bug.found_by]) != 0
        return (0, "the tests named fail") if failed else (-1, "")
    from stackd.simulation.corners import CORNERS
    from stackd.simulation.history import play, play_corner

    for played, seed in enumerate(seeds, start=1):
        if error := play(seed).error:
            return played, error
    return next(((len(seeds), f"{name}: {error}") for name in CORNERS if (error := play_corner(name).error)), (-1, ""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    options = parser.parse_args()
    chosen = [number for number, bug in enumerate(BUGS) if options.only in bug.name]
    missed = 0
    with ProcessPoolExecutor(options.processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        every = range(1, SEEDS + 1)
        good = [seed for seed, well in zip(every, pool.map(is_good, every, chunksize=SEEDS // 2), strict=True) if well]
        print(f"{len(good)} of {SEEDS} histories go well without a bug", flush=True)
        for number, (seeds, finding) in zip(chosen, pool.map(hunt, chosen, repeat(good)), strict=False):
            verdict = f"found after {seeds:>2} histories: {finding[:140]}" if seeds >= 0 else "NOT FOUND"
            missed += seeds < 0
            print(f"{BUGS[number].name:<50} {verdict}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} planted bugs were found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
