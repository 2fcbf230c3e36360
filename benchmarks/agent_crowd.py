"""Many agents in one process: real sessions over gRPC and TLS, each node with a key and certificate of its own, and hosts that
are simulated. `agents.py` starts some of these beside real managers.

    python -m benchmarks.agent_crowd TOKEN JOIN_ADDRESS NAME NUMBER

It lets NUMBER nodes join, prints a JSON line whenever the number of agents that a manager has welcomed has changed
({"at": seconds of the machine's monotonic clock, "welcomed": how many}), and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import sys
import time

from stackd.agent.session import Agent
from stackd.api.dispatch import FromAgent, FromManager, Standing
from stackd.api.join import JoinRequest, join
from stackd.api.nodes import open_node_stream
from stackd.api.secure import TlsMaterial
from stackd.api.stream import Stream
from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import NodeId
from stackd.daemon.clock import SystemClock
from stackd.engine.parts import NodeCertificate
from stackd.security.identity import NodeKey, read_certificate
from stackd.security.tokens import JoinToken
from stackd.simulation.executor import FakeExecutor
from stackd.simulation.host import FakeHost

JOINING_AT_ONCE = 8
"""Handshakes and signatures are the manager's work: more at once would only wait there."""
LOOK_SECONDS = 0.1


class Member:
    """One node: how it gets to managers, and whether one has welcomed it."""

    def __init__(self, node_id: NodeId, material: TlsMaterial, managers: tuple[str, ...]) -> None:
        self.node_id = node_id
        self.welcomed = False
        self._material = material
        self._managers = managers
        self._leader = ""

    def certificate(self) -> NodeCertificate:
        shown = read_certificate(self._material.certificate)
        return NodeCertificate(role=shown.node.role, issuer=shown.issuer_key, until=shown.not_after)

    def heed(self, standing: Standing) -> None:
        self.welcomed = True
        self._managers = standing.managers or self._managers

    def redirect(self, leader: str) -> None:
        self._leader = leader

    async def connect(self) -> Stream[FromManager, FromAgent]:
        self.welcomed = False
        first, self._leader = self._leader, ""
        others = random.sample(self._managers, len(self._managers))
        for address in filter(None, (first, *others)):
            with contextlib.suppress(Unavailable):
                return await open_node_stream(address, self._material)
        raise Unavailable("crowd.no_manager", "no manager answers")


async def enter(token: JoinToken, address: str, name: str) -> Member:
    """Join as a node of that name."""
    key = NodeKey.create()
    request = JoinRequest(secret=token.secret, request=key.request(), hostname=name, address="10.0.0.0:2377")
    while True:
        try:
            answer = await join(address, token, request)
            break
        except StackdError as error:
            if error.retry.value == "never":
                raise
            await asyncio.sleep(0.2)
    return Member(NodeId(answer.node_id), TlsMaterial(answer.certificate, key.pem(), answer.roots), answer.managers)


async def live(member: Member, host: FakeHost) -> None:
    clock = SystemClock()
    await Agent(
        member.node_id,
        FakeExecutor(host, clock),
        member.connect,
        host.states,
        clock,
        random.Random(member.node_id),
        certificate=member.certificate,
        heed=member.heed,
        redirect=member.redirect,
    ).run()


async def tell(members: list[Member]) -> None:
    told = -1
    while True:
        welcomed = sum(member.welcomed for member in members)
        if welcomed != told:
            print(json.dumps({"at": time.monotonic(), "welcomed": welcomed}), flush=True)
            told = welcomed
        await asyncio.sleep(LOOK_SECONDS)


async def crowd(token: JoinToken, address: str, name: str, number: int) -> None:
    members: list[Member] = []
    gate = asyncio.Semaphore(JOINING_AT_ONCE)

    async def begin(host: FakeHost) -> None:
        async with gate:
            members.append(await enter(token, address, host.hostname))
        await live(members[-1], host)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(tell(members))]
        tasks += [
            group.create_task(begin(FakeHost(f"{name}{place}", random.Random(f"{name}{place}")))) for place in range(number)
        ]
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()


def main() -> None:
    token, address, name, number = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(crowd(JoinToken.parse(token), address, name, int(number)))


if __name__ == "__main__":
    main()
