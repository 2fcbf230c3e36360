"""The agent's stream as a bidirectional gRPC call, for both ends.

The same contract as `memory_pair`: whole messages, in order, once, or StreamClosed. What gRPC says about a broken
connection is only the reason in that error. Cancelling a `receive` ends the call; sessions do so only when they end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from stackd.api import codec
from stackd.api.dispatch import FromAgent, FromManager
from stackd.api.stream import Stream, StreamClosed
from stackd.base.errors import Unavailable

CLOSE_SECONDS = 1.0
"""How long the other side may take to end its half of a call that is being closed."""

In = TypeVar("In")
Out = TypeVar("Out")

_METHOD = "Session"

Serve = Callable[[Stream[FromAgent, FromManager], Any], Awaitable[None]]
"""Holds one session, given the stream and gRPC's context of the call, which says who is at the other end (`secure.peer_of`).
The call ends when it returns."""


class _CallStream(Generic[In, Out]):
    """What both ends share: encoding, one writer at a time, and the translation of gRPC's errors."""

    def __init__(self, call: Any, incoming: Any) -> None:
        self._call = call
        self._incoming = incoming
        self._writing = asyncio.Lock()
        self._closed = False

    async def receive(self) -> In:
        if self._closed:
            raise StreamClosed
        try:
            payload = await self._call.read()
        except (grpc.RpcError, asyncio.InvalidStateError) as exc:
            raise StreamClosed(f"the connection broke: {_why(exc)}") from exc
        if payload is grpc.aio.EOF:
            raise StreamClosed
        message: In = codec.decode(payload, self._incoming)
        return message

    async def send(self, message: Out) -> None:
        async with self._writing:
            if self._closed:
                raise StreamClosed
            try:
                await self._call.write(codec.encode(message))
            except (grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError) as exc:
                raise StreamClosed(f"the connection broke: {_why(exc)}") from exc
            except asyncio.CancelledError:
                self._closed = True  # the message is under way for gRPC, which takes no other one before it has gone out
                raise


class ServerStream(_CallStream[FromAgent, FromManager]):
    """The manager's end. The call itself ends when its handler returns."""

    def __init__(self, context: Any) -> None:
        super().__init__(context, FromAgent)

    async def close(self) -> None:
        self._closed = True


class ClientStream(_CallStream[FromManager, FromAgent]):
    """The agent's end."""

    def __init__(self, call: Any) -> None:
        super().__init__(call, FromManager)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                async with self._writing:
                    await self._call.done_writing()
                await self._call.code()
        except (grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
            pass  # it has ended already, or the other side doesn't answer
        self._call.cancel()


def dispatcher_handlers(serve: Serve) -> Any:
    """gRPC's generic handler for `stackd.v1.Dispatcher`."""

    async def session(_requests: Any, context: Any) -> None:
        stream = ServerStream(context)
        try:
            await serve(stream, context)
        finally:
            await stream.close()

    methods = {_METHOD: grpc.stream_stream_rpc_method_handler(session)}
    return grpc.method_handlers_generic_handler(codec.DISPATCHER_SERVICE, methods)


async def open_session(channel: grpc.aio.Channel) -> ClientStream:
    """Open the agent's stream; raises Unavailable("api.manager.unreachable")."""
    call = channel.stream_stream(f"/{codec.DISPATCHER_SERVICE}/{_METHOD}")()
    try:
        await call.wait_for_connection()
    except grpc.RpcError as exc:
        raise Unavailable("api.manager.unreachable", f"no manager answers: {_why(exc)}") from exc
    return ClientStream(call)


def _why(exc: BaseException) -> str:
    """What gRPC says, in one line."""
    return str(exc.details()) if isinstance(exc, grpc.aio.AioRpcError) else str(exc)
