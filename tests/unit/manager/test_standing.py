"""What nodes are told of how they stand in the cluster, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from stackd.api.dispatch import Assignments, Goodbye, Heartbeat, Hello, Standing, Welcome
from stackd.api.stream import memory_pair
from stackd.base.ids import NodeId
from stackd.base.time import SECOND, Instant
from stackd.engine.inputs import RegisterNode
from stackd.engine.model import Authority, Node, Row
from stackd.engine.parts import ManagerStatus, NodeCertificate, NodeDescription, NodeState, Role, RootRotation
from stackd.engine.status import NodeStatus

from manager_builders import NODE, NOW, Desk

AUTHORITY = Authority(cluster="c1", root_pem=b"old;", issuer="k1", sealed_key=b"", sealed_secrets=b"", created_at=NOW)
ROTATING = Authority(
    cluster="c1",
    root_pem=b"old;",
    issuer="k1",
    sealed_key=b"",
    sealed_secrets=b"",
    created_at=NOW,
    rotation=RootRotation(root_pem=b"new;", sealed_key=b"", crossed_pem=b"", issuer="k2", started_at=NOW),
)


def certificate(role: Role = Role.WORKER, issuer: str = "k1") -> NodeCertificate:
    return NodeCertificate(role=role, issuer=issuer, until=Instant(9))


def status(node: str = NODE, shown: NodeCertificate | None = None, manager: ManagerStatus | None = None) -> NodeStatus:
    return NodeStatus(id=NodeId(node), state=NodeState.READY, at=NOW, certificate=shown, manager=manager)


def a_node(role: Role = Role.WORKER) -> Node:
    return Node(id=NODE, created_at=NOW, role=role)


async def opened(desk: Desk, group: asyncio.TaskGroup, hello: Hello | None = None) -> tuple[Any, Welcome]:
    """An agent's end of a session, after the welcome and the assignments."""
    agent, manager = memory_pair()
    assert desk.dispatcher is not None
    group.create_task(desk.dispatcher.serve(manager))
    await agent.send(hello or Hello(node_id=NODE, description=NodeDescription(hostname="box"), version="1"))
    welcome = await agent.receive()
    assert isinstance(welcome, Welcome)
    assert isinstance(await agent.receive(), Assignments)
    return agent, welcome


def session(story: Callable[[Desk, Any, Welcome], Awaitable[None]], *rows: Row, hello: Hello | None = None) -> None:
    async def main() -> None:
        desk = Desk(*rows)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            agent, welcome = await opened(desk, group, hello)
            await story(desk, agent, welcome)
            assert desk.dispatcher is not None
            await desk.dispatcher.stop()

    asyncio.run(main())


def test_the_welcome_says_where_managers_are_the_leader_first_and_what_to_trust() -> None:
    async def story(_desk: Desk, _agent: Any, welcome: Welcome) -> None:
        assert welcome.standing == Standing(managers=("z:2377", "a:2377"), roots=b"old;")

    managers = (
        status("m1", manager=ManagerStatus(address="a:2377")),
        status("m2", manager=ManagerStatus(address="z:2377", leader=True)),
        status("m3", manager=ManagerStatus()),  # serves no others
    )
    session(story, AUTHORITY, a_node(), status(shown=certificate()), *managers)


def test_a_node_in_a_cluster_of_its_own_is_told_nothing() -> None:
    async def story(_desk: Desk, _agent: Any, welcome: Welcome) -> None:
        assert welcome.standing == Standing()

    session(story, a_node(), status())


def test_a_node_is_told_at_once_to_renew_when_its_role_changes() -> None:
    async def story(desk: Desk, agent: Any, welcome: Welcome) -> None:
        assert welcome.standing.renew_within_ns is None
        desk.write(a_node(Role.MANAGER))
        assert (await agent.receive()).renew_within_ns == 0
        desk.write(status(shown=certificate(Role.MANAGER)))
        assert (await agent.receive()).renew_within_ns is None

    session(story, AUTHORITY, a_node(), status(shown=certificate()))


def test_a_demoted_manager_is_told_when_consensus_has_let_go_of_it() -> None:
    manager = status(shown=certificate(Role.MANAGER), manager=ManagerStatus(address="a:2377"))

    async def story(desk: Desk, agent: Any, welcome: Welcome) -> None:
        desk.write(a_node(Role.WORKER))  # says nothing that the node has to know
        desk.write(status(shown=certificate(Role.MANAGER)))
        assert await agent.receive() == Standing(roots=b"old;", renew_within_ns=0)  # type: ignore[arg-type]

    session(story, AUTHORITY, a_node(Role.MANAGER), manager)


def test_during_a_rotation_nodes_trust_both_roots_and_renew_one_after_the_other() -> None:
    async def story(desk: Desk, agent: Any, welcome: Welcome) -> None:
        desk.write(ROTATING)
        told = await agent.receive()
        assert told.roots == b"old;new;"
        assert 0 < told.renew_within_ns <= SECOND
        desk.write(status(shown=certificate(issuer="k2")))
        assert (await agent.receive()).renew_within_ns is None

    session(story, AUTHORITY, a_node(), status(shown=certificate()))


def test_what_a_node_says_of_its_certificate_is_stored_with_its_first_word_and_when_it_changes() -> None:
    hello = Hello(node_id=NODE, description=NodeDescription(hostname="box"), version="1", certificate=certificate())

    async def story(desk: Desk, agent: Any, welcome: Welcome) -> None:
        await agent.send(Heartbeat(number=1, certificate=certificate(issuer="k2")))
        await agent.receive()  # the heartbeat's answer: it has been taken in
        while len(desk.inputs) < 2:
            await asyncio.sleep(0)
        told = [one.certificate for one in desk.inputs if isinstance(one, RegisterNode)]
        assert told == [certificate(), certificate(issuer="k2")]
        assert all(one.description.hostname == "box" for one in desk.inputs if isinstance(one, RegisterNode))

    session(story, AUTHORITY, a_node(), status(), hello=hello)


def test_an_agent_that_names_another_node_than_its_certificate_is_sent_away() -> None:
    async def main() -> None:
        desk = Desk(a_node())
        agent, manager = memory_pair()
        assert desk.dispatcher is not None
        await agent.send(Hello(node_id=NODE, description=NodeDescription(hostname="box"), version="1"))
        await desk.dispatcher.serve(manager, peer=NodeId("other"))
        assert isinstance(await agent.receive(), Goodbye)
        assert desk.inputs == []

    asyncio.run(main())
