"""What is tried with bad intentions at a manager's listeners, and what comes of it: nothing, and a line in the log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import grpc
import grpc.aio
import pytest
from stackd.api import codec, join, secure
from stackd.api.cluster import (
    BecomeManagerRequest,
    JoinTokenRequest,
    RenewRequest,
    UpdateNodeRequest,
)
from stackd.api.control import Caller, Empty
from stackd.api.dispatch import Goodbye, Hello
from stackd.api.grpc_stream import open_session
from stackd.api.join import JoinRequest
from stackd.api.secure import TlsMaterial, secure_channel
from stackd.base.errors import StackdError
from stackd.base.ids import NodeId
from stackd.base.time import HOUR, Duration, Instant
from stackd.engine.inputs import RemoveNode, UpdateNode
from stackd.engine.parts import NodeDescription, Principal, PrincipalKind, Role
from stackd.raft import transport
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey
from stackd.security.tls import unverified_context

from attacked import ANN, METHOD, Attacked, attack, drained, outcome
from manager_cluster import CLUSTER, Host

NOW = Instant(time.time_ns())
MANY = 500


def forged(node: str, role: Role = Role.MANAGER, cluster: str = CLUSTER, authority: Authority | None = None) -> TlsMaterial:
    """A certificate that says the right things, by an authority that isn't the cluster's."""
    key = NodeKey.create()
    authority = authority or Authority.create(NOW)
    certificate = authority.issue(key.request(), NodeIdentity(NodeId(node), role, cluster), NOW, Duration(HOUR))
    return TlsMaterial(certificate, key.pem(), authority.root.pem)


def expired(manager: Attacked, host: Host) -> TlsMaterial:
    """The node's own certificate, as it was until yesterday."""
    issuer = manager.host.manager.issuer
    signer, key = issuer._open(issuer.row), NodeKey.create()  # what no manager would issue
    identity = NodeIdentity(host.node_id, host.role, CLUSTER)
    certificate = signer.issue(key.request(), identity, Instant(NOW - 24 * HOUR), Duration(2 * HOUR))
    return TlsMaterial(certificate, key.pem(), issuer.roots)


async def session_refusal(manager: Attacked, shown: TlsMaterial, node: NodeId) -> str:
    """What an agent with that certificate, that says it is `node`, is told instead of a welcome."""
    async with secure_channel(manager.address, shown) as channel:
        try:
            stream = await open_session(channel)
            await stream.send(Hello(node_id=node, description=NodeDescription(hostname="x"), version="x"))
            answer = await stream.receive()
        except (StackdError, grpc.aio.AioRpcError) as exc:
            return str(exc)
        return answer.reason if isinstance(answer, Goodbye) else ""


# Certificates


@pytest.mark.parametrize("kind", ["none", "of another authority", "expired"])
def test_without_a_good_certificate_nobody_gets_as_far_as_a_call(kind: str) -> None:
    async def story(manager: Attacked) -> None:
        roots = manager.host.manager.issuer.roots
        if kind == "none":
            credentials = grpc.ssl_channel_credentials(roots)
            options = (("grpc.ssl_target_name_override", secure.MANAGER_NAME),)
            async with grpc.aio.secure_channel(manager.address, credentials, options=options) as channel:
                assert await outcome(channel, METHOD["Info"], Empty()) == "UNAVAILABLE"
            assert "certificate" in await manager.raft_refusal(None, "m2")
            return
        shown = forged(manager.host.node_id) if kind == "of another authority" else expired(manager, manager.host)
        shown = TlsMaterial(shown.certificate, shown.key, roots)
        assert await manager.call(shown, "Info", Empty()) == "UNAVAILABLE"
        assert await session_refusal(manager, shown, manager.host.node_id) != ""
        assert "not trusted" in await manager.raft_refusal(shown, "m2")

    attack(story)


def test_a_certificate_for_another_cluster_by_the_same_root_opens_nothing() -> None:
    async def story(manager: Attacked) -> None:
        issuer = manager.host.manager.issuer
        shown = forged(manager.host.node_id, cluster="cluster2", authority=issuer._open(issuer.row))
        assert await manager.call(shown, "Info", Empty(), ANN) == "api.access.denied"
        assert "another cluster" in await manager.raft_refusal(shown, manager.host.node_id)

    attack(story)


