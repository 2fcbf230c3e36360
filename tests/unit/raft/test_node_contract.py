"""Nodes keep the contract of consensus, alone and as the leader of three, in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from consensus_contract import AloneContract, ConsensusContract, next_term
from stackd.raft.consensus import Consensus
from stackd.raft.ensemble import Pace
from stackd.simulation.loop import run

from node_ensemble import NodeEnsemble, NodeMember


class OnNodes(ConsensusContract):
    """The contract over nodes, of which m1 is looked at."""

    def run(self, story: Callable[[object], Awaitable[None]]) -> None:
        run(self._tell(story))

    def new_member(self, storage: object) -> NodeMember:
        assert isinstance(storage, NodeEnsemble)
        return storage.member("m1")


class TestNodeAlone(OnNodes, AloneContract):
    def storage(self) -> NodeEnsemble:
        return NodeEnsemble(["m1"], random.Random(1), Pace())

    def set_full(self, storage: object, full: bool) -> None:
        assert isinstance(storage, NodeEnsemble)
        storage.set_full("m1", full)


class TestNodeAmongThree(OnNodes):
    """The leader of three, of whom the other two come and go with it."""

    def storage(self) -> NodeEnsemble:
        return NodeEnsemble(["m1", "m2", "m3"], random.Random(1), Pace())

    @asynccontextmanager
    async def running(self, storage: object) -> AsyncIterator[tuple[Consensus, bytes | None, int]]:
        assert isinstance(storage, NodeEnsemble)
        members = [storage.member(name) for name in storage.names]
        snapshots = [await member.start() for member in members]
        storage.campaign("m1")
        try:
            yield members[0], snapshots[0], await next_term(members[0])
        finally:
            for member in members:
                await member.close()
