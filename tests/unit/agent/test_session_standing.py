"""What an agent says of its certificate, and what it is told of its place in the cluster."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from stackd.agent.session import Agent
from stackd.api.dispatch import FromAgent, FromManager, Heartbeat, Hello, Renewal, Standing, Welcome
from stackd.api.stream import Stream, memory_pair
from stackd.base.time import SECOND, Duration, Instant
from stackd.engine.parts import NodeCertificate, Role
from stackd.simulation.executor import FakeExecutor
from stackd.simulation.loop import VirtualClock, run

from agent_builders import NODE, a_host

FIRST = NodeCertificate(role=Role.WORKER, issuer="k1", until=Instant(1))
SECOND_ONE = NodeCertificate(role=Role.MANAGER, issuer="k1", until=Instant(2))


def test_an_agent_shows_its_certificate_and_hands_on_how_the_node_stands() -> None:
    async def main() -> None:
        host, clock = a_host(), VirtualClock()
        ends: list[Stream[FromAgent, FromManager]] = []
        heard: list[Standing] = []
        shown = [FIRST]

        async def connect() -> Stream[FromManager, FromAgent]:
            ours, theirs = memory_pair()
            ends.append(theirs)
            return ours

        agent = Agent(
            NODE,
            FakeExecutor(host, clock),
            connect,
            host.states,
            clock,
            random.Random(1),
            certificate=lambda: shown[-1],
            heed=heard.append,
        )
        life = asyncio.create_task(agent.run())
        while not ends:
            await asyncio.sleep(0.1)
        hello: Any = await ends[0].receive()
        assert isinstance(hello, Hello)
        assert hello.certificate == FIRST
        told = Standing(managers=("a:2377",), roots=b"r")
        await ends[0].send(Welcome(session="1", heartbeat_ns=Duration(SECOND), standing=told))
        assert await beat(ends[0]) is None
        shown.append(SECOND_ONE)
        assert await beat(ends[0]) == SECOND_ONE
        assert await beat(ends[0]) is None
        await ends[0].send(Standing(renew_within_ns=Duration(0)))
        await asyncio.sleep(0.1)
        assert heard == [told, Standing(renew_within_ns=Duration(0))]
        life.cancel()
        await asyncio.wait([life])

    run(main())


async def beat(end: Stream[FromAgent, FromManager]) -> NodeCertificate | None:
    while True:
        message = await end.receive()
        if isinstance(message, Heartbeat):
            await end.send(Renewal(number=message.number))
            return message.certificate
