"""How a node gets into a cluster that it has no certificate of, or none that is still good: a small protocol over TLS.

    1. "What is your root?"                  over a connection that nobody has verified; the answer must have the token's digest
    2. "Here is a token and a key."          over a connection verified with that root; the answer is a certificate
    3. "Here is what has expired."           in place of both, by a node that was off for too long and knows the root

So nothing secret is said before the cluster has proved to be the one that the token names, and whoever stands in between
learns nothing. This is not gRPC, whose library can neither leave the server unverified nor the client without certificate.
A message is four bytes of length and MessagePack. Every connection asks one question; size, time and number are limited.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec

from stackd.api import codec
from stackd.api.control import Failure
from stackd.api.secure import TlsMaterial
from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.security.authority import Root
from stackd.security.identity import AUTHORITY_NAME
from stackd.security.tls import client_context, server_context, unverified_context
from stackd.security.tokens import JoinToken

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 1024
"""Roots, requests and certificates are a few KiB."""

CONNECTIONS_LIMIT = 64
"""Served at once. One more takes the place of the one that has been here longest: nobody can keep joiners out by doing
nothing, since who means it has its answer long before so many have come."""

SERVE_SECONDS = 10.0
"""How long one connection may take from handshake to answer: whoever dribbles bytes is cut off."""

ASK_SECONDS = 15.0
"""How long the joiner waits for one answer."""

REDIRECTS_LIMIT = 3

_LENGTH_BYTES = 4


class RootRequest(msgspec.Struct, frozen=True, kw_only=True, tag="root"):
    pass


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, tag="join"):
    """`secret` is the token's second half, `request` a certificate request in PEM form. `address` is where the node can be
    reached, "" for the address it comes from; `peer` is filled in by the listener."""

    secret: str
    request: bytes
    hostname: str = ""
    address: str = ""
    availability: str = "active"
    peer: str = ""

    def __repr__(self) -> str:
        return f"JoinRequest(hostname={self.hostname!r}, address={self.address!r})"


class RenewalRequest(msgspec.Struct, frozen=True, kw_only=True, tag="renew"):
    """A member whose `certificate` has expired. `request` is made with the same key, which proves that it is the node."""

    certificate: bytes
    request: bytes


class RootAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="root-is"):
    """All roots that nodes trust now, the one that tokens name first."""

    roots: bytes


class JoinAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="joined"):
    """The node is in. `managers` are the addresses at which managers serve nodes, `peer` is the one at which this manager sees
    the node."""

    node_id: str
    cluster: str
    certificate: bytes
    roots: bytes
    managers: tuple[str, ...]
    peer: str = ""


class Redirect(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """Another manager leads; it takes joiners at this address."""

    address: str


class Denied(msgspec.Struct, frozen=True, kw_only=True, tag="denied"):
    failure: Failure


Question = RootRequest | JoinRequest | RenewalRequest
Answer = RootAnswer | JoinAnswer | Redirect | Denied

_encode = msgspec.msgpack.Encoder().encode
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class JoinHandler(Protocol):
    """What a manager does for joiners."""

    def roots(self) -> bytes: ...

    async def join(self, request: JoinRequest) -> JoinAnswer | Redirect:
        """Raises StackdError: Refused("cluster.token.wrong") above all."""
        ...

    async def renew(self, request: RenewalRequest) -> JoinAnswer | Redirect:
        """Raises StackdError: Refused("api.access.denied") above all."""
        ...


@asynccontextmanager
async def serve_joiners(host: str, port: int, material: Callable[[], TlsMaterial], handler: JoinHandler) -> AsyncIterator[int]:
    """Serve inside the block; yields the port. Raises Refused("api.listen.failed")."""
    listener = _Listener(handler, server_context(material))
    try:
        server = await asyncio.start_server(listener.connected, host, port, backlog=CONNECTIONS_LIMIT)
    except OSError as exc:
        raise Refused("api.listen.failed", f"can't listen on {host}:{port}: {exc}", hint="is another daemon there?") from exc
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        listener.end()


class _Listener:
    """Connections are counted from the first moment, before TLS: asyncio's own listener would let any number of them be
    silent in their handshake."""

    def __init__(self, handler: JoinHandler, context: ssl.SSLContext) -> None:
        self._handler = handler
        self._context = context
        self._serving: dict[asyncio.Task[Any], None] = {}
        """In the order in which they came."""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._serving) >= CONNECTIONS_LIMIT:
            longest = next(iter(self._serving))
            del self._serving[longest]
            longest.cancel()
        self._serving[task] = None
        peer = _peer(writer)
        try:
            async with asyncio.timeout(SERVE_SECONDS):
                await writer.start_tls(self._context)
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, StackdError) as exc:
            log.info("joiner cut off: peer=%s reason=%s", peer, str(exc) or type(exc).__name__)
        except asyncio.CancelledError:
            log.info("joiner cut off: peer=%s reason=another one came", peer)
        finally:
            self._serving.pop(task, None)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = _questions.decode(await _receive(reader))
        except msgspec.DecodeError as exc:
            raise StackdError("api.message.malformed", f"no question: {exc}") from exc
        await _send(writer, await self._answer(question, _peer(writer)))
        await reader.read(1)  # the other side closes once it has the answer

    async def _answer(self, question: Question, peer: str) -> Answer:
        if isinstance(question, RootRequest):
            return RootAnswer(roots=self._handler.roots())
        try:
            if isinstance(question, RenewalRequest):
                return await self._handler.renew(question)
            return await self._handler.join(msgspec.structs.replace(question, peer=peer))
        except StackdError as error:
            log.warning("joiner refused: peer=%s code=%s", peer, error.code)
            return Denied(failure=codec.failure_of(error))

    def end(self) -> None:
        for task in self._serving:
            task.cancel()


async def join(address: str, token: JoinToken, request: JoinRequest) -> JoinAnswer:
    """Join the cluster that `token` names, whose manager listens for joiners at `address` (`host:port`).

    Raises Unavailable("api.manager.unreachable"), StackdError("security.root.other") if another cluster answers, or what
    the manager says."""
    return await _ask_leader(address, request, lambda at: _verified_roots(at, token))


async def renew_expired(address: str, roots: bytes, request: RenewalRequest) -> JoinAnswer:
    """The node's place in the cluster again, whose roots it knows. Raises the same."""

    async def known(_address: str) -> bytes:
        return roots

    return await _ask_leader(address, request, known)


