"""One host of a simulated cluster with the lives of its agent, which finds its way to whichever manager leads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from stackd.agent.session import Agent
from stackd.api.dispatch import FromAgent, FromManager, Goodbye
from stackd.api.stream import Stream
from stackd.base.errors import Unavailable
from stackd.base.ids import NodeId
from stackd.base.records import Pairs
from stackd.engine.model import Node
from stackd.simulation.executor import FakeExecutor
from stackd.simulation.host import FakeHost
from stackd.simulation.loop import VirtualClock
from stackd.simulation.manager import SimulatedManager
from stackd.simulation.wire import Latency, Wire


class _Listening:
    """The agent's end of a stream, remembering where the leader is said to be."""

    def __init__(self, stream: Stream[FromManager, FromAgent], node: SimulatedNode) -> None:
        self._stream = stream
        self._node = node

    async def receive(self) -> FromManager:
        message = await self._stream.receive()
        if isinstance(message, Goodbye):
            self._node.leader = message.leader
        return message

    async def send(self, message: FromAgent) -> None:
        await self._stream.send(message)

    async def close(self) -> None:
        await self._stream.close()


@dataclass(slots=True)
class SimulatedNode:
    """`joined` once its agent has lived. `reachable` False keeps the agent from connecting anew. `leader` is the manager it
    was told to ask next."""

    id: NodeId
    host: FakeHost
    managers: Sequence[SimulatedManager]
    chance: random.Random
    latency: Latency
    clock: VirtualClock = field(default_factory=VirtualClock)
    process: asyncio.Task[None] | None = None
    wire: Wire | None = None
    labels: Pairs = ()
    joined: bool = False
    reachable: bool = True
    leader: str = ""

    def agent(self) -> Agent:
        """A new life of the agent, from what the host has."""
        executor = FakeExecutor(self.host, self.clock)
        return Agent(self.id, executor, self._connect, self.host.states, self.clock, self.chance)

    def reboot(self) -> None:
        """The host goes down, after its agent, and comes up again."""
        self.host.reboot()
        self.clock.boots += 1

    def cut_off(self, is_cut_off: bool) -> None:
        """Whether the node reaches no manager; its connection breaks."""
        self.reachable = not is_cut_off
        if is_cut_off and self.wire:
            self.wire.cut()

    async def _connect(self) -> Stream[FromManager, FromAgent]:
        if not self.reachable:
            raise Unavailable("simulation.unreachable", "no manager can be reached")
        manager, self.leader = self._whom_to_ask(), ""
        self.wire = Wire(self.latency)
        return _Listening(manager.accept(self.wire, Node(id=self.id, created_at=self.clock.now(), labels=self.labels)), self)

    def _whom_to_ask(self) -> SimulatedManager:
        named = [manager for manager in self.managers if manager.name == self.leader and manager.is_running]
        return self.chance.choice(named or self.managers)
