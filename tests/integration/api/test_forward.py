"""Calls to a manager that doesn't lead, over real TLS: carried to the leader in the caller's name, and by nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from stackd.api import codec
from stackd.api.control import (
    Caller,
    Empty,
    EventsRequest,
    Failure,
    ListRequest,
    Method,
    NameRequest,
    Services,
    VersionResponse,
)
from stackd.api.forward import CALLER_KEY, forwarded_caller
from stackd.api.secure import TlsMaterial, peer_of, secure_channel, serve_tls
from stackd.api.server import control_handlers
from stackd.api.views import EventView
from stackd.base.errors import NotFound, Unavailable
from stackd.base.ids import NodeId
from stackd.base.records import encode
from stackd.base.time import Instant
from stackd.engine.parts import Principal, PrincipalKind, Role
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey

NOW = Instant(time.time_ns())
AUTHORITY = Authority.create(NOW)


def material(name: str, role: Role) -> TlsMaterial:
    key = NodeKey.create()
    return TlsMaterial(
        AUTHORITY.issue(key.request(), NodeIdentity(NodeId(name), role, "cluster1"), NOW), key.pem(), AUTHORITY.root.pem
    )


class Manager:
    """A manager as far as calls go; `follows` is the one that leads, None if it leads itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.material = material(name, Role.MANAGER)
        self.follows: Manager | None = None
        self.headless = False
        self.callers: list[str] = []
        self.counted: list[tuple[str, str, str]] = []
        self.port = 0

    # The router

    def leader(self) -> grpc.aio.Channel | None:
        if self.headless:
            raise Unavailable("manager.no_leader", "there is no leader")
        return None if self.follows is None else secure_channel(f"127.0.0.1:{self.follows.port}", self.material)

    # The handler: what these tests call

    async def services(self, _request: ListRequest, caller: Caller) -> Services:
        self.callers.append(str(caller.principal))
        return Services(items=(), index=7)

    async def remove_service(self, request: NameRequest, caller: Caller) -> Empty:
        raise NotFound("service.unknown", f'there is no service "{request.name}"')

    async def version(self, _request: Empty, caller: Caller) -> VersionResponse:
        return VersionResponse(version=self.name, data_dir="", pid=0)

    async def events(self, _request: EventsRequest, caller: Caller) -> AsyncIterator[EventView]:
        self.callers.append(str(caller.principal))
        for seq in range(3):
            yield EventView(seq=seq, at="", kind="test", subject="", message="", stack="", principal="")
        raise NotFound("events.gone", "too late")

    def __getattr__(self, name: str) -> Any:
        return None  # the other methods are not called here

    def caller_of(self, context: Any, _method: Method) -> Caller:
        peer = peer_of(context)
        node = Caller(principal=Principal(kind=PrincipalKind.NODE, name=peer.presented.identity.node_id))
        return forwarded_caller(context, peer) or node

    def called(self, method: str, outcome: str, answered: str, seconds: float) -> None:
        assert seconds > 0
        self.counted.append((method, outcome, answered))

    async def serve(self, stack: AsyncExitStack) -> None:
        handlers = [control_handlers(self, self.caller_of, self, called=self.called)]
        self.port = await stack.enter_async_context(serve_tls("127.0.0.1:0", lambda: self.material, handlers))


def call(manager: Manager, method: str, request: object, *, by: TlsMaterial | None = None, metadata: Any = None) -> list[bytes]:
    """Call `method` as a worker (or with the certificate `by`), with all of `manager`'s cluster being served."""

    async def scenario() -> list[bytes]:
        async with AsyncExitStack() as stack:
            await manager.serve(stack)
            if manager.follows not in (None, manager):
                assert manager.follows is not None
                await manager.follows.serve(stack)
            async with secure_channel(f"127.0.0.1:{manager.port}", by or material("w1", Role.WORKER)) as channel:
                answers = channel.unary_stream(f"/{codec.CONTROL_SERVICE}/{method}")(
                    codec.encode(request), metadata=metadata, timeout=10
                )
                return [answer async for answer in answers]

    return asyncio.run(scenario())


