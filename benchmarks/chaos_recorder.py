"""What is said and seen from outside while chaos goes on, and what must never be.

Deployers use the command alone: each owns a stack and deploys one release of it after the other, to whichever manager it meets.
What a command has acknowledged is noted here, where nothing fails. What runs is counted in the machine's process table and the
engine's own list, and every task has left a line with its release when it was started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos_ground import IMAGE, NODES, Ground
from cluster import ClusterNode
from node import STACKD

COMMAND_SECONDS = 6.0
"""A command that takes longer is ended; what became of it is unknown."""
STEADY_REPLICAS = 4
STEADY_PARALLELISM = 1
MISSES = 2
"""Looks in a row that may find too few: one takes a while, and misses what starts in the middle of it."""
MARK = "STACKD_CHAOS"
"""In the environment of every task: which service it is of."""


class Violation(Exception):
    """Something happened that must not."""


@dataclass
class Deployments:
    """One stack's releases. `acknowledged` is the newest that a command has confirmed; `open` are later ones of which nobody
    knows what became."""

    acknowledged: int = 0
    open: set[int] = field(default_factory=set)

    @property
    def possible(self) -> set[int]:
        """The releases that the cluster may have now."""
        return {self.acknowledged, *self.open}


@dataclass
class Recorder:
    """What is known outside."""

    deployments: dict[str, Deployments] = field(default_factory=dict)
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    reads: int = 0
    lowest_running: int = STEADY_REPLICAS

    def begin(self, stack: str) -> tuple[Deployments, int]:
        """The stack and its next release."""
        deployments = self.deployments.setdefault(stack, Deployments())
        return deployments, max(deployments.possible) + 1

    def note_acknowledged(self, deployments: Deployments, release: int) -> None:
        deployments.acknowledged = release
        deployments.open.clear()
        self.acknowledged += 1


def stack_text(
    name: str, release: int, records: Path, *, replicas: int, parallelism: int, order: str, elsewhere: str = ""
) -> str:
    """One service of tasks that run until they are told to end, not on the node `elsewhere`. Each leaves a line with its
    release when it starts."""
    return f"""\
name: {name}
services:
  job:
    image: {IMAGE}
    environment:
      {MARK}: {name}
      RELEASE: "{release}"
      TASK: "{{{{.Task.ID}}}}"
    command:
      - sh
      - -c
      - |
        trap 'exit 0' TERM
        echo "$$RELEASE" >> "{records}/$$TASK"
        while :; do sleep 3600 & wait; done
    volumes:
      - {records}:{records}
    stop_grace_period: 2s
    deploy:
      replicas: {replicas}
      restart_policy: {{delay: 200ms}}
      update_config: {{parallelism: {parallelism}, order: {order}, monitor: 300ms, failure_action: continue}}
      placement: {{constraints: ["node.hostname != {elsewhere or "none"}"]}}
