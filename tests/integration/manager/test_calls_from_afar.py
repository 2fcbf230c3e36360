"""A manager that serves nodes and people over real TLS: who gets in, and who is cut off when the state says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
from stackd.api import codec
from stackd.api.cluster import (
    CLUSTER_METHODS,
    IssuedUser,
    IssueUserRequest,
    RenewRequest,
    UpdateNodeRequest,
    UserRequest,
    Users,
)
from stackd.api.control import Caller, Empty, EventsRequest, Failure, Method
from stackd.api.secure import TlsMaterial, secure_channel, serve_tls
from stackd.api.server import service_handlers
from stackd.api.views import EventView
from stackd.base.errors import StackdError
from stackd.engine.inputs import RemoveNode
from stackd.engine.parts import Role, UserRole
from stackd.security.identity import NodeKey, read_certificate

from manager_cluster import ANN, Host, Hosts, play

METHOD = {method.name: method for method in CLUSTER_METHODS}
EVENTS = Method("Events", EventsRequest, EventView, stream=True, needs=UserRole.VIEWER, service="Feed")


class Feed:
    """A stream that lasts."""

    async def events(self, request: EventsRequest, caller: Caller) -> AsyncIterator[EventView]:
        yield EventView(seq=1, at=None, kind="k", subject="s", stack="", message=str(caller.principal), principal="")
        await asyncio.Event().wait()


def material(host: Host, roots: bytes) -> TlsMaterial:
    return TlsMaterial(host.certificate, host.key.pem(), roots)


@asynccontextmanager
async def serving(host: Host) -> AsyncIterator[str]:
    manager = host.manager
    handlers = (
        service_handlers(CLUSTER_METHODS, manager.cluster, manager.access.caller_of),
        service_handlers((EVENTS,), Feed(), manager.access.caller_of, scope=manager.access.scope),
    )
    shown = material(host, manager.issuer.roots)
    async with serve_tls("127.0.0.1:0", lambda: shown, handlers) as port:
        yield f"127.0.0.1:{port}"


async def call(channel: grpc.aio.Channel, name: str, request: msgspec.Struct) -> Any:
    method = METHOD[name]
    try:
        answer = await channel.unary_unary(method.path)(codec.encode(request), timeout=10)
    except grpc.aio.AioRpcError as exc:
        raise _error(exc) from None
    return codec.decode(answer, method.response)


def _error(exc: grpc.aio.AioRpcError) -> StackdError:
    trailing = dict(exc.trailing_metadata() or ())
    return codec.error_of(codec.decode(trailing[codec.FAILURE_KEY], Failure))


async def refusal(asked: Awaitable[object]) -> str:
    with pytest.raises(StackdError) as caught:
        await asked
    return caught.value.code


async def let_in(host: Host, name: str, role: UserRole) -> tuple[NodeKey, IssuedUser]:
    key = NodeKey.create()
    request = IssueUserRequest(name=name, role=role, request=key.request())
    return key, await host.manager.cluster.issue_user(request, ANN)


def story_of(story: Callable[[Hosts, Host, str], Awaitable[None]]) -> None:
    async def main(hosts: Hosts) -> None:
        host = await hosts.found()
        async with serving(host) as address:
            await story(hosts, host, address)

    play(main)


def test_a_worker_renews_over_the_network_until_it_is_removed() -> None:
    async def story(hosts: Hosts, host: Host, address: str) -> None:
        worker = await hosts.join(Role.WORKER)
        async with secure_channel(address, material(worker, host.manager.issuer.roots)) as channel:
            request = RenewRequest(request=NodeKey.create().request())
            answer = await call(channel, "Renew", request)
            assert read_certificate(answer.certificate).node.node_id == worker.node_id
            assert await refusal(call(channel, "Info", Empty())) == "api.access.denied"
            remove = RemoveNode(id=worker.node_id, principal=ANN.principal, force=True)
            await host.manager.writer.submit(remove)
            assert await refusal(call(channel, "Renew", request)) == "api.access.denied"

    story_of(story)


def test_a_person_sees_and_does_what_the_role_allows_and_is_in_the_audit() -> None:
    async def story(hosts: Hosts, host: Host, address: str) -> None:
        key, issued = await let_in(host, "bob", UserRole.VIEWER)
        admin_key, admin = await let_in(host, "eve", UserRole.ADMIN)
        change = UpdateNodeRequest(name="host1", labels={"disk": "ssd"})
        async with secure_channel(address, TlsMaterial(issued.certificate, key.pem(), issued.roots)) as channel:
            assert (await call(channel, "Info", Empty())).nodes == 1
            assert await refusal(call(channel, "UpdateNode", change)) == "api.access.denied"
        async with secure_channel(address, TlsMaterial(admin.certificate, admin_key.pem(), admin.roots)) as channel:
            assert (await call(channel, "UpdateNode", change)).labels == {"disk": "ssd"}
            users: Users = await call(channel, "Users", Empty())
        assert [(user.name, user.role) for user in users.items] == [("bob", "viewer"), ("eve", "admin")]
        said = [str(event.principal) for event in host.manager.writer.view.events_after(0) if event.kind == "node.labels"]
        assert said == ["certificate:eve"]

    story_of(story)


def test_a_person_that_is_taken_away_is_cut_off_in_the_middle_of_a_stream() -> None:
    async def story(hosts: Hosts, host: Host, address: str) -> None:
        key, issued = await let_in(host, "bob", UserRole.VIEWER)
        async with secure_channel(address, TlsMaterial(issued.certificate, key.pem(), issued.roots)) as channel:
            stream = channel.unary_stream(EVENTS.path)(codec.encode(EventsRequest(follow=True)), timeout=10)
            first = codec.decode(await stream.read(), EventView)
            assert first.message == "certificate:bob"
            await host.manager.cluster.remove_user(UserRequest(name="bob"), ANN)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert _error(caught.value).code == "api.access.denied"

    story_of(story)
