"""How requests, responses and errors are written for the wire. Knows no transport.

Payloads are MessagePack made by msgspec: control messages as maps, so that either side may be newer, records as arrays.
An error travels as a `Failure` and comes out on the other side as the class it was.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from stackd.api.control import Failure
from stackd.base.errors import NotFound, Position, Refused, StackdError, Unavailable

CONTROL_SERVICE = "stackd.v1.Control"
DISPATCHER_SERVICE = "stackd.v1.Dispatcher"

FAILURE_KEY = "stackd-failure-bin"
"""Trailing metadata under which a `Failure` travels; gRPC carries bytes only under names that end like this."""

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""The largest message on the wire: a whole source of stacks with their configs fits; anything larger is refused early."""

TEXT_LIMIT = 2000
"""Characters kept of an error's message and hint: failures travel in metadata, which HTTP/2 peers limit to 8 KiB."""

_KINDS: dict[str, type[StackdError]] = {
    "refused": Refused,
    "not_found": NotFound,
    "unavailable": Unavailable,
    "error": StackdError,
}

encode = msgspec.msgpack.Encoder().encode


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def decode(data: bytes, kind: Any) -> Any:
    """A message of type `kind`; raises StackdError("api.message.malformed") on anything else."""
    try:
        return _decoder(kind).decode(data)
    except msgspec.DecodeError as exc:
        raise StackdError("api.message.malformed", f"the message can't be understood: {exc}") from exc


def failure_of(error: StackdError) -> Failure:
    """An error as it travels."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(error, cls))
    position = error.position or Position("")
    return Failure(
        kind=kind,
        code=error.code,
        message=error.message[:TEXT_LIMIT],
        hint=(error.hint or "")[:TEXT_LIMIT],
        file=position.file[:TEXT_LIMIT],
        line=position.line,
        column=position.column,
    )


def error_of(failure: Failure) -> StackdError:
    """The error that the other side raised; a kind this side doesn't know yet is a plain StackdError."""
    kind = _KINDS.get(failure.kind, StackdError)
    error = kind(failure.code, failure.message, hint=failure.hint or None)
    if failure.file:
        error.position = Position(failure.file, failure.line, failure.column)
    return error