def test_a_worker_can_call_nothing_that_is_for_managers_and_is_not_heard_by_consensus() -> None:
    async def story(manager: Attacked) -> None:
        worker = await manager.hosts.join(Role.WORKER)
        shown = manager.material(worker)
        promote = UpdateNodeRequest(name=worker.node_id, role=Role.MANAGER)
        assert await manager.call(shown, "BecomeManager", BecomeManagerRequest(address="10.0.0.9:2377")) == "api.access.denied"
        assert await manager.call(shown, "JoinToken", JoinTokenRequest(role=Role.MANAGER)) == "api.access.denied"
        assert await manager.call(shown, "UpdateNode", promote) == "api.access.denied"
        assert "no manager's certificate" in await manager.raft_refusal(shown, worker.node_id)
        assert any(f"refused: who=node {worker.node_id}" in line for line in manager.log.lines)

    attack(story)


def test_who_is_no_manager_can_name_nobody_else_as_the_caller() -> None:
    async def story(manager: Attacked) -> None:
        worker = await manager.hosts.join(Role.WORKER)
        admin = Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name="0"))
        rotate = JoinTokenRequest(role=Role.MANAGER)
        assert await manager.call(manager.material(worker), "RotateToken", rotate, admin) == "api.caller.forged"
        assert any("can't call for somebody else" in line for line in manager.log.lines)

    attack(story)


def test_an_agent_can_not_speak_for_another_node() -> None:
    async def story(manager: Attacked) -> None:
        worker = await manager.hosts.join(Role.WORKER)
        said = await session_refusal(manager, manager.material(worker), manager.host.node_id)
        assert said == f"node {worker.node_id} says that it is {manager.host.node_id}"

    attack(story)


def test_a_removed_node_gets_nothing_with_the_certificate_that_it_kept() -> None:
    async def story(manager: Attacked) -> None:
        worker = await manager.hosts.join(Role.WORKER)
        shown = manager.material(worker)
        async with secure_channel(manager.address, shown) as channel:
            stream = await open_session(channel)
            await stream.send(Hello(node_id=worker.node_id, description=NodeDescription(hostname="x"), version="x"))
            await stream.receive()
            remove = RemoveNode(id=worker.node_id, principal=ANN.principal, force=True)
            await manager.host.manager.writer.submit(remove)
            async with asyncio.timeout(5):
                while not isinstance(await stream.receive(), Goodbye):
                    pass
        assert "api.access.denied" in await session_refusal(manager, shown, worker.node_id)
        renew = RenewRequest(request=NodeKey.create().request())
        assert await manager.call(shown, "Renew", renew) == "api.access.denied"

    attack(story)


def test_a_manager_that_was_demoted_or_removed_is_not_heard_by_consensus_with_its_old_certificate() -> None:
    async def story(manager: Attacked) -> None:
        hosts, writer = manager.hosts, manager.host.manager.writer
        second = await hosts.join(Role.MANAGER)
        old = manager.material(second)
        assert await manager.raft_refusal(old, second.node_id) == ""
        manager.raft.connected.clear()
        await writer.submit(UpdateNode(id=second.node_id, role=Role.WORKER, principal=ANN.principal))
        await hosts.until(lambda: hosts.voters_of(manager.host) == {manager.host.node_id})
        assert "any more" in await manager.raft_refusal(old, second.node_id)
        assert await manager.call(old, "Info", Empty(), ANN) == "api.access.denied"

    attack(story)


# Tokens


async def joined(manager: Attacked, secret: str) -> str:
    """ "" if a new node gets in with that secret, else the error's code."""
    token = manager.host.manager.issuer.token(Role.WORKER)
    request = JoinRequest(secret=secret, request=NodeKey.create().request(), hostname="new")
    try:
        await join.join(f"127.0.0.1:{manager.join_port}", token, request)
    except StackdError as error:
        return error.code
    return ""


def test_a_token_that_was_replaced_or_guessed_lets_nobody_in() -> None:
    async def story(manager: Attacked) -> None:
        control, issuer = manager.host.manager.cluster, manager.host.manager.issuer
        old = issuer.token(Role.WORKER).secret
        assert await joined(manager, old) == ""
        nodes = len(manager.host.manager.writer.view.nodes)
        await control.rotate_token(JoinTokenRequest(role=Role.WORKER), ANN)
        assert await joined(manager, old) == "cluster.token.wrong"
        assert await joined(manager, "") == "cluster.token.wrong"
        assert await joined(manager, "x" * 25) == "cluster.token.wrong"
        assert len(manager.host.manager.writer.view.nodes) == nodes
        assert sum("joiner refused" in line and "cluster.token.wrong" in line for line in manager.log.lines) == 3
        assert old not in "".join(manager.log.lines)

    attack(story)