"""


class Deployers:
    """Those who deploy all the time, with the command."""

    def __init__(self, ground: Ground, recorder: Recorder, directory: Path, seed: int) -> None:
        self._ground = ground
        self._recorder = recorder
        self._directory = directory
        self._seed = seed

    async def deploy_at_random(self, name: str) -> None:
        chance = random.Random(f"{self._seed}-{name}")
        while True:
            replicas, parallelism = chance.randint(1, 5), chance.randint(1, 3)
            order = chance.choice(("stop-first", "start-first"))
            await self.deploy(name, chance, replicas=replicas, parallelism=parallelism, order=order)
            await asyncio.sleep(chance.uniform(0.1, 2.0))
            await self.look(name, chance)

    async def roll_steadily(self, name: str) -> None:
        """Releases of one service that is never to fall below its floor."""
        chance = random.Random(f"{self._seed}-{name}")
        while True:
            await self.deploy_steady(name, chance)
            await asyncio.sleep(chance.uniform(1.0, 5.0))

    async def deploy_steady(self, name: str, chance: random.Random) -> bool:
        """Not on the node with the engine: one that was killed ends its containers when it starts again."""
        return await self.deploy(
            name,
            chance,
            replicas=STEADY_REPLICAS,
            parallelism=STEADY_PARALLELISM,
            order="stop-first",
            elsewhere=f"node{NODES}",
        )

    async def deploy(
        self, name: str, chance: random.Random, *, replicas: int, parallelism: int, order: str, elsewhere: str = ""
    ) -> bool:
        """Deploy the next release; whether it was acknowledged."""
        deployments, release = self._recorder.begin(name)
        text = stack_text(
            name,
            release,
            self._ground.records,
            replicas=replicas,
            parallelism=parallelism,
            order=order,
            elsewhere=elsewhere,
        )
        file = self._directory / f"{name}.yaml"
        file.write_text(text)
        deployments.open.add(release)
        code, _, said = await command(chance.choice(self._ground.managers), "apply", "-f", str(file), "--detach", "--yes")
        if code == 0:
            self._recorder.note_acknowledged(deployments, release)
        elif code is None or "unknown" in said:
            self._recorder.unknown += 1
        else:
            self._recorder.refused += 1
        return code == 0

    async def look(self, name: str, chance: random.Random) -> None:
        """Ask any manager which release the stack has. Raises Violation if an acknowledged one is gone."""
        before = self._recorder.deployments[name].acknowledged
        code, out, _ = await command(chance.choice(self._ground.managers), "service", "inspect", f"{name}_job", "-o", "json")
        if code != 0:
            return
        self._recorder.reads += 1
        check_release(name, self._recorder.deployments[name], before, release_in(json.loads(out)))


def check_release(name: str, deployments: Deployments, before: int, release: int) -> None:
    """See that a stack may have that release, if `before` was the newest acknowledged one when somebody began to look. Raises
    Violation."""
    if release < before or release > max(deployments.possible):
        possible = sorted(deployments.possible)
        raise Violation(f"{name} has release {release}; {before} was acknowledged, {possible} are possible")


async def watch_the_floor(recorder: Recorder, name: str, records: Path) -> None:
    """Count the steady service's processes, four times a second. It may never have fewer than its updates leave running."""
    floor, misses = STEADY_REPLICAS - STEADY_PARALLELISM, 0
    while True:
        running = len(processes_of(name, records))
        misses = misses + 1 if running < floor else 0
        if misses > MISSES:
            raise Violation(f"{name} has {running} processes; its updates leave {floor} running")
        if not misses:
            recorder.lowest_running = min(recorder.lowest_running, running)
        await asyncio.sleep(0.02 if misses else 0.25)


async def command(node: ClusterNode, *arguments: str) -> tuple[int | None, str, str]:
    """Run the command against a node: exit code (None: it was ended), output, errors."""
    process = await asyncio.create_subprocess_exec(
        *STACKD,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "STACKD_HOST": node.host},
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            out, said = await process.communicate()
    except TimeoutError:
        return None, "", ""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode, out.decode(), said.decode()


def release_in(detail: Any) -> int:
    """The release in what `service inspect -o json` shows."""
    for name, value in _environment(detail):
        if name == "RELEASE":
            return int(value)
    raise Violation(f"a service without a release: {json.dumps(detail)[:500]}")


def _environment(found: Any) -> Sequence[tuple[str, str]]:
    """The environment, wherever it stands in there."""
    if isinstance(found, dict):
        if isinstance(env := found.get("env"), dict):
            return list(env.items())
        if isinstance(env, list):
            return [tuple(one) if isinstance(one, list) else tuple(one.split("=", 1)) for one in env]
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            if environment := _environment(one):
                return environment
    return ()


def processes_of(name: str, records: Path) -> dict[str, int]:
    """What runs of that stack on this machine: the task's id and the process that is its first."""
    found: dict[str, int] = {}
    mark, ours = f"{MARK}={name}".encode(), os.fsencode(records)
    for place in Path("/proc").glob("[0-9]*"):
        try:
            said = (place / "cmdline").read_bytes()
            if not said.startswith(b"sh\0") or ours not in said:
                continue
            environment = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in environment:
            task = next(one[5:] for one in environment if one.startswith(b"TASK=")).decode()
            found[task] = min(found.get(task, sys.maxsize), int(place.name))
    return found


def check_starts(records: Path) -> int:
    """Every task was started once. Returns how many were. Raises Violation."""
    count = 0
    for path in records.iterdir():
        lines = path.read_text().splitlines()
        if len(lines) != 1:
            raise Violation(f"task {path.name} was started {len(lines)} times: {lines}")
        count += 1
    return count
