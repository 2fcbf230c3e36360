"""A manager on its three listeners, with members of its cluster on good terms with it, and the means to attack it.

The manager and its certificates are real; everything runs in the test's own process. An `Honest` worker holds a session all
the while and an honest manager asks now and then: what an attack may not do is to be noticed by them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import msgspec
from stackd.api import codec
from stackd.api.cluster import CLUSTER_METHODS
from stackd.api.control import Caller, Empty, Failure, Method
from stackd.api.dispatch import Heartbeat, Hello, Renewal, Welcome
from stackd.api.forward import CALLER_KEY
from stackd.api.grpc_stream import ServerStream, open_session
from stackd.api.join import serve_joiners
from stackd.api.secure import TlsMaterial, peer_of, secure_channel, serve_tls
from stackd.api.server import service_handlers
from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.engine.parts import NodeDescription, Principal, PrincipalKind, Role
from stackd.manager.fellows import Fellows
from stackd.raft.address import listen
from stackd.raft.credentials import Credentials
from stackd.raft.peers import Connected
from stackd.raft.peers import Hello as RaftHello
from stackd.raft.transport import TlsPeers
from stackd.security.tls import mutual_context, unverified_context

from manager_cluster import CLUSTER, Host, Hosts, play

METHOD = {method.name: method for method in CLUSTER_METHODS}
WAIT_SECONDS = 20.0


class LogLines(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Honest:
    """A worker's session, heartbeat by heartbeat."""

    def __init__(self) -> None:
        self.answered = 0
        self.longest_wait_seconds = 0.0

    async def live(self, channel: grpc.aio.Channel, host: Host) -> None:
        loop = asyncio.get_running_loop()
        stream = await open_session(channel)
        await stream.send(Hello(node_id=host.node_id, description=NodeDescription(hostname="honest"), version="test"))
        assert isinstance(await stream.receive(), Welcome)
        while True:
            began = loop.time()
            await stream.send(Heartbeat(number=self.answered + 1))
            while not isinstance(await stream.receive(), Renewal):
                pass
            self.answered += 1
            self.longest_wait_seconds = max(self.longest_wait_seconds, loop.time() - began)
            await asyncio.sleep(0.05)


class RaftPort:
    """The manager's port between managers, with nobody behind it but the list of who was let in."""

    def __init__(self, host: Host, shown: TlsMaterial) -> None:
        contexts = {server: mutual_context(shown, server=server) for server in (False, True)}
        fellows = Fellows(lambda: host.manager.writer.view, CLUSTER)
        credentials = Credentials(to_dial=lambda: contexts[False], to_accept=lambda: contexts[True], name_of=fellows.name_of)
        listener = listen("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self.peers = TlsPeers(RaftHello(node=host.node_id, cluster=CLUSTER), listener, credentials)
        self.connected: set[str] = set()

    async def run(self) -> None:
        while True:
            self.connected |= {event.peer for event in self.peers.poll(0) if isinstance(event, Connected)}
            await asyncio.sleep(0.005)


@dataclass
class Attacked:
    """The manager under attack. Ports are on the loopback."""

    hosts: Hosts
    host: Host
    port: int
    join_port: int
    raft: RaftPort
    honest: Honest
    log: LogLines

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def material(self, host: Host) -> TlsMaterial:
        return TlsMaterial(host.certificate, host.key.pem(), self.host.manager.issuer.roots)

    async def call(self, shown: TlsMaterial, name: str, request: msgspec.Struct, named: Caller | None = None) -> str:
        """ "" if the call succeeds, else the error's code, or gRPC's word where the manager was not reached. `named` is whom
        the caller claims to call for."""
        async with secure_channel(self.address, shown) as channel:
            return await outcome(channel, METHOD[name], request, named)

    async def raft_refusal(self, shown: TlsMaterial | None, name: str) -> str:
        """What becomes of a stream to the port between managers, from a member that calls itself `name` and shows that, or
        no certificate: "" if it is let in, else why not."""
        try:
            context = unverified_context() if shown is None else mutual_context(shown, server=False)
            reader, writer = await asyncio.open_connection("127.0.0.1", self.raft.port, ssl=context)
        except (OSError, ssl.SSLError) as exc:
            return str(exc)
        frame = encode(RaftHello(node=name, cluster=CLUSTER))
        writer.write(len(frame).to_bytes(4) + frame)
        ended = asyncio.ensure_future(drained(reader))
        try:
            await self.hosts.until(lambda: ended.done() or name in self.raft.connected)
            return "" if name in self.raft.connected else self.raft.peers.last_refusal
        finally:
            ended.cancel()
            writer.transport.abort()

    async def unharmed(self) -> None:
        """The honest worker is still heard, and who comes now is served."""
        before = self.honest.answered
        await self.hosts.until(lambda: self.honest.answered >= before + 2)
        assert await self.call(self.material(self.host), "Info", Empty(), ANN) == ""


ANN = Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name="ann"))