async def _ask_leader(address: str, request: Question, roots_at: Callable[[str], Awaitable[bytes]]) -> JoinAnswer:
    """The answer of the manager that leads, wherever `address` sends us."""
    for _ in range(REDIRECTS_LIMIT):
        answer = await _ask(address, client_context(await roots_at(address)), AUTHORITY_NAME, request)
        match answer:
            case JoinAnswer():
                return answer
            case Redirect():
                address = answer.address
            case Denied():
                raise codec.error_of(answer.failure)
            case RootAnswer():
                raise StackdError("api.message.malformed", f"{address} answered another question")
    raise Unavailable("api.manager.unreachable", "the managers don't agree who leads", hint="try again in a moment")


async def _verified_roots(address: str, token: JoinToken) -> bytes:
    """The cluster's roots, if the token's digest is that of one of them."""
    answer = await _ask(address, unverified_context(), AUTHORITY_NAME, RootRequest())
    if not isinstance(answer, RootAnswer):
        raise StackdError("api.message.malformed", f"{address} answered another question")
    return Root.trusted_by_digest(answer.roots, token.digest).pem


async def _ask(address: str, context: ssl.SSLContext, server_name: str, question: Question) -> Answer:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=context, server_hostname=server_name
            )
            try:
                await _send(writer, question)
                return _answers.decode(await _receive(reader))
            finally:
                writer.transport.abort()
    except ssl.SSLCertVerificationError as exc:
        why = f"the manager at {address} can't prove that it belongs to the cluster: {exc.verify_message}"
        raise StackdError("security.root.other", why, hint="check the address") from exc
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
        why = str(exc) or type(exc).__name__
        raise Unavailable(
            "api.manager.unreachable", f"no manager takes joiners at {address}: {why}", hint="check address, port and firewall"
        ) from exc
    except (ValueError, msgspec.DecodeError) as exc:
        raise StackdError("api.message.malformed", f"{address} does not speak our language: {exc}") from exc


async def _receive(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
    if length > MAX_MESSAGE_BYTES:
        raise StackdError("api.message.too_large", f"a message of {length} bytes is above the limit of {MAX_MESSAGE_BYTES}")
    return await reader.readexactly(length)


async def _send(writer: asyncio.StreamWriter, message: Question | Answer) -> None:
    data = _encode(message)
    writer.write(len(data).to_bytes(_LENGTH_BYTES) + data)
    await writer.drain()


def _peer(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return str(name[0]) if name else ""
