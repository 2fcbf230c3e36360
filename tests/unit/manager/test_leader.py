"""A manager's part as leader: it comes and goes with elections, and agents are sent to whoever has it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stackd.api.dispatch import Assignments, Goodbye, Welcome
from stackd.api.stream import memory_pair
from stackd.base.errors import Unavailable
from stackd.engine.model import Node
from stackd.engine.parts import NodeState
from stackd.engine.store import Store
from stackd.manager.duty import RETRY_SECONDS, Duty
from stackd.manager.leader import NOT_LEADING, LeaderDuty, LeaderRole
from stackd.manager.writer import Writer
from stackd.raft.ensemble import Ensemble, Pace
from stackd.simulation.loop import EPOCH, VirtualClock, run

from manager_builders import NODE, a_hello, opened


@dataclass
class Manager:
    """The manager `here`; the member `there` is only somebody else to lead."""

    ensemble: Ensemble
    writer: Writer
    role: LeaderRole
    group: asyncio.TaskGroup

    async def hello(self) -> tuple[Any, Any]:
        """An agent's end after its hello, and what it hears first."""
        agent, manager = memory_pair()
        self.group.create_task(self.role.serve(manager, node=Node(id=NODE, created_at=EPOCH)))
        await agent.send(a_hello(NODE))
        return agent, await agent.receive()


def scenario(story: Callable[[Manager], Awaitable[None]], *duties: LeaderDuty) -> None:
    """The story of a manager that leads to begin with."""

    async def whole() -> None:
        ensemble = Ensemble(["here", "there"], random.Random(1), Pace(lag_seconds=(0.1, 0.1)))
        here, there = ensemble.member("here"), ensemble.member("there")
        await here.start()
        await there.start()
        writer = Writer(Store(), here, VirtualClock(), random.Random(1))
        role = LeaderRole(writer, here, opened, lambda: here.known_leader, duties=duties)
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(writer.run()), group.create_task(role.run())]
            ensemble.depose("here")
            await asyncio.sleep(0.1)
            await story(Manager(ensemble, writer, role, group))
            for part in parts:
                part.cancel()
            here.crash()

    run(whole())


def test_the_leader_welcomes_agents() -> None:
    async def story(manager: Manager) -> None:
        agent, first = await manager.hello()
        assert isinstance(first, Welcome)
        assert isinstance(await agent.receive(), Assignments)
        await agent.close()

    scenario(story)


def test_who_does_not_lead_sends_agents_to_the_leader() -> None:
    async def story(manager: Manager) -> None:
        manager.ensemble.depose("there")
        await asyncio.sleep(0.1)
        assert manager.role.dispatcher is None
        _, first = await manager.hello()
        assert first == Goodbye(reason=NOT_LEADING, leader="there")

    scenario(story)


def test_sessions_end_with_the_term_and_the_nodes_are_not_reported_as_gone() -> None:
    async def story(manager: Manager) -> None:
        agent, _ = await manager.hello()
        await agent.receive()
        manager.ensemble.depose("there")
        assert await agent.receive() == Goodbye(reason=NOT_LEADING, leader="there")
        status = manager.writer.view.node_statuses.get(NODE)
        assert status is not None
        assert status.state is NodeState.READY

    scenario(story)


def test_an_agent_that_says_hello_while_leadership_is_lost_gets_no_session() -> None:
    async def story(manager: Manager) -> None:
        agent, end = memory_pair()
        manager.group.create_task(manager.role.serve(end, node=Node(id=NODE, created_at=EPOCH)))
        await asyncio.sleep(0.1)
        manager.ensemble.depose("there")
        await asyncio.sleep(0.1)
        await agent.send(a_hello(NODE))
        assert await agent.receive() == Goodbye(reason=NOT_LEADING, leader="there")

    scenario(story)


def test_a_leader_that_is_elected_again_takes_agents_again() -> None:
    async def story(manager: Manager) -> None:
        former = manager.role.dispatcher
        manager.ensemble.depose("there")
        manager.ensemble.depose("here")
        await asyncio.sleep(0.1)
        assert manager.role.dispatcher not in (None, former)
        agent, first = await manager.hello()
        assert isinstance(first, Welcome)
        await agent.close()

    scenario(story)


def test_duties_last_as_long_as_the_leadership() -> None:
    under_way: list[str] = []

    async def duty() -> None:
        under_way.append("duty")
        try:
            await asyncio.Event().wait()
        finally:
            under_way.remove("duty")

    async def story(manager: Manager) -> None:
        assert under_way == ["duty"]
        manager.ensemble.depose("there")
        await asyncio.sleep(0.1)
        assert under_way == []
        manager.ensemble.depose("here")
        await asyncio.sleep(0.1)
        assert under_way == ["duty"]

    scenario(story, duty)


def test_a_look_that_fails_is_made_again_and_rows_that_matter_bring_one_on() -> None:
    looks: list[float] = []

    async def look() -> None:
        looks.append(asyncio.get_running_loop().time())
        if len(looks) == 1:
            raise Unavailable("raft.member.change_pending", "not now")

    async def story(manager: Manager) -> None:
        duty = Duty("nodes", manager.writer, (Node,), look)
        task = manager.group.create_task(duty.run())
        await asyncio.sleep(0.1)
        assert len(looks) == 1
        await asyncio.sleep(2 * RETRY_SECONDS)
        assert len(looks) == 2
        await manager.hello()  # makes a node
        await asyncio.sleep(0.1)
        assert len(looks) == 3
        await asyncio.sleep(10)
        assert len(looks) == 3
        task.cancel()

    scenario(story)


def test_what_depends_on_more_than_records_is_looked_at_every_so_often() -> None:
    looks: list[float] = []

    async def look() -> None:
        looks.append(asyncio.get_running_loop().time())

    async def story(manager: Manager) -> None:
        duty = Duty("members", manager.writer, (), look, look_seconds=1.0)
        task = manager.group.create_task(duty.run())
        await asyncio.sleep(3.5)
        assert len(looks) == 4
        task.cancel()

    scenario(story)
