"""Those who look after the nodes while chaos goes on: they drain and activate, promote and demote, and look at everything from
anywhere. What they ask for they insist on until they know what became of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from benchmarks.chaos_commands import Ended
from benchmarks.chaos_ground import MANAGERS, Ground
from benchmarks.chaos_recorder import Asked, Recorder, check_asked

PAUSE_SECONDS = (2.0, 8.0)
DRAINED_SECONDS = (1.0, 12.0)

LOOKS: Sequence[Sequence[str]] = (
    ("status",),
    ("node", "ls"),
    ("service", "ls", "-o", "wide"),
    ("service", "ps", "steady_job"),
    ("service", "logs", "steady_job", "--tail", "3"),
    ("stack", "ls", "-o", "json"),
    ("events", "--limit", "20"),
    ("cluster", "info"),
)


class Operator:
    """One person who changes nodes. Those in `roles` and `availability` of the recorder are the ones there are."""

    def __init__(self, ground: Ground, recorder: Recorder, seed: int, what: str) -> None:
        self._ground = ground
        self._recorder = recorder
        self._chance = random.Random(f"{seed}-{what}")

    async def drain_in_turn(self) -> None:
        """Drain one node after the other, each for a while."""
        while True:
            await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))
            node = self._chance.choice(sorted(self._recorder.availability))
            await self._insist(partial(self._drain, node))
            await asyncio.sleep(self._chance.uniform(*DRAINED_SECONDS))
            await self._insist(partial(self.activate, node))

    async def change_roles(self) -> None:
        """Promote and demote. There are never to be fewer managers than there were at first."""
        while True:
            await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))
            sure = self._recorder.sure_managers()
            workers = sorted(self._recorder.roles.keys() - sure)
            if len(sure) > MANAGERS and (not workers or self._chance.random() < 0.5):
                await self._insist(partial(self._change_role, self._chance.choice(sorted(sure)), "worker"))
            elif workers:
                await self._insist(partial(self._change_role, self._chance.choice(workers), "manager"))

    async def look_around(self) -> None:
        """Ask any node anything: it answers, or says why it doesn't."""
        while True:
            await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))
            node = self._ground.one_of({node.name for node in self._ground.nodes}, self._chance)
            ended = await self._ground.command(node, *self._chance.choice(LOOKS))
            self._recorder.count(f"looks-{ended.word}")

    async def activate(self, node: str) -> bool:
        """Let the node have tasks again; whether that was acknowledged."""
        asked = self._recorder.availability[node]
        ended = await self._ask(asked, "active", "node", "update", "--availability", "active", "--detach", node)
        if ended.is_acknowledged:
            self._recorder.end_drain(node)
        return ended.is_acknowledged

    async def _drain(self, node: str) -> bool:
        self._recorder.begin_drain(node)
        asked = self._recorder.availability[node]
        ended = await self._ask(asked, "drain", "node", "update", "--availability", "drain", "--detach", node)
        await self._look(node, "availability", asked)
        return ended.is_acknowledged

    async def _change_role(self, node: str, role: str) -> bool:
        """Whether it is decided: a demotion may be refused."""
        asked, word = self._recorder.roles[node], "promote" if role == "manager" else "demote"
        ended = await self._ask(asked, role, "node", word, "--detach", node)
        await self._look(node, "role", asked)
        return ended.is_acknowledged or ended.is_refused

    async def _insist(self, ask: Callable[[], Awaitable[bool]]) -> None:
        while not await ask():
            await asyncio.sleep(self._chance.uniform(0.5, 2.0))

    async def _ask(self, asked: Asked[str], value: str, *arguments: str) -> Ended:
        """Type a command that asks for this value."""
        was_open = value in asked.open
        asked.open.add(value)
        node = self._ground.one_of(self._recorder.managers(), self._chance)
        ended = await self._ground.command(node, *arguments)
        if ended.is_acknowledged:
            asked.note_acknowledged(value)
        elif ended.is_refused and not was_open:
            asked.open.discard(value)
        self._recorder.count(f"{arguments[1]}-{ended.word}")
        self._recorder.tell(f"{' '.join(arguments)} at {node.name}: {ended.word} {ended.said.strip()}")
        return ended

    async def _look(self, name: str, what: str, asked: Asked[str]) -> None:
        """Ask any manager how the node is to be. Raises Violation if that was never asked for."""
        manager = self._ground.one_of(self._recorder.managers(), self._chance)
        ended = await self._ground.command(manager, "node", "inspect", name, "-o", "json")
        if ended.is_acknowledged:
            check_asked(f"the {what} of {name}", asked, ended.json()[what])
