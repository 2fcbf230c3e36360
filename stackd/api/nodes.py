"""Nodes as callers of managers: the stream of an agent, and single questions that a node asks in its own name.

Each has a connection of its own, made with the certificate that the node has at that moment; so a certificate that was renewed
is used from the next call on, and what is under way goes on with the one before. Which manager to ask is for the caller.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import msgspec

from stackd.api import codec
from stackd.api.control import Failure, Method
from stackd.api.dispatch import FromAgent, FromManager
from stackd.api.grpc_stream import ClientStream, open_session
from stackd.api.secure import TlsMaterial, secure_channel, unreachable
from stackd.base.errors import Unavailable

CONNECT_SECONDS = 3.0
"""How long an agent tries one manager before it goes on to the next: longer than any handshake, shorter than anyone's grace."""

ASK_SECONDS = 30.0
"""How long a manager may take for an answer."""


class NodeStream:
    """An agent's stream with the connection that it is alone on."""

    def __init__(self, channel: grpc.aio.Channel, stream: ClientStream) -> None:
        self._channel = channel
        self._stream = stream

    async def receive(self) -> FromManager:
        return await self._stream.receive()

    async def send(self, message: FromAgent) -> None:
        await self._stream.send(message)

    async def close(self) -> None:
        await self._stream.close()
        await self._channel.close()


async def open_node_stream(address: str, material: TlsMaterial) -> NodeStream:
    """A stream to the dispatcher of the manager at `address`. Raises Unavailable("api.manager.unreachable")."""
    channel = secure_channel(address, material)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return NodeStream(channel, await open_session(channel))
    except TimeoutError:
        await channel.close()
        raise Unavailable("api.manager.unreachable", f"the manager at {address} does not answer") from None
    except BaseException:
        await channel.close()
        raise


async def ask(address: str, material: TlsMaterial, method: Method, request: msgspec.Struct) -> Any:
    """What the manager at `address` answers, wherever the leader is. Raises the StackdError that it says, or
    Unavailable("api.manager.unreachable")."""
    async with secure_channel(address, material) as channel:
        try:
            answer = await channel.unary_unary(method.path)(codec.encode(request), timeout=ASK_SECONDS)
        except grpc.aio.AioRpcError as exc:
            for key, value in exc.trailing_metadata() or ():
                if key == codec.FAILURE_KEY:
                    raise codec.error_of(codec.decode(value, Failure)) from None
            raise unreachable(address, exc) from exc
    return codec.decode(answer, method.response)
