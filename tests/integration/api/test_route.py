"""The connection to the leader, over real TLS: one for as long as the same manager leads, and found again when it was gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from stackd.api import codec
from stackd.api.addresses import ManagerAddress
from stackd.api.control import METHODS, Caller, ListRequest, Services
from stackd.api.forward import forward
from stackd.api.route import LeaderRoute
from stackd.api.secure import TlsMaterial, serve_tls
from stackd.base.errors import Unavailable
from stackd.base.ids import NodeId
from stackd.base.time import Instant
from stackd.engine.parts import Principal, PrincipalKind, Role
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey

NOW = Instant(time.time_ns())
AUTHORITY = Authority.create(NOW)
SOMEBODY = Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name="0"))
SERVICES = next(method for method in METHODS if method.name == "Services")
WAIT_SECONDS = 20.0
LOOK_AGAIN_SECONDS = 0.03


def material(name: str) -> TlsMaterial:
    key = NodeKey.create()
    identity = NodeIdentity(NodeId(name), Role.MANAGER, "cluster1")
    return TlsMaterial(AUTHORITY.issue(key.request(), identity, NOW), key.pem(), AUTHORITY.root.pem)


OURS = material("m2")


async def _services(_request: bytes, _context: Any) -> bytes:
    return codec.encode(Services(items=(), index=7))


@asynccontextmanager
async def leader(port: int = 0) -> AsyncIterator[int]:
    """A leader that lists its services; the port that it is reached at."""
    theirs = material("m1")
    handler = grpc.method_handlers_generic_handler(
        codec.CONTROL_SERVICE, {"Services": grpc.unary_unary_rpc_method_handler(_services)}
    )
    async with serve_tls(f"127.0.0.1:{port}", lambda: theirs, [handler]) as bound:
        yield bound


async def answered(route: LeaderRoute) -> bool:
    """Carry a call on to the leader; whether it was answered."""
    channel = route.leader()
    assert channel is not None
    try:
        answer = await forward(channel, SERVICES, codec.encode(ListRequest()), SOMEBODY)
    except Unavailable:
        return False
    return bool(codec.decode(answer, Services).index == 7)


def test_calls_share_a_connection_until_another_manager_leads_or_the_certificate_is_new() -> None:
    where: ManagerAddress | None = ManagerAddress.parse("127.0.0.1:1")
    shown = OURS

    async def scenario() -> None:
        nonlocal where, shown
        async with asyncio.TaskGroup() as group:
            route = LeaderRoute(lambda: where, lambda: shown, group)
            first = route.leader()
            assert route.leader() is first
            where = ManagerAddress.parse("127.0.0.1:2")
            second = route.leader()
            assert second is not first
            shown = material("m2")
            assert route.leader() is not second
            where = None
            assert route.leader() is None
            await route.close()

    asyncio.run(scenario())


def test_a_leader_that_is_back_where_it_was_is_reached_again() -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            async with leader() as port:
                route = LeaderRoute(lambda: ManagerAddress.parse(f"127.0.0.1:{port}"), lambda: OURS, group)
                assert await answered(route)
            for _ in range(5):
                assert not await answered(route)
            async with leader(port), asyncio.timeout(WAIT_SECONDS):
                while not await answered(route):
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
                await route.close()

    asyncio.run(scenario())
