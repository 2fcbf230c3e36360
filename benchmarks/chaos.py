"""Chaos for a whole cluster: `make chaos SEED=7 DURATION=120`. Exits with 1 if a promise is broken.

Three managers and two workers run as daemons in network namespaces, each on a small disk of its own; one node's tasks are
containers of a real engine. People work all the while with the command (`chaos_deployers.py`, `chaos_operators.py`): they
deploy what runs and what can't, drain nodes and take them back, promote and demote. Meanwhile daemons are killed (half of the
time the leader, now and then all managers), paused, cut off; disks fill up, clocks jump, the engine is killed
(`chaos_faults.py`). A recorder outside (`chaos_recorder.py`) holds:

    what the command has acknowledged is there, whoever is asked
    a release that can't run is never said to run; a later one wins
    a task is started once, ever, whatever happens to its agent
    a service never has fewer tasks than its updates leave running, but for what has to leave a node: no daemon's trouble is the
    tasks' trouble
    no command crashes: it answers, or says why it doesn't; no daemon ends by itself or logs a bug
    when the faults are over, everything comes to be exactly what was asked for last, on record and on the machine

What happens follows the seed; when it happens to hit depends on the machine, so a seed doesn't repeat a run exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.chaos_commands import Ended
from benchmarks.chaos_deployers import STEADY, STEADY_REPLICAS, Deployer, Release, watch_the_floor
from benchmarks.chaos_faults import Faults
from benchmarks.chaos_ground import MANAGERS, Ground, prepared
from benchmarks.chaos_operators import Operator
from benchmarks.chaos_recorder import Asked, Recorder, Violation, check_log, check_starts, processes_of, release_in
from needs import lack_of

RANDOM_STACKS = ("red", "green", "blue")
MISTAKEN = "grey"
STEADY_STACK = "steady"
SETTLE_SECONDS = 90.0
"""In which everything has to be right once the faults are over: a node that was cut off is down after 15 seconds, a paused
deploy goes on with the next one. On a slow machine it is more."""
TOLD_LAST = 40
LAST = Release(replicas=3, parallelism=2)
"""What every stack is deployed with in the end."""


@dataclass
class People:
    """Everybody who uses the command, by what they care for."""

    deployers: dict[str, Deployer]
    operators: dict[str, Operator]

    @classmethod
    def of(cls, ground: Ground, recorder: Recorder, seed: int) -> People:
        stacks = (*RANDOM_STACKS, MISTAKEN, STEADY_STACK)
        return cls(
            {stack: Deployer(ground, recorder, stack, seed, goes_back=stack == MISTAKEN) for stack in stacks},
            {what: Operator(ground, recorder, seed, what) for what in ("drains", "roles", "looks")},
        )

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What they do until they are stopped."""
        return [
            *(self.deployers[stack].at_random() for stack in RANDOM_STACKS),
            self.deployers[MISTAKEN].with_mistakes(),
            self.deployers[STEADY_STACK].steadily(),
            self.operators["drains"].drain_in_turn(),
            self.operators["roles"].change_roles(),
            self.operators["looks"].look_around(),
        ]


async def run(
    seed: int, seconds: float, directory: Path, *, with_engine: bool = True, logs: Path | None = None
) -> dict[str, object]:
    """One run in `directory`; returns its figures, and leaves what happened and the daemons' logs in `logs`. Raises
    Violation."""
    recorder = Recorder()
    with prepared(directory, with_engine=with_engine) as ground:
        for place, node in enumerate(ground.nodes):
            recorder.roles[node.name] = Asked("manager" if place < MANAGERS else "worker")
            recorder.availability[node.name] = Asked("active")
        people = People.of(ground, recorder, seed)
        try:
            await _chaos(ground, recorder, people, seed, seconds)
            settled = await _settle(ground, recorder, people)
            starts = check_starts(ground.records)
            for node in ground.nodes:
                check_log(node.log)
        except Violation as violation:
            recorder.tell(f"VIOLATION: {violation}")
            violation.add_note(_report(ground, recorder))
            raise
        finally:
            if logs is not None:
                _keep_logs(ground, recorder, logs)
    return {
        "seed": seed,
        "seconds": seconds,
        "tasks_started": starts,
        "lowest_running": recorder.lowest_running,
        "settled_s": round(settled, 1),
        "slowness": round(ground.slowness, 1),
        **dict(sorted(recorder.counts.items())),
    }


async def _chaos(ground: Ground, recorder: Recorder, people: People, seed: int, seconds: float) -> None:
    """Faults and people side by side; the first thing that breaks ends both."""
    faults, steady = Faults(ground, recorder, random.Random(seed)), people.deployers[STEADY_STACK]
    await until(ground, partial(steady.deploy, STEADY), "the first deploy is accepted")
    await until(ground, partial(_runs, ground, STEADY_STACK), "the steady service runs")
    try:
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(work) for work in people.work()]
            records = ground.records / STEADY_STACK
            working.append(group.create_task(watch_the_floor(recorder, STEADY_STACK, records)))
            await faults.run(time.monotonic() + seconds)
            for task in working:
                task.cancel()
    except* Violation as violations:
        raise violations.exceptions[0] from None


