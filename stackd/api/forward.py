"""Calls that reach a manager which doesn't lead: carried on to the one that does, in the caller's name.

What travels is the request as it came, with the caller beside it. Only another manager's certificate may name a caller
(`forwarded_caller`), and a call that was carried once is not carried again: managers that don't agree who leads say so
instead of passing it round.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc
import grpc.aio
import msgspec

from stackd.api import codec
from stackd.api.control import Caller, Failure, Method
from stackd.api.secure import Peer
from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.base.records import decoder, encode

CALLER_KEY = "stackd-caller-bin"
"""Metadata that names whom a manager calls for."""

FORWARD_SECONDS = 60.0
"""How long a call may take on the other manager; streams have no limit."""

_decode_caller = decoder(Caller).decode


class Router(Protocol):
    """Knows where calls have to be answered."""

    def leader(self) -> grpc.aio.Channel | None:
        """A channel to the leader; None if that is this manager. Raises Unavailable("manager.no_leader")."""
        ...


def forwarded_caller(context: Any, peer: Peer) -> Caller | None:
    """Whom `peer` calls for; None if it speaks for itself. Raises Refused("api.caller.forged") if it isn't a manager."""
    named = [value for key, value in context.invocation_metadata() or () if key == CALLER_KEY]
    if not named:
        return None
    name = peer.presented.name
    if not peer.is_manager:
        raise Refused("api.caller.forged", f"{name} is no manager and can't call for somebody else")
    try:
        caller: Caller = _decode_caller(named[-1])
    except msgspec.DecodeError as exc:
        raise Refused("api.caller.forged", f"{name} names a caller that can't be read") from exc
    return caller


def is_forwarded(context: Any) -> bool:
    return any(key == CALLER_KEY for key, _ in context.invocation_metadata() or ())


async def forward(channel: grpc.aio.Channel, method: Method, payload: bytes, caller: Caller) -> bytes:
    """The leader's answer. Raises the leader's error, or Unavailable("manager.leader_lost")."""
    call = channel.unary_unary(method.path)
    try:
        answer: bytes = await call(payload, timeout=FORWARD_SECONDS, metadata=_metadata(caller))
    except grpc.aio.AioRpcError as exc:
        raise _error(exc) from exc
    return answer


async def forward_stream(channel: grpc.aio.Channel, method: Method, payload: bytes, caller: Caller) -> AsyncIterator[bytes]:
    """What the leader streams. Raises the same."""
    call = channel.unary_stream(method.path)(payload, metadata=_metadata(caller))
    try:
        async for item in call:
            yield item
    except grpc.aio.AioRpcError as exc:
        raise _error(exc) from exc
    finally:
        call.cancel()


def _metadata(caller: Caller) -> tuple[tuple[str, bytes], ...]:
    return ((CALLER_KEY, encode(caller)),)


def _error(exc: grpc.aio.AioRpcError) -> StackdError:
    for key, value in exc.trailing_metadata() or ():
        if key == codec.FAILURE_KEY:
            return codec.error_of(codec.decode(value, Failure))
    why = exc.details() or exc.code().name.lower()
    return Unavailable("manager.leader_lost", f"the leader did not answer: {why}", hint="look at the state, then try again")