def failure(error: grpc.aio.AioRpcError) -> Failure:
    (found,) = [value for key, value in error.trailing_metadata() or () if key == codec.FAILURE_KEY]
    decoded: Failure = codec.decode(found, Failure)
    return decoded


@pytest.fixture
def follower() -> Manager:
    manager = Manager("m2")
    manager.follows = Manager("m1")
    return manager


def leader_of(follower: Manager) -> Manager:
    assert follower.follows is not None
    return follower.follows


def test_a_call_to_a_follower_is_answered_by_the_leader_in_the_callers_name(follower: Manager) -> None:
    (answer,) = call(follower, "Services", ListRequest())
    assert codec.decode(answer, Services).index == 7
    assert leader_of(follower).callers == ["node:w1"]
    assert follower.callers == []


def test_a_stream_is_carried_item_by_item_and_ends_with_the_leaders_error(follower: Manager) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(follower, "Events", EventsRequest())
    assert failure(caught.value).code == "events.gone"
    assert leader_of(follower).callers == ["node:w1"]


def test_the_leaders_error_arrives_as_it_is(follower: Manager) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(follower, "RemoveService", NameRequest(name="shop_web"))
    assert failure(caught.value) == Failure(kind="not_found", code="service.unknown", message='there is no service "shop_web"')


def test_what_is_about_the_daemon_itself_is_answered_by_it(follower: Manager) -> None:
    (answer,) = call(follower, "Version", Empty())
    assert codec.decode(answer, VersionResponse).version == "m2"


def test_without_a_leader_the_caller_is_told_so(follower: Manager) -> None:
    follower.headless = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(follower, "Services", ListRequest())
    assert failure(caught.value).code == "manager.no_leader"


def test_a_leader_that_has_gone_is_told(follower: Manager) -> None:
    gone = leader_of(follower)
    gone.port = 1
    follower.follows = Manager("m3")
    follower.leader = lambda: secure_channel("127.0.0.1:1", follower.material)  # type: ignore[method-assign]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(follower, "Services", ListRequest())
    assert failure(caught.value).code == "manager.leader_lost"


def test_managers_that_take_each_other_for_the_leader_pass_nothing_round(follower: Manager) -> None:
    leader_of(follower).follows = follower
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(follower, "Services", ListRequest())
    assert failure(caught.value).code == "manager.no_leader"


def test_only_a_manager_may_name_a_caller() -> None:
    manager = Manager("m1")
    somebody = Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name="0"))
    metadata = ((CALLER_KEY, encode(somebody)),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(manager, "Services", ListRequest(), metadata=metadata)
    assert failure(caught.value).code == "api.caller.forged"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(manager, "Services", ListRequest(), by=material("m2", Role.MANAGER), metadata=((CALLER_KEY, b"garbage"),))
    assert failure(caught.value).code == "api.caller.forged"
    assert manager.callers == []
    call(manager, "Services", ListRequest(), by=material("m2", Role.MANAGER), metadata=metadata)
    assert manager.callers == ["local-user:0"]


def test_every_call_is_counted_also_those_that_are_carried_on_or_refused(follower: Manager) -> None:
    leader = leader_of(follower)
    call(follower, "Services", ListRequest())
    call(follower, "Version", Empty())
    with pytest.raises(grpc.aio.AioRpcError):
        call(follower, "Events", EventsRequest())
    with pytest.raises(grpc.aio.AioRpcError):
        call(follower, "Services", ListRequest(), metadata=((CALLER_KEY, b"garbage"),))
    assert follower.counted == [
        ("Control.Services", "ok", "leader"),
        ("Control.Version", "ok", "here"),
        ("Control.Events", "events.gone", "leader"),
        ("Control.Services", "api.caller.forged", "here"),
    ]
    assert leader.counted == [("Control.Services", "ok", "here"), ("Control.Events", "events.gone", "here")]