async def _settle(ground: Ground, recorder: Recorder, people: People) -> float:
    """The faults are over: all nodes are active, there is a last release of each stack, and everything has to come to be just
    that. Returns how long it took."""
    began = time.monotonic()
    recorder.tell("the faults are over")
    await asyncio.to_thread(ground.heal)
    for node, asked in recorder.availability.items():
        if asked.possible != {"active"}:
            await until(ground, partial(people.operators["drains"].activate, node), f"{node} is active again")
    for stack in recorder.releases:
        await until(ground, partial(people.deployers[stack].deploy, LAST), f"a deploy of {stack} is accepted")
    for stack in recorder.releases:
        await until(ground, partial(_is_right, ground, recorder, stack), f"{stack} is what was deployed last")
    await until(ground, partial(_roles_are_right, ground, recorder), "all nodes have the roles that were asked for")
    return time.monotonic() - began


async def _is_right(ground: Ground, recorder: Recorder, stack: str) -> bool:
    """The service has its last release on record, and these tasks and no others run."""
    ended = await _ask(ground, recorder, "service", "inspect", f"{stack}_job", "-o", "json")
    if not ended.is_acknowledged or release_in(ended.json()) != recorder.releases[stack].acknowledged:
        return False
    ended = await _ask(ground, recorder, "service", "ps", f"{stack}_job", "--no-history", "-o", "json")
    if not ended.is_acknowledged:
        return False
    tasks = ended.json()["items"]
    running = {task["id"] for task in tasks if task["state"] == "running"}
    return len(tasks) == len(running) == LAST.replicas and running == set(processes_of(stack, ground.records / stack))


async def _roles_are_right(ground: Ground, recorder: Recorder) -> bool:
    """Every node is ready and active, and is the manager or worker that it was asked to be."""
    ended = await _ask(ground, recorder, "node", "ls", "-o", "json")
    if not ended.is_acknowledged:
        return False
    nodes = {node["hostname"]: node for node in ended.json()["items"]}
    return nodes.keys() == recorder.roles.keys() and all(
        nodes[name]["role"] in asked.possible
        and (nodes[name]["manager_status"] in ("leader", "reachable")) == (nodes[name]["role"] == "manager")
        and (nodes[name]["state"], nodes[name]["availability"]) == ("ready", "active")
        for name, asked in recorder.roles.items()
    )


async def _ask(ground: Ground, recorder: Recorder, *arguments: str) -> Ended:
    """Ask one manager after the other until one of them knows."""
    for node in ground.nodes:
        if node.name in recorder.managers():
            ended = await ground.command(node, *arguments)
            if ended.is_acknowledged:
                break
    return ended


async def _runs(ground: Ground, stack: str) -> bool:
    return len(processes_of(stack, ground.records / stack)) == STEADY_REPLICAS


async def until(ground: Ground, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look until it is so. Raises Violation if that takes too long, as slow as the machine is."""
    began = time.monotonic()
    while not await is_so():
        ground.check_daemons()
        await ground.measure()
        if time.monotonic() - began > (seconds := SETTLE_SECONDS * ground.slowness):
            raise Violation(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.2)


def _report(ground: Ground, recorder: Recorder) -> str:
    """What the nodes say of themselves, and then what happened last."""
    for node in ground.nodes:
        if node.is_running:
            node.resume()
    return "\n".join([ground.cluster.report(), "===== what happened last", *recorder.timeline[-TOLD_LAST:]])


def _keep_logs(ground: Ground, recorder: Recorder, logs: Path) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "timeline.log").write_text("\n".join([*recorder.timeline, ""]))
    for node in ground.nodes:
        shutil.copyfile(node.log, logs / f"{node.name}.log")


def main(arguments: Sequence[str] = ()) -> int:
    """Print the figures of one run as a JSON object; 1 if there is a violation, or if the machine lacks what it needs."""
    parser = argparse.ArgumentParser(prog="chaos", description="kill, cut off, pause and starve a real cluster")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    parser.add_argument("--without-engine", action="store_true", help="run all tasks as processes")
    parser.add_argument("--logs", type=Path, help="what happened and the daemons' logs go here, also if all is well")
    options = parser.parse_args(arguments)
    needs = ("root", "net") if options.without_engine else ("root", "net", "docker")
    lacks = [lack for need in needs if (lack := lack_of(need))]
    if lacks:
        print(f"chaos can't run here: {'; '.join(lacks)}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and everything that runs here is taken down
    with tempfile.TemporaryDirectory(prefix="stackd-chaos-") as directory:
        logs = options.logs or Path(directory) / "logs"
        work = run(options.seed, options.duration, Path(directory), with_engine=not options.without_engine, logs=logs)
        try:
            print(json.dumps(asyncio.run(work)), flush=True)
        except Violation as violation:
            print(*getattr(violation, "__notes__", ()), file=sys.stderr, sep="\n")
            if options.logs is None:
                logs = shutil.copytree(logs, tempfile.mkdtemp(prefix="stackd-chaos-logs-"), dirs_exist_ok=True)
            print(f"what happened when is in {logs}/timeline.log, beside the daemons' logs", file=sys.stderr)
            print(f"seed {options.seed}: VIOLATION: {violation}", file=sys.stderr)  # last, where it is looked for
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
