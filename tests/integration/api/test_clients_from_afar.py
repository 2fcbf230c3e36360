"""The blocking client over TLS: a person's certificate, and managers of which some don't answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from stackd.api import remote
from stackd.api.client import Client
from stackd.api.control import Caller, Empty, Nodes
from stackd.api.secure import TlsMaterial, peer_of, serve_tls
from stackd.api.server import control_handlers
from stackd.base.errors import Unavailable
from stackd.base.time import HOUR, Duration, Instant
from stackd.engine.parts import Principal, PrincipalKind, Role, UserRole
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey, UserIdentity

from cli_control import a_node
from manager_cluster import SystemClock

WAIT_SECONDS = 10.0


class Handler:
    def __init__(self) -> None:
        self.callers: list[Caller] = []

    async def nodes(self, request: Empty, caller: Caller) -> Nodes:
        self.callers.append(caller)
        return Nodes(items=(a_node(),))

    def __getattr__(self, name: str) -> Any:
        async def uncalled(request: Any, caller: Caller) -> Any:
            raise AssertionError(f"{name} is not called here")

        return uncalled


class Root:
    """An authority, and what it hands out."""

    def __init__(self) -> None:
        self.now = SystemClock().now()
        self._signer = Authority.create(Instant(self.now))

    def material(self, identity: NodeIdentity | UserIdentity) -> TlsMaterial:
        key = NodeKey.create()
        certificate = self._signer.issue(key.request(), identity, self.now, Duration(HOUR))
        return TlsMaterial(certificate, key.pem(), self._signer.root.pem)

    def user(self, name: str) -> TlsMaterial:
        return self.material(UserIdentity(name, UserRole.VIEWER, "cluster1"))


def by_certificate(context: Any, _method: Any) -> Caller:
    identity = peer_of(context).presented.identity
    assert isinstance(identity, UserIdentity)
    return Caller(principal=Principal(kind=PrincipalKind.CERTIFICATE, name=identity.name))


@pytest.fixture(scope="module")
def root() -> Root:
    return Root()


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def manager(root: Root, handler: Handler) -> Iterator[str]:
    """The address of a manager that serves in a thread of its own, since the client blocks."""
    from stackd.base.ids import NodeId

    material = root.material(NodeIdentity(NodeId("one"), Role.MANAGER, "cluster1"))
    started, found = threading.Event(), []
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with serve_tls("127.0.0.1:0", lambda: material, [control_handlers(handler, by_certificate)]) as port:
            found.append(f"tcp://127.0.0.1:{port}")
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(WAIT_SECONDS)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
        loop.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_a_person_is_known_by_the_certificate(root: Root, manager: str, handler: Handler) -> None:
    with Client(manager, material=root.user("ann")) as client:
        assert client.nodes().items[0].hostname == "east"
    assert [str(caller.principal) for caller in handler.callers] == ["certificate:ann"]


def test_the_next_manager_is_asked_if_one_does_not_answer(
    root: Root, manager: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TRY_SECONDS", 0.3)
    with Client(silent, manager, material=root.user("ann")) as client:
        assert client.nodes().items


def test_a_certificate_of_another_cluster_reaches_nobody(root: Root, manager: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TRY_SECONDS", 0.3)
    with pytest.raises(Unavailable) as refused:
        Client(manager, material=Root().user("ann"))
    assert refused.value.code == "api.manager.unreachable"
    assert manager.removeprefix("tcp://") in refused.value.message
