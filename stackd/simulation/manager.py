"""One manager of a simulated cluster, and its lives: real writer, store, leader's role and dispatcher on modelled consensus."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from stackd.api.dispatch import FromAgent, FromManager
from stackd.api.stream import Stream
from stackd.base.errors import Unavailable
from stackd.base.ids import Entropy
from stackd.base.time import Instant
from stackd.engine.inputs import Input
from stackd.engine.model import Node
from stackd.engine.step import Decision, step
from stackd.engine.store import Changes, Store
from stackd.engine.view import View
from stackd.manager.leader import LeaderRole
from stackd.manager.writer import Writer
from stackd.raft.ensemble import Ensemble, EnsembleMember
from stackd.security.keys import RootKey
from stackd.simulation.loop import VirtualClock
from stackd.simulation.wire import Wire

OnApplied = Callable[[View, Changes], None]
OnDecision = Callable[[Decision], None]


class SimulatedManager:
    """`run` is one life. What it leaves behind is its member's disk in the ensemble, nothing else."""

    def __init__(self, name: str, ensemble: Ensemble, chance: random.Random, key: RootKey) -> None:
        self.name = name
        self.clock = VirtualClock()
        self.process: asyncio.Task[None] | None = None
        self._ensemble = ensemble
        self._chance = chance
        self._key = key
        self._member: EnsembleMember | None = None
        self._writer: Writer | None = None
        self._role: LeaderRole | None = None
        self._group: asyncio.TaskGroup | None = None
        self._wires: list[Wire] = []

    @property
    def is_running(self) -> bool:
        return self._writer is not None

    @property
    def leads(self) -> bool:
        """Whether it believes that it leads; it may be cut off and not know better."""
        return self._member is not None and self._member.leads

    @property
    def writer(self) -> Writer:
        """Raises Unavailable while the manager is down."""
        if self._writer is None:
            raise Unavailable("simulation.manager.down", f"{self.name} is down")
        return self._writer

    async def run(self, on_applied: OnApplied, on_decision: OnDecision) -> None:
        """Start from the disk and work until cancelled."""
        member = self._ensemble.member(self.name)
        snapshot = await member.start()
        store = Store() if snapshot is None else Store.restore(snapshot)

        def decide(view: View, inputs: Sequence[Input], now: Instant, entropy: Entropy) -> Decision:
            decision = step(view, inputs, now, entropy)
            on_decision(decision)
            return decision

        def follows() -> bool:
            return member.known_leader not in ("", self.name)

        writer = Writer(store, member, self.clock, self._chance, decide=decide, follows=follows)
        role = LeaderRole(writer, member, self._key.open_blob, lambda: member.known_leader)
        writer.listen(lambda changes: on_applied(store.view, changes))
        self._member, self._writer, self._role = member, writer, role
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(writer.run(), name=f"writer of {self.name}")
                group.create_task(role.run(), name=f"role of {self.name}")
        except ExceptionGroup:
            if self._member is member:
                raise  # else it has vanished: nobody hears the last words of a process that was killed

    def vanish(self) -> None:
        """What everybody else sees of a kill: the member is gone and the connections break. `process` is to be killed."""
        if self._member is not None:
            self._member.crash()
        for wire in self._wires:
            wire.cut()
        self._wires.clear()
        self._member = self._writer = self._role = self._group = None

    def accept(self, wire: Wire, node: Node) -> Stream[FromManager, FromAgent]:
        """Serve a node over `wire`; returns the agent's end. Raises Unavailable while the manager is down."""
        if self._group is None or self._role is None:
            raise Unavailable("simulation.manager.down", f"{self.name} is down")
        self._wires = [one for one in self._wires if one.is_open]
        self._wires.append(wire)
        self._group.create_task(self._role.serve(wire.manager_end, node=node), name=f"session of {node.id}")
        agent_end: Stream[FromManager, FromAgent] = wire.agent_end
        return agent_end
