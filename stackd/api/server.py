"""The daemon's side of `stackd.v1.Control`: a gRPC server whose methods are the METHODS table.

Handlers know no gRPC. A StackdError travels to the client as it is; any other exception is logged here in full and
reaches the client only as `api.internal`. On a unix socket the file's mode is the authentication: only its owner and root
can connect.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from stackd.api import codec
from stackd.api.control import METHODS, Caller, ControlHandler, Failure, Method
from stackd.api.forward import Router, forward, forward_stream, is_forwarded
from stackd.api.metering import LEADER, Called, Metered
from stackd.base.errors import NotFound, Refused, StackdError, Unavailable

log = logging.getLogger(__name__)

SOCKET_MODE = 0o600
SOCKET_PATH_BYTES = 107
"""What the kernel takes as a unix socket's path (unix(7)), without the closing zero."""

STOP_SECONDS = 1.0
"""How long calls under way may take to end when the server stops; a log that is being followed never would."""

CALLS_LIMIT = 256
"""Calls served at once: each follower of logs or events holds one."""

OPTIONS = (
    ("grpc.max_receive_message_length", codec.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", codec.MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
)

_INTERNAL = Failure(kind="error", code="api.internal", message="internal error; the daemon's log has the details")


@dataclass(frozen=True, slots=True)
class LocalService:
    """A table of methods with what implements it, and a router if some of it may have to be carried on."""

    methods: Sequence[Method]
    handler: object
    router: Router | None = None


@asynccontextmanager
async def serve_unix(
    path: Path,
    handler: ControlHandler,
    caller_of: Callable[[int], Caller],
    more: Sequence[LocalService] = (),
    router: Router | None = None,
    called: Called | None = None,
) -> AsyncIterator[None]:
    """Serve on a unix socket inside the block, Control and whatever `more` there is. `caller_of` turns a user id into a
    caller: it is the socket's owner. With a `router`, what of Control is not for this manager is carried on. `called` is told
    of each call.

    A socket file left by a dead daemon is replaced. Raises Refused with api.socket.in_use if a daemon listens there,
    api.socket.not_a_socket if the file is something else, api.socket.path_too_long, or api.socket.unusable."""
    _make_room(path)
    caller = caller_of(os.geteuid())
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=CALLS_LIMIT)
    services = (LocalService(METHODS, handler, router), *more)
    server.add_generic_rpc_handlers(
        tuple(
            service_handlers(one.methods, one.handler, lambda _context, _method: caller, one.router, called=called)
            for one in services
        )
    )
    _bind(server, path)
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)
        path.unlink(missing_ok=True)


CallerOf = Callable[[Any, Method], Caller]
"""Who makes the call with this gRPC context; raises StackdError if it may not call the method."""


StreamScope = Callable[[Caller, Method], AbstractAsyncContextManager[None]]
"""What a stream that somebody is given lives in; it ends the stream when the caller may have it no longer."""


def control_handlers(
    handler: ControlHandler,
    caller_of: CallerOf,
    router: Router | None = None,
    scope: StreamScope | None = None,
    called: Called | None = None,
) -> Any:
    """gRPC's generic handler for every method of Control. With a `router`, what is not for this manager is carried on; `called`
    is told of each call."""
    return service_handlers(METHODS, handler, caller_of, router, scope, called)


def service_handlers(
    methods: Sequence[Method],
    handler: object,
    caller_of: CallerOf,
    router: Router | None = None,
    scope: StreamScope | None = None,
    called: Called | None = None,
) -> Any:
    """The same for another table, whose `handler` has a coroutine (or async generator) for each method."""
    (service,) = {method.service for method in methods}
    serving = _Serving(caller_of, router, scope or _unbounded, called)
    rpcs = {method.name: _rpc(method, handler, serving) for method in methods}
    return grpc.method_handlers_generic_handler(f"stackd.v1.{service}", rpcs)


@asynccontextmanager
async def _unbounded(_caller: Caller, _method: Method) -> AsyncIterator[None]:
    yield


