"""Those who deploy all the while chaos goes on. Each owns a stack and deploys one release of it after the other, to whichever
manager comes, and looks now and then whether it is there."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos_ground import IMAGE, NODES, Ground
from benchmarks.chaos_recorder import MARK, Recorder, check_floor, check_release, latest_starts, processes_of

STEADY_REPLICAS = 4
STEADY_PARALLELISM = 1
MISSES = 2
"""Looks in a row that may find too few: one takes a while, and misses what starts in the middle of it."""

RUNS = """
        trap 'exit 0' TERM
        echo "$$RELEASE $$SLOT $$NODE" >> "{records}/$$TASK"
        while :; do sleep 3600 & wait; done"""
FAILS = """
        exit 3"""
BEGINS_SLOWLY = """
        trap 'exit 0' TERM
        sleep 1 & wait
        echo "$$RELEASE $$SLOT $$NODE" >> "{records}/$$TASK"
        while :; do sleep 3600 & wait; done"""
UNTIL_IT_HAS_BEGUN = """
    healthcheck:
      test: ["CMD-SHELL", "test -s {records}/$$TASK"]
      start_period: 60s
      start_interval: 250ms"""


@dataclass(frozen=True, kw_only=True)
class Release:
    """What is deployed. `program` is what the tasks do; `shell` runs it, if there is such a thing."""

    replicas: int = 3
    parallelism: int = 2
    order: str = "stop-first"
    on_failure: str = "continue"
    elsewhere: str = "none"
    shell: str = "sh"
    program: str = RUNS
    health: str = ""

    def text(self, stack: str, number: int, records: Path) -> str:
        """One service of tasks that run until they are told to end, not on the node `elsewhere`. Each leaves a line when it
        starts."""
        return f"""\
name: {stack}
services:
  job:
    image: {IMAGE}
    environment:
      {MARK}: {stack}
      RELEASE: "{number}"
      TASK: "{{{{.Task.ID}}}}"
      SLOT: "{{{{.Task.Slot}}}}"
      NODE: "{{{{.Node.Hostname}}}}"
    command:
      - {self.shell}
      - -c
      - |{self.program.format(records=records)}{self.health.format(records=records)}
    volumes:
      - {records}:{records}
    stop_grace_period: 2s
    deploy:
      replicas: {self.replicas}
      restart_policy: {{delay: 200ms}}
      update_config:
        parallelism: {self.parallelism}
        order: {self.order}
        monitor: 300ms
        failure_action: {self.on_failure}
      rollback_config: {{parallelism: {self.parallelism}, monitor: 300ms}}
      placement: {{constraints: ["node.hostname != {self.elsewhere}"]}}
"""


STEADY = Release(
    replicas=STEADY_REPLICAS,
    parallelism=STEADY_PARALLELISM,
    elsewhere=f"node{NODES}",
    program=BEGINS_SLOWLY,
    health=UNTIL_IT_HAS_BEGUN,
)
"""Not on the node with the engine: one that was killed ends its containers when it starts again. A task counts from when it has
left its line, which takes a while: so an update that goes on before a task runs is seen."""


class Deployer:
    """One person with one stack. `goes_back`: what this person deploys may be rolled back."""

    def __init__(self, ground: Ground, recorder: Recorder, stack: str, seed: int, *, goes_back: bool = False) -> None:
        self._ground = ground
        self._recorder = recorder
        self._stack = stack
        self._chance = random.Random(f"{seed}-{stack}")
        self._goes_back = goes_back
        self._records = ground.records / stack
        self._records.mkdir(exist_ok=True)

    async def at_random(self) -> None:
        """Releases of all kinds, and all of them run."""
        while True:
            await self.deploy(self._any_release("continue"))
            await self._rest_and_look()

    async def with_mistakes(self) -> None:
        """Half of the releases can't be started or end at once; their updates pause or go back. A later deploy wins."""
        while True:
            shell, program = self._chance.choice((("sh", RUNS), ("sh", RUNS), ("sh", FAILS), ("no-such-shell", RUNS)))
            release = self._any_release(self._chance.choice(("pause", "rollback")), shell=shell, program=program)
            await self.deploy(release)
            await self._rest_and_look()

    async def steadily(self) -> None:
        """Releases of a service that is never to fall below its floor."""
        while True:
            await self.deploy(STEADY)
            await asyncio.sleep(self._chance.uniform(1.0, 5.0))

    async def deploy(self, release: Release) -> bool:
        """Deploy the next release; whether it was acknowledged."""
        asked, number = self._recorder.next_release(self._stack, goes_back=self._goes_back)
        if release.shell != "sh":
            self._recorder.failing.add((self._stack, number))
        file = self._ground.directory / f"{self._stack}.yaml"
        file.write_text(release.text(self._stack, number, self._records))
        manager = self._ground.one_of(self._recorder.managers(), self._chance)
        ended = await self._ground.command(manager, "apply", "-f", str(file), "--detach", "--yes")
        if ended.is_acknowledged:
            asked.note_acknowledged(number)
        self._recorder.count(f"deploys-{ended.word}")
        self._recorder.tell(f"deploy {number} of {self._stack} at {manager.name}: {ended.word} {ended.said.strip()}")
        return ended.is_acknowledged

    async def look(self) -> None:
        """Ask any manager which release the stack has. Raises Violation if an acknowledged one is gone."""
        manager = self._ground.one_of(self._recorder.managers(), self._chance)
        ended = await self._ground.command(manager, "service", "inspect", f"{self._stack}_job", "-o", "json")
        if ended.is_acknowledged:
            self._recorder.count("reads")
            check_release(self._recorder, self._stack, ended.json())

    async def _rest_and_look(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.1, 2.0))
        await self.look()

    def _any_release(self, on_failure: str, *, shell: str = "sh", program: str = RUNS) -> Release:
        return Release(
            replicas=self._chance.randint(1, 5),
            parallelism=self._chance.randint(1, 3),
            order=self._chance.choice(("stop-first", "start-first")),
            on_failure=on_failure,
            shell=shell,
            program=program,
        )


async def watch_the_floor(recorder: Recorder, stack: str, records: Path) -> None:
    """Count the steady stack's slots that run, four times a second. There may never be fewer than its updates leave
    running, but for those that have to move."""
    floor, misses = STEADY_REPLICAS - STEADY_PARALLELISM, 0
    while True:
        started = latest_starts(records) if misses else {}  # first: what has left its line by now is found, if it runs
        running = set(processes_of(stack, records).values())
        misses = misses + 1 if len(running) < floor else 0
        if misses > MISSES:
            check_floor(floor, running, started, recorder.leaving)
        if not misses:
            recorder.lowest_running = min(recorder.lowest_running, len(running))
        await asyncio.sleep(0.02 if 0 < misses <= MISSES else 0.25)
