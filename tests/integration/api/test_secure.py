"""The listener for nodes, over real TLS on loopback: who gets in, and how certificates are replaced under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from stackd.api.secure import Peer, TlsMaterial, peer_of, secure_channel, serve_tls
from stackd.base.errors import Refused
from stackd.base.ids import NodeId
from stackd.base.time import HOUR, Duration, Instant
from stackd.engine.parts import Role
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey

NOW = Instant(time.time_ns())
CALL_SECONDS = 5


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


def material(authority: Authority, name: str, role: Role = Role.WORKER, roots: bytes = b"", now: Instant = NOW) -> TlsMaterial:
    key = NodeKey.create()
    certificate = authority.issue(key.request(), NodeIdentity(NodeId(name), role, "cluster1"), now, Duration(HOUR))
    return TlsMaterial(certificate, key.pem(), roots or authority.root.pem)


class Listener:
    """A listener whose one method answers with the caller's node id; `material` can be replaced."""

    def __init__(self, shown: TlsMaterial) -> None:
        self.material = shown
        self.peers: list[Peer] = []
        self.port = 0

    async def who(self, _request: bytes, context: Any) -> bytes:
        self.peers.append(peer_of(context))
        return self.peers[-1].presented.identity.node_id.encode()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        methods = {"Who": grpc.unary_unary_rpc_method_handler(self.who)}
        handlers = [grpc.method_handlers_generic_handler("test", methods)]
        async with serve_tls("127.0.0.1:0", lambda: self.material, handlers) as self.port:
            yield

    async def ask(self, shown: TlsMaterial, server_name: str = "stackd-manager") -> str:
        channel = secure_channel(f"127.0.0.1:{self.port}", shown, server_name)
        try:
            return await ask(channel)
        finally:
            await channel.close()


async def ask(channel: grpc.aio.Channel) -> str:
    answer: bytes = await channel.unary_unary("/test/Who")(b"", timeout=CALL_SECONDS)
    return answer.decode()


def test_a_node_of_the_cluster_is_known_by_its_certificate(authority: Authority) -> None:
    listener = Listener(material(authority, "m1", Role.MANAGER))

    async def scenario() -> None:
        async with listener.serving():
            assert await listener.ask(material(authority, "w1")) == "w1"

    asyncio.run(scenario())
    (peer,) = listener.peers
    assert peer.presented.identity == NodeIdentity(NodeId("w1"), Role.WORKER, "cluster1")
    assert peer.address == "127.0.0.1"
    assert not peer.is_manager


def test_each_call_is_its_own_callers_however_often_and_mixed_they_come(authority: Authority) -> None:
    listener = Listener(material(authority, "m1", Role.MANAGER))

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(listener.serving())
            shown = {name: material(authority, name) for name in ("w1", "w2")}
            channels = {name: secure_channel(f"127.0.0.1:{listener.port}", one) for name, one in shown.items()}
            for channel in channels.values():
                await stack.enter_async_context(channel)
            for _ in range(3):
                assert {name: await ask(channel) for name, channel in channels.items()} == {"w1": "w1", "w2": "w2"}

    asyncio.run(scenario())


def test_nobody_else_gets_in(authority: Authority) -> None:
    """No certificate at all, one of another authority, and an expired one."""
    listener = Listener(material(authority, "m1", Role.MANAGER))
    other = Authority.create(NOW)
    strangers = (
        material(other, "w1", roots=authority.root.pem),
        material(authority, "w1", now=Instant(NOW - 3 * HOUR)),
    )

    async def scenario() -> None:
        async with listener.serving():
            for stranger in strangers:
                with pytest.raises(grpc.aio.AioRpcError):
                    await listener.ask(stranger)
            nothing = grpc.ssl_channel_credentials(authority.root.pem)
            options = (("grpc.ssl_target_name_override", "stackd-manager"),)
            async with grpc.aio.secure_channel(f"127.0.0.1:{listener.port}", nothing, options=options) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await ask(channel)

    asyncio.run(scenario())
    assert listener.peers == []


def test_a_manager_of_another_cluster_and_a_worker_that_poses_as_one_are_not_spoken_to(authority: Authority) -> None:
    other = Authority.create(NOW)
    client = material(authority, "w1")

    async def scenario() -> None:
        for imposter in (material(other, "m1", Role.MANAGER, roots=authority.root.pem), material(authority, "w2")):
            listener = Listener(imposter)
            async with listener.serving():
                with pytest.raises(grpc.aio.AioRpcError):
                    await listener.ask(client)
            assert listener.peers == []

    asyncio.run(scenario())


def test_a_root_is_replaced_without_closing_a_connection(authority: Authority) -> None:
    new = authority.cross_sign(Authority.create(NOW))
    both = authority.root.pem + new.root.pem
    listener = Listener(material(authority, "m1", Role.MANAGER))

    async def scenario() -> None:
        async with listener.serving():
            old = secure_channel(f"127.0.0.1:{listener.port}", material(authority, "w1"))
            assert await ask(old) == "w1"
            listener.material = material(new, "m1", Role.MANAGER, roots=both)
            assert await ask(old) == "w1"  # its connection goes on
            assert await listener.ask(material(authority, "w2")) == "w2"  # trusts the old root only
            assert await listener.ask(material(new, "w3", roots=new.root.pem)) == "w3"  # trusts the new root only
            listener.material = material(new, "m1", Role.MANAGER, roots=new.root.pem)
            with pytest.raises(grpc.aio.AioRpcError):
                await listener.ask(material(authority, "w4", roots=both))  # the old root is over
            await old.close()

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_named(authority: Authority) -> None:
    listener = Listener(material(authority, "m1", Role.MANAGER))

    async def scenario() -> None:
        async with listener.serving():
            with pytest.raises(Refused, match=str(listener.port)):
                async with serve_tls(f"127.0.0.1:{listener.port}", lambda: listener.material, ()):
                    pass

    asyncio.run(scenario())