async def outcome(channel: grpc.aio.Channel, method: Method, request: msgspec.Struct, named: Caller | None = None) -> str:
    metadata = () if named is None else ((CALLER_KEY, encode(named)),)
    try:
        await channel.unary_unary(method.path)(codec.encode(request), timeout=WAIT_SECONDS, metadata=metadata)
    except grpc.aio.AioRpcError as exc:
        trailing = dict(exc.trailing_metadata() or ())
        if codec.FAILURE_KEY in trailing:
            return codec.error_of(codec.decode(trailing[codec.FAILURE_KEY], Failure)).code
        return str(exc.code().name)
    return ""


@asynccontextmanager
async def attacked(hosts: Hosts) -> AsyncIterator[Attacked]:
    """The first manager of a cluster on its listeners, and a worker in a session with it."""
    host, honest, log = await hosts.found(), Honest(), LogLines()
    worker = await hosts.join(Role.WORKER)
    manager = host.manager
    shown = TlsMaterial(host.certificate, host.key.pem(), manager.issuer.roots)

    async def session(_requests: Any, context: Any) -> None:
        stream = ServerStream(context)
        try:
            peer = peer_of(context)
            await manager.role.serve(stream, address=peer.address, peer=manager.access.agent(peer))
        except StackdError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, error.code)
        finally:
            await stream.close()

    sessions = {"Session": grpc.stream_stream_rpc_method_handler(session)}
    handlers = (
        service_handlers(CLUSTER_METHODS, manager.cluster, manager.access.caller_of, scope=manager.access.scope),
        grpc.method_handlers_generic_handler(codec.DISPATCHER_SERVICE, sessions),
    )
    logging.getLogger("stackd").addHandler(log)
    raft = RaftPort(host, shown)
    polling = asyncio.create_task(raft.run())
    try:
        async with (
            serve_tls("127.0.0.1:0", lambda: shown, handlers) as port,
            serve_joiners("127.0.0.1", 0, lambda: shown, manager.joiners) as join_port,
            secure_channel(f"127.0.0.1:{port}", TlsMaterial(worker.certificate, worker.key.pem(), shown.roots)) as channel,
        ):
            life = asyncio.create_task(honest.live(channel, worker))
            await hosts.until(lambda: honest.answered > 0)
            yield Attacked(hosts, host, port, join_port, raft, honest, log)
            assert not life.done(), life
            life.cancel()
            await asyncio.wait([life])
    finally:
        polling.cancel()
        raft.peers.close()
        logging.getLogger("stackd").removeHandler(log)


async def drained(reader: asyncio.StreamReader) -> None:
    """Returns once the other side has ended the connection."""
    with contextlib.suppress(OSError):
        while await reader.read(1 << 16):
            pass


def attack(story: Callable[[Attacked], Awaitable[None]]) -> None:
    """Play an attack; afterwards the manager has to be as it was."""

    async def main(hosts: Hosts) -> None:
        async with attacked(hosts) as manager:
            await story(manager)
            await manager.unharmed()

    play(main)
