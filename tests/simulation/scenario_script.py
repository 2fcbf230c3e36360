"""Scenario scripts: what somebody does to a simulated cluster, and what is seen then, in files that a person can read.

A file is a list of blocks. A block has a command, sometimes lines that belong to it, `----`, and what came of it:

    deploy shop
    redis image=redis:3.0.7 replicas=3
    ----
    accepted

    settle
    ----
      5.1  redis.1b on host-2: ready
      ...

Times are virtual seconds since the script began. The tasks of a slot are lettered in the order in which they were made.
A line that begins with # is a comment. The commands are the methods of `Script` that begin with `do_`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackd.base.ids import TaskId
from stackd.base.time import SECOND
from stackd.engine.inputs import (
    ForceUpdate,
    Input,
    Rejected,
    RemoveStack,
    Reply,
    RollbackService,
    ScaleService,
    SetAvailability,
)
from stackd.engine.model import Task
from stackd.engine.parts import SYSTEM, Availability
from stackd.engine.status import NodeStatus, Rollout, TaskStatus
from stackd.engine.store import Changes
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.simulation.cluster import SimulatedCluster, Violation
from stackd.simulation.loop import EPOCH, run
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.stack import FailureAction, RestartCondition, ServiceMode, ServiceSpec, UpdateOrder

SEED = 1

_TOLD = (TaskState.READY, TaskState.RUNNING)
"""States on the way to running that are worth a line; every end is."""

_TOLD_OF_WISHES = {TaskState.SHUTDOWN: "stop", TaskState.REMOVE: "stop and go"}

_SETTINGS: dict[str, Callable[[str], Any]] = {
    "image": str,
    "replicas": int,
    "mode": ServiceMode,
    "parallelism": int,
    "delay_seconds": float,
    "order": UpdateOrder,
    "failure_action": FailureAction,
    "max_failure_ratio": float,
    "monitor_seconds": float,
    "restart": RestartCondition,
    "restart_seconds": float,
    "port": int,
}
"""What may be said of a service: the arguments of `a_service`."""


@dataclass(slots=True)
class Block:
    """One command of a file with what goes with it. `comment` are the lines before it."""

    comment: list[str]
    command: str
    lines: list[str]
    expected: list[str]

    def text(self, output: list[str]) -> str:
        return "\n".join([*self.comment, self.command, *self.lines, "----", *output])


def blocks_of(text: str) -> Iterator[Block]:
    """The blocks of a file, in order."""
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.split("\n")
        comment = [line for line in lines if line.startswith("#")]
        rest = lines[len(comment) :]
        if not rest:
            raise ValueError("a comment belongs to the block below it: no empty line between them")
        at = rest.index("----")
        yield Block(comment, rest[0], rest[1:at], rest[at + 1 :])


def played(path: Path) -> str:
    """The file as it would be with what really comes of its commands."""
    blocks = list(blocks_of(path.read_text()))
    return "\n\n".join(block.text(output) for block, output in zip(blocks, run(_outputs(blocks)), strict=True)) + "\n"


async def _outputs(blocks: list[Block]) -> list[list[str]]:
    first = dict(pair.split("=") for pair in blocks[0].command.split()[1:])
    cluster = SimulatedCluster(SEED, nodes=int(first["nodes"]), managers=int(first.get("managers", 1)))
    script = Script(cluster)
    async with cluster.running():
        return [script.begin(), *[await script.carry_out(block) for block in blocks[1:]]]


class Script:
    """One scenario being played."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._seen: list[str] = []
        self._names: dict[TaskId, str] = {}
        self._letters: dict[str, int] = {}
        self._hosts = {node.id: node.host.hostname for node in cluster.nodes}
        cluster.checker.observers.append(self._observe)

    def begin(self) -> list[str]:
        self._seen.clear()
        return [f"{len(self._cluster.nodes)} nodes are ready"]

    async def carry_out(self, block: Block) -> list[str]:
        name, *arguments = block.command.split()
        if name == "deploy":
            return await self._deploy(arguments[0], block.lines)
        done: list[str] = await getattr(self, f"do_{name.replace('-', '_')}")(*arguments)
        return done

    # Commands.

    async def _deploy(self, stack: str, lines: list[str]) -> list[str]:
        return _reply(await self._cluster.deploy(a_stack(stack, *map(_service, lines))))

    async def do_scale(self, service: str, replicas: str) -> list[str]:
        return await self._submit(ScaleService(name=service, replicas=int(replicas), principal=SYSTEM))

    async def do_force(self, service: str) -> list[str]:
        return await self._submit(ForceUpdate(name=service, principal=SYSTEM))

    async def do_rollback(self, service: str) -> list[str]:
        return await self._submit(RollbackService(name=service, principal=SYSTEM))

    async def do_remove(self, stack: str) -> list[str]:
        return await self._submit(RemoveStack(name=stack, principal=SYSTEM))

    async def do_set(self, host: str, availability: str) -> list[str]:
        """A node becomes active, paused or drained."""
        node = next(node for node in self._cluster.nodes if node.host.hostname == host)
        command = SetAvailability(id=node.id, availability=Availability(availability), principal=SYSTEM)
        return await self._submit(command)

    async def do_new_leader(self) -> list[str]:
        before = self._cluster.leader.name
        self._cluster.depose_manager()
        return [f"{self._cluster.leader.name} leads, it was {before}"]

    async def do_kill_leader(self) -> list[str]:
        name = self._cluster.leader.name
        await self._cluster.kill_manager()
        return [f"{name} is gone"]

    async def do_wait(self, seconds: str) -> list[str]:
        await asyncio.sleep(float(seconds))
        return self._told()

    async def do_settle(self) -> list[str]:
        """Until everything is as wanted."""
        await self._cluster.settle()
        return [*self._told(), f"settled at {_now():.1f}"]

    async def do_until(self, service: str, *words: str) -> list[str]:
        """Until the service's update says so."""
        async with asyncio.timeout(600):
            while self._rollout(service) != " ".join(words):
                await asyncio.sleep(0.05)
        return self._told()

    async def do_show(self, service: str) -> list[str]:
        """The tasks of a service that should run, and its update."""
        view = self._cluster.view
        found = view.service_named(service)
        if found is None:
            return ["there is no such service"]
        tasks = sorted(view.tasks_of_service(found.id), key=lambda task: (task.slot, self._hosts.get(task.node_id, "")))
        lines = [self._line(view, task) for task in tasks if task.desired <= TaskState.COMPLETE]
        rollout = view.rollouts.get(found.id)
        return [*lines, f"update: {rollout.state}: {rollout.message}" if rollout else "never updated"]

    async def _submit(self, command: Input) -> list[str]:
        return _reply(await self._cluster.submit(command))

    def _rollout(self, service: str) -> str:
        try:
            found = self._cluster.view.service_named(service)
        except Violation:
            return ""
        rollout = self._cluster.view.rollouts.get(found.id) if found else None
        return str(rollout.state) if rollout else ""

    # What is seen.

    def _told(self) -> list[str]:
        told, self._seen = self._seen, []
        return told

    def _observe(self, past: View, present: View, changes: Changes) -> None:
        at = (present.now - EPOCH) / SECOND
        for row in changes.puts:
            for line in self._lines(past, present, row):
                self._seen.append(f"{at:5.1f}  {line}")

    def _lines(self, past: View, present: View, row: object) -> Iterator[str]:
        match row:
            case Task():
                before = past.tasks.get(row.id)
                if before is not None and before.desired < row.desired and row.desired in _TOLD_OF_WISHES:
                    yield f"{self._name(present, row)} is told to {_TOLD_OF_WISHES[row.desired]}"
            case TaskStatus():
                task = present.tasks.get(row.id)
                if task is not None and past.status_of(row.id).state is not row.state and self._is_worth_a_line(row):
                    yield f"{self._name(present, task)}{self._where(task)}: {row.state.word}{_detail(row)}"
            case Rollout():
                was = past.rollouts.get(row.service_id)
                if was is None or (was.state, was.generation) != (row.state, row.generation):
                    service = present.services.get(row.service_id)
                    yield f"{service.name if service else '?'} {row.state}: {row.message}"
            case NodeStatus():
                known = past.node_statuses.get(row.id)
                if known is None or known.state is not row.state:
                    yield f"{self._hosts[row.id]} is {row.state}"
            case _:
                pass

    def _is_worth_a_line(self, status: TaskStatus) -> bool:
        return status.state in _TOLD or status.state > TaskState.RUNNING or bool(status.error)

    def _line(self, view: View, task: Task) -> str:
        spec = view.specs.get(task.spec)
        image = spec.spec.container.image if spec else "?"
        return f"{self._name(view, task)}{self._where(task)}: {image} {view.status_of(task.id).state.word}"

    def _where(self, task: Task) -> str:
        return f" on {self._hosts[task.node_id]}" if task.node_id else ""

    def _name(self, view: View, task: Task) -> str:
        """`redis.1b`: the second task of the first slot."""
        if task.id not in self._names:
            service = view.services.get(task.service_id)
            slot = f"{service.name if service else '?'}.{task.slot or self._hosts.get(task.node_id, '')}"
            number = self._letters[slot] = self._letters.get(slot, -1) + 1
            self._names[task.id] = f"{slot}{chr(ord('a') + number)}"
        return self._names[task.id]


def _service(line: str) -> ServiceSpec:
    name, *settings = line.split()
    pairs = dict(pair.split("=", 1) for pair in settings)
    return a_service(name, **{key: _SETTINGS[key](value) for key, value in pairs.items()})


def _reply(reply: Reply) -> list[str]:
    if isinstance(reply, Rejected):
        return [f"refused: {reply.message}"]
    return ["accepted" if reply.changed else "nothing to change"]


def _detail(status: TaskStatus) -> str:
    return f" ({status.error})" if status.error else ""


def _now() -> float:
    return asyncio.get_running_loop().time()