# Bytes


async def thrown(port: int, data: bytes, *, tls: bool = False) -> None:
    """Send that, and wait until the other side has had enough."""
    context = unverified_context() if tls else None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except OSError:
        return
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()
    async with asyncio.timeout(20):
        await drained(reader)
    writer.transport.abort()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(1000),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\xff" * 1_000_000,
    ],
    ids=["HTTP", "HTTP/2 without TLS", "a handshake that is none", "a megabyte"],
)
def test_garbage_is_cut_off_on_all_ports(garbage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "SERVE_SECONDS", 1.0)

    async def story(manager: Attacked) -> None:
        await asyncio.gather(*(thrown(port, garbage) for port in (manager.port, manager.join_port, manager.raft.port)))

    attack(story)


def test_a_message_above_the_limit_ends_that_call_alone() -> None:
    async def story(manager: Attacked) -> None:
        worker = await manager.hosts.join(Role.WORKER)
        async with secure_channel(manager.address, manager.material(worker)) as channel:
            call = channel.unary_unary(METHOD["Renew"].path)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(bytes(codec.MAX_MESSAGE_BYTES + 1), timeout=20)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            renew = RenewRequest(request=NodeKey.create().request())
            assert await outcome(channel, METHOD["Renew"], renew) == ""

    attack(story)


@pytest.mark.parametrize("data", [b"\xc1", b"\x91" * 1000, b"\xdd\xff\xff\xff\xff", b"\x81\xa7request\xc6\xff\xff\xff\xff"])
def test_a_request_that_can_not_be_read_is_answered_with_an_error(data: bytes) -> None:
    async def story(manager: Attacked) -> None:
        worker = await manager.hosts.join(Role.WORKER)
        async with secure_channel(manager.address, manager.material(worker)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(METHOD["Renew"].path)(data, timeout=20)
            assert caught.value.details() == "api.message.malformed"
            stream = channel.stream_stream(f"/{codec.DISPATCHER_SERVICE}/Session")()
            await stream.write(data)
            async with asyncio.timeout(10):
                while await stream.read() is not grpc.aio.EOF:
                    pass

    attack(story)


# Numbers and patience


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def silent(port: int, number: int, data: bytes = b"") -> list[asyncio.StreamWriter]:
    """That many connections which say `data` and then nothing."""
    writers = []
    for _ in range(number):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        writers.append(writer)
    return writers


def test_hundreds_of_silent_connections_keep_nobody_out_and_cost_little() -> None:
    """Half of them have begun a handshake and leave it at that. Who comes then is served as ever, on each port."""

    async def story(manager: Attacked) -> None:
        second = await manager.hosts.join(Role.MANAGER)
        before, waited = resident_bytes(), manager.honest.longest_wait_seconds
        ports = (manager.port, manager.join_port, manager.raft.port)
        held = [await silent(port, MANY // 2, data) for port in ports for data in (b"", b"\x16\x03\x01\x02\x00\x01")]
        assert await joined(manager, manager.host.manager.issuer.token(Role.WORKER).secret) == ""
        assert await manager.call(manager.material(second), "Info", Empty(), ANN) == ""
        assert await manager.raft_refusal(manager.material(second), second.node_id) == ""
        await manager.unharmed()
        assert resident_bytes() - before < 100 << 20
        assert manager.honest.longest_wait_seconds < max(1.0, 10 * waited)
        for writer in (writer for writers in held for writer in writers):
            writer.transport.abort()

    attack(story)


def test_who_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "SERVE_SECONDS", 1.0)

    async def story(manager: Attacked) -> None:
        ports = (manager.port, manager.join_port, manager.raft.port)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(thrown(port, b"") for port in ports))
        most = max(secure.HANDSHAKE_SECONDS, transport.DEFAULT_TRANSPORT_LIMITS.opening_seconds)
        assert asyncio.get_running_loop().time() - began < most + 3

    attack(story)
