"""Joining over real TLS on loopback: what is said to whom, what is refused, and how little an attacker can do."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from stackd.api import join as joining
from stackd.api.join import JoinAnswer, JoinRequest, Redirect, RenewalRequest, join, renew_expired, serve_joiners
from stackd.api.secure import TlsMaterial
from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.base.ids import NodeId
from stackd.base.time import Instant
from stackd.engine.parts import Role
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey, read_certificate, verify_certificate
from stackd.security.tls import unverified_context
from stackd.security.tokens import JoinSecrets, JoinToken, new_secret

NOW = Instant(time.time_ns())


@dataclass
class Manager:
    """A small real manager: issues certificates for the right secret."""

    authority: Authority = field(default_factory=lambda: Authority.create(NOW))
    secrets: JoinSecrets = field(default_factory=lambda: JoinSecrets(worker=new_secret(), manager=new_secret()))
    redirect: str = ""
    seen: list[JoinRequest] = field(default_factory=list)
    renewed: list[RenewalRequest] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def token(self) -> JoinToken:
        return JoinToken(self.authority.root.digest, self.secrets.worker)

    def roots(self) -> bytes:
        return self.authority.root.pem

    async def join(self, request: JoinRequest) -> JoinAnswer | Redirect:
        self.seen.append(request)
        if self.redirect:
            return Redirect(address=self.redirect)
        role = self.secrets.role_of(request.secret)
        if role is None:
            raise Refused("cluster.token.wrong", "the token is not valid any more")
        certificate = self.authority.issue(request.request, NodeIdentity(NodeId("n1"), role, "cluster1"), NOW)
        return JoinAnswer(node_id="n1", cluster="cluster1", certificate=certificate, roots=self.roots(), managers=("m:1",))

    async def renew(self, request: RenewalRequest) -> JoinAnswer | Redirect:
        self.renewed.append(request)
        identity = read_certificate(request.certificate).node
        certificate = self.authority.issue(request.request, identity, NOW)
        return JoinAnswer(node_id="n1", cluster="cluster1", certificate=certificate, roots=self.roots(), managers=("m:1",))

    @asynccontextmanager
    async def serving(self, shown: Authority | None = None) -> AsyncIterator[None]:
        key = NodeKey.create()
        certificate = (shown or self.authority).issue(key.request(), NodeIdentity(NodeId("m1"), Role.MANAGER, "cluster1"), NOW)
        material = TlsMaterial(certificate, key.pem(), self.roots())
        async with serve_joiners("127.0.0.1", 0, lambda: material, self) as self.port:
            yield


def a_request(token: JoinToken, key: NodeKey) -> JoinRequest:
    return JoinRequest(secret=token.secret, request=key.request(), hostname="host1")


def test_a_token_gets_a_certificate_of_its_role() -> None:
    manager, key = Manager(), NodeKey.create()

    async def scenario() -> JoinAnswer:
        async with manager.serving():
            return await join(manager.address, manager.token, a_request(manager.token, key))

    answer = asyncio.run(scenario())
    presented = verify_certificate(answer.certificate, answer.roots, NOW)
    assert presented.identity == NodeIdentity(NodeId("n1"), Role.WORKER, "cluster1")
    assert key.owns(answer.certificate)
    assert manager.seen[0].peer == "127.0.0.1"


def test_a_node_whose_certificate_has_expired_asks_with_that_and_needs_no_token() -> None:
    manager, key = Manager(), NodeKey.create()
    old = manager.authority.issue(key.request(), NodeIdentity(NodeId("n1"), Role.WORKER, "cluster1"), NOW)
    request = RenewalRequest(certificate=old, request=key.request())

    async def scenario() -> JoinAnswer:
        async with manager.serving():
            return await renew_expired(manager.address, manager.roots(), request)

    assert verify_certificate(asyncio.run(scenario()).certificate, manager.roots(), NOW).node.node_id == "n1"
    assert manager.renewed == [request]


def test_a_wrong_secret_is_refused_with_the_managers_words() -> None:
    manager = Manager()
    token = JoinToken(manager.token.digest, new_secret())

    async def scenario() -> None:
        async with manager.serving():
            await join(manager.address, token, a_request(token, NodeKey.create()))

    with pytest.raises(Refused) as caught:
        asyncio.run(scenario())
    assert caught.value.code == "cluster.token.wrong"


def test_the_secret_is_never_said_to_another_cluster() -> None:
    manager = Manager()
    token = JoinToken(Authority.create(NOW).root.digest, manager.secrets.worker)

    async def scenario() -> None:
        async with manager.serving():
            await join(manager.address, token, a_request(token, NodeKey.create()))

    with pytest.raises(StackdError) as caught:
        asyncio.run(scenario())
    assert caught.value.code == "security.root.other"
    assert manager.seen == []


def test_the_secret_is_never_said_to_who_shows_the_root_but_has_not_its_key() -> None:
    manager = Manager()

    async def scenario() -> None:
        async with manager.serving(shown=Authority.create(NOW)):
            await join(manager.address, manager.token, a_request(manager.token, NodeKey.create()))

    with pytest.raises(StackdError) as caught:
        asyncio.run(scenario())
    assert caught.value.code == "security.root.other"
    assert manager.seen == []


def test_a_follower_sends_the_joiner_to_the_leader() -> None:
    leader = Manager()
    follower = Manager(authority=leader.authority, secrets=leader.secrets)

    async def scenario() -> JoinAnswer:
        async with leader.serving(), follower.serving():
            follower.redirect = leader.address
            return await join(follower.address, leader.token, a_request(leader.token, NodeKey.create()))

    assert asyncio.run(scenario()).node_id == "n1"
    assert len(follower.seen) == len(leader.seen) == 1


def test_managers_that_point_at_each_other_are_left_alone() -> None:
    manager = Manager()

    async def scenario() -> None:
        async with manager.serving():
            manager.redirect = manager.address
            await join(manager.address, manager.token, a_request(manager.token, NodeKey.create()))

    with pytest.raises(Unavailable, match="agree"):
        asyncio.run(scenario())
    assert len(manager.seen) == joining.REDIRECTS_LIMIT


def test_nobody_there_is_said_with_the_address() -> None:
    manager = Manager()

    async def scenario() -> None:
        async with manager.serving():
            pass
        await join(manager.address, manager.token, a_request(manager.token, NodeKey.create()))

    with pytest.raises(Unavailable, match="no manager takes joiners at 127"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x01\x00\x01",
        b"\x00\x00\x00\x05hello",
        b"\x00\x00\x00\x01\xc1",
    ],
)
def test_garbage_is_cut_off_and_the_next_joiner_served(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "SERVE_SECONDS", 0.3)
    manager = Manager()

    async def scenario() -> bytes:
        async with manager.serving():
            reader, writer = await asyncio.open_connection("127.0.0.1", manager.port, ssl=unverified_context())
            writer.write(said)
            try:
                async with asyncio.timeout(5):
                    left = await reader.read()
            except OSError:
                left = b""
            writer.transport.abort()
            await join(manager.address, manager.token, a_request(manager.token, NodeKey.create()))
        return left

    assert asyncio.run(scenario()) == b""


def test_who_dribbles_bytes_or_never_begins_tls_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "SERVE_SECONDS", 0.3)
    manager = Manager()

    async def scenario() -> None:
        async with manager.serving():
            silent, silent_writer = await asyncio.open_connection("127.0.0.1", manager.port)
            slow, slow_writer = await asyncio.open_connection("127.0.0.1", manager.port, ssl=unverified_context())
            slow_writer.write(b"\x00")
            async with asyncio.timeout(5):
                for reader in (silent, slow):
                    try:
                        assert await reader.read() == b""
                    except OSError:
                        pass  # cut off with a reset
            for writer in (silent_writer, slow_writer):
                writer.transport.abort()

    asyncio.run(scenario())


def test_one_connection_too_many_takes_the_place_of_the_one_that_was_silent_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "CONNECTIONS_LIMIT", 2)
    manager = Manager()

    async def scenario() -> None:
        async with manager.serving():
            held = [await asyncio.open_connection("127.0.0.1", manager.port) for _ in range(3)]
            async with asyncio.timeout(5):
                assert await held[0][0].read() == b""
            await join(manager.address, manager.token, a_request(manager.token, NodeKey.create()))
            for _, writer in held:
                writer.transport.abort()

    asyncio.run(scenario())


def test_a_token_is_not_in_a_repr() -> None:
    request = JoinRequest(secret="hush", request=b"")
    assert "hush" not in repr(request)


def test_tls_below_1_3_is_refused() -> None:
    manager = Manager()
    old = unverified_context()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    async def scenario() -> None:
        async with manager.serving():
            with pytest.raises((ssl.SSLError, OSError)):
                await asyncio.open_connection("127.0.0.1", manager.port, ssl=old)

    asyncio.run(scenario())
