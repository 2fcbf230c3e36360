"""gRPC over mutual TLS: how nodes and remote users reach a manager.

Both sides show a certificate signed by the cluster's root; without one there is no connection. The listener asks for its
certificate and roots anew at each handshake, so they can be replaced while connections stay up. A certificate says who
calls; what the caller may do is decided, for every call, by whoever owns the replicated state (`Authorize`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import grpc
import grpc.aio

from stackd.api import codec
from stackd.base.errors import Refused, Unavailable
from stackd.engine.parts import Role
from stackd.security.identity import NodeIdentity, Presented, read_certificate

MANAGER_NAME = "stackd-manager"
"""The name that a manager's certificate holds, whatever address it is reached at."""

CALLS_LIMIT = 4096
"""Served at once: one per agent, plus commands. More are refused."""

CONNECTIONS_LIMIT = 4096
"""Open at once, those included that have not shown a certificate yet; more are closed at once. A connection that stays silent
costs up to 50 KiB until its handshake is given up: this bounds what strangers can make us use."""

HANDSHAKE_SECONDS = 5
"""How long a certificate may take to be shown. Hundreds of agents that come back at once have to wait for each other."""

KEEPALIVE_MS = 10_000
"""A connection whose other side has silently gone is noticed after this much and `KEEPALIVE_TIMEOUT_MS` more."""
KEEPALIVE_TIMEOUT_MS = 5_000

RECONNECT_FIRST_MS = 100
RECONNECT_MOST_MS = 1_000
"""How long a connection that couldn't be made rests before it is tried again: gRPC's own second to two minutes would have a
leader that is back, at the same address, be out of reach for those who carry calls on to it."""

STOP_SECONDS = 1.0

CERTIFICATES_KNOWN = 1024
"""Certificates whose content is remembered. Those who call again and again are few, and to read theirs anew was a fifth of
what a small call that is carried on costs the leader."""

_LIMITS = (
    ("grpc.max_receive_message_length", codec.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", codec.MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
)

_SERVER_OPTIONS = (
    *_LIMITS,
    ("grpc.so_reuseport", 0),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_LIMIT),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
)

CLIENT_OPTIONS = (
    *_LIMITS,
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MOST_MS),
)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What one side shows and trusts, in PEM form. `certificate` may have intermediates behind it."""

    certificate: bytes
    key: bytes
    roots: bytes

    def __repr__(self) -> str:
        return "TlsMaterial()"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a call, as the certificate says."""

    presented: Presented
    address: str

    @property
    def is_manager(self) -> bool:
        identity = self.presented.identity
        return isinstance(identity, NodeIdentity) and identity.role is Role.MANAGER


def peer_of(context: Any) -> Peer:
    """The other end of a call on a listener of `serve_tls`. Raises StackdError("security.certificate.bad") if its
    certificate names no node."""
    return Peer(_content_of(context.auth_context()["x509_pem_cert"][0]), _address(context.peer()))


_content_of = lru_cache(CERTIFICATES_KNOWN)(read_certificate)
"""What is written in a certificate never changes; whether it counts is asked of the state on each call."""


@asynccontextmanager
async def serve_tls(address: str, material: Callable[[], TlsMaterial], handlers: Sequence[Any]) -> AsyncIterator[int]:
    """Serve inside the block to whoever has a certificate; yields the port. `address` is `host:port` or `[v6]:port`.
    Raises Refused("api.listen.failed")."""
    server = grpc.aio.server(options=_SERVER_OPTIONS, maximum_concurrent_rpcs=CALLS_LIMIT)
    server.add_generic_rpc_handlers(tuple(handlers))
    try:
        port = server.add_secure_port(address, _server_credentials(material))
    except RuntimeError as exc:
        raise Refused("api.listen.failed", f"can't listen on {address}: {exc}", hint="is another daemon there?") from exc
    await server.start()
    try:
        yield int(port)
    finally:
        await server.stop(STOP_SECONDS)


def secure_channel(address: str, material: TlsMaterial, server_name: str = MANAGER_NAME) -> grpc.aio.Channel:
    """A channel to the manager at `address`, whose certificate must hold `server_name`."""
    options = (*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(address, client_credentials(material), options=options)


def client_credentials(material: TlsMaterial) -> Any:
    return grpc.ssl_channel_credentials(material.roots, material.key, material.certificate)


def unreachable(address: str, error: Any) -> Unavailable:
    """What became of a call that never arrived."""
    return Unavailable("api.manager.unreachable", f"the manager at {address} does not answer: {error.details()}")


def _server_credentials(material: Callable[[], TlsMaterial]) -> Any:
    present = material()

    def newest() -> Any:
        """Called at every handshake; None leaves things as they are."""
        nonlocal present
        now = material()
        if now == present:
            return None
        present = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(_configuration(present), newest, require_client_authentication=True)


def _configuration(material: TlsMaterial) -> Any:
    pair = (material.key, material.certificate)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=material.roots)


def _address(peer: str) -> str:
    """gRPC's word for the other end (`ipv4:10.0.0.2:41234`, `ipv6:%5B::1%5D:41234`) without kind, escapes and port."""
    host = peer.partition(":")[2].replace("%5B", "[").replace("%5D", "]")
    return host.rpartition(":")[0].strip("[]")