def handler_name(method: Method) -> str:
    """`RemoveService` is implemented by `remove_service`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()


@dataclass(frozen=True, slots=True)
class _Serving:
    """How a listener serves the methods of a table."""

    caller_of: CallerOf
    router: Router | None
    scope: StreamScope
    called: Called | None


def _rpc(method: Method, handler: object, serving: _Serving) -> Any:
    implementation = getattr(handler, handler_name(method))

    async def unary(payload: bytes, context: Any) -> bytes:
        try:
            with Metered(method, serving.called) as call:
                caller = serving.caller_of(context, method)
                if (leader := _elsewhere(method, context, serving.router)) is not None:
                    call.answered = LEADER
                    return await forward(leader, method, payload, caller)
                request = codec.decode(payload, method.request)
                return codec.encode(await implementation(request, caller))
        except Exception as exc:
            failure = _failure(method, exc)
        await _abort(context, failure)
        raise AssertionError("abort raises")

    async def stream(payload: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            with Metered(method, serving.called) as call:
                caller = serving.caller_of(context, method)
                leader = _elsewhere(method, context, serving.router)
                async with serving.scope(caller, method):
                    if leader is not None:
                        call.answered = LEADER
                        async for carried in forward_stream(leader, method, payload, caller):
                            yield carried
                        return
                    request = codec.decode(payload, method.request)
                    async for item in implementation(request, caller):
                        yield codec.encode(item)
            return
        except Exception as exc:
            failure = _failure(method, exc)
        await _abort(context, failure)

    if method.stream:
        return grpc.unary_stream_rpc_method_handler(stream)
    return grpc.unary_unary_rpc_method_handler(unary)


def _elsewhere(method: Method, context: Any, router: Router | None) -> grpc.aio.Channel | None:
    """The manager to carry a call to; None if it is answered here. Raises Unavailable if nobody leads, as far as we know."""
    if router is None or method.local:
        return None
    leader = router.leader()
    if leader is not None and is_forwarded(context):
        raise Unavailable("manager.no_leader", "the managers don't agree who leads", hint="try again in a moment")
    return leader


def _failure(method: Method, exc: Exception) -> tuple[grpc.StatusCode, Failure]:
    """What the client is told."""
    if not isinstance(exc, StackdError):
        log.error("call broke: method=%s", method.name, exc_info=exc)
        return grpc.StatusCode.INTERNAL, _INTERNAL
    return _status_code(exc), codec.failure_of(exc)


def _status_code(error: StackdError) -> grpc.StatusCode:
    match error:
        case Refused():
            return grpc.StatusCode.FAILED_PRECONDITION
        case NotFound():
            return grpc.StatusCode.NOT_FOUND
        case Unavailable():
            return grpc.StatusCode.UNAVAILABLE
        case _:
            return grpc.StatusCode.INVALID_ARGUMENT


async def _abort(context: Any, failure: tuple[grpc.StatusCode, Failure]) -> None:
    code, content = failure
    await context.abort(code, content.code, ((codec.FAILURE_KEY, codec.encode(content)),))


def _make_room(path: Path) -> None:
    """See that a socket can be made at `path`, taking away one that nobody listens on."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise Refused(
            "api.socket.path_too_long",
            f"the socket's path has more than {SOCKET_PATH_BYTES} bytes: {path}",
            hint="choose a data directory with a shorter path",
        )
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Refused("api.socket.not_a_socket", f"{path} is in the way: it is not a socket")
    if _is_served(path):
        raise Refused("api.socket.in_use", f"a daemon already listens on {path}")
    path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # somebody is there, too busy to answer
        return True


def _bind(server: Any, path: Path) -> None:
    """Bind with the final mode from the first moment: the file must never be open to others, not even briefly."""
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as exc:
        raise Refused("api.socket.unusable", f"can't listen on {path}: {exc}") from exc
    finally:
        os.umask(before)
