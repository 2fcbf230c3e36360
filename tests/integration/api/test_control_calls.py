"""Server and client of the Control service over a real unix socket."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stackd.api.client import Client
from stackd.api.control import (
    Caller,
    DownProgress,
    DownRequest,
    Empty,
    EventsRequest,
    ListRequest,
    LogsRequest,
    NameRequest,
    Services,
    Stacks,
    Tasks,
    VersionResponse,
)
from stackd.api.views import EventView, LogLineView
from stackd.base.errors import NotFound, Refused, StackdError, Unavailable

from control_server import WAIT_SECONDS, Daemon


class Handler:
    """Answers some calls with what a test can recognise; the others are not called here."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.callers: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def uncalled(request: Any, caller: Caller) -> Any:
            raise ValueError(f"{name} has a secret in its traceback")

        return uncalled

    async def version(self, request: Empty, caller: Caller) -> VersionResponse:
        self.callers.append(str(caller.principal))
        return VersionResponse(version="1", data_dir="/data", pid=1)

    async def stacks(self, request: Empty, caller: Caller) -> Stacks:
        return Stacks(items=())

    async def services(self, request: ListRequest, caller: Caller) -> Services:
        return Services(items=(), index=len(request.stack))

    async def tasks(self, request: ListRequest, caller: Caller) -> Tasks:
        raise Unavailable("raft.not_leader", "no leader", hint="wait")

    async def inspect(self, request: NameRequest, caller: Caller) -> Any:
        raise NotFound("service.unknown", f"no service {request.name}")

    async def remove_stack(self, request: NameRequest, caller: Caller) -> Empty:
        raise Refused("deploy.owned", "a source owns it", hint="edit stacks/shop.yaml")

    async def events(self, request: EventsRequest, caller: Caller) -> AsyncIterator[EventView]:
        for seq in range(request.limit):
            yield EventView(seq=seq, at=None, kind="k", subject="s", stack="", message="m", principal="p")

    async def logs(self, request: LogsRequest, caller: Caller) -> AsyncIterator[LogLineView]:
        try:
            while True:
                yield LogLineView(at=None, task="t", node="n", stream="stdout", line="x")
                await asyncio.sleep(0.001)
        finally:
            self.ended.append("logs")

    async def down(self, request: DownRequest, caller: Caller) -> AsyncIterator[DownProgress]:
        yield DownProgress(remaining=1)
        raise Refused("down.refused", "no")


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def daemon(tmp_path: Path, handler: Handler) -> Iterator[Daemon]:
    with Daemon(tmp_path / "stackd.sock", handler) as daemon:
        assert daemon.error is None
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(f"unix://{daemon.path}", timeout_seconds=WAIT_SECONDS) as client:
        yield client


def until(predicate: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(int(WAIT_SECONDS / 0.01)):
        if predicate():
            return
        tick.wait(0.01)
    raise AssertionError("it did not become true in time")


def test_a_call_reaches_the_handler_with_the_sockets_owner_as_caller(client: Client, handler: Handler) -> None:
    assert client.version().data_dir == "/data"
    assert client.services(ListRequest(stack="shop")).index == 4
    assert handler.callers == [f"local-user:{os.geteuid()}"]


@pytest.mark.parametrize(
    ("call", "kind", "code", "hint"),
    [
        (lambda client: client.inspect(NameRequest(name="x")), NotFound, "service.unknown", None),
        (lambda client: client.remove_stack(NameRequest(name="x")), Refused, "deploy.owned", "edit stacks/shop.yaml"),
        (lambda client: client.tasks(ListRequest()), Unavailable, "raft.not_leader", "wait"),
    ],
)
def test_the_daemons_errors_come_back_as_they_were_raised(
    client: Client, call: Callable[[Client], Any], kind: type[StackdError], code: str, hint: str | None
) -> None:
    with pytest.raises(kind) as caught:
        call(client)
    assert (caught.value.code, caught.value.hint) == (code, hint)


def test_an_unexpected_error_tells_the_client_nothing_of_the_inside(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StackdError) as caught:
        client.nodes()
    assert caught.value.code == "api.internal"
    assert "secret" not in str(caught.value)
    assert "secret" in caplog.text


def test_a_stream_ends_when_its_handler_has_no_more(client: Client) -> None:
    assert [event.seq for event in client.events(EventsRequest(limit=500))] == list(range(500))


def test_an_error_in_the_middle_of_a_stream_arrives_after_what_was_sent(client: Client) -> None:
    progress = client.down(DownRequest())
    assert next(progress).remaining == 1
    with pytest.raises(Refused):
        next(progress)


def test_a_stream_that_nobody_reads_any_more_ends_in_the_daemon(client: Client, handler: Handler) -> None:
    lines = client.logs(LogsRequest(name="web", follow=True))
    assert next(lines).line == "x"
    lines.close()
    until(lambda: handler.ended == ["logs"])


def test_only_the_owner_may_connect_and_the_file_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "stackd.sock"
    with Daemon(path, Handler()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "stackd.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Daemon(path, Handler()) as daemon, Client(f"unix://{path}") as client:
        assert daemon.error is None
        assert client.version().pid == 1


def test_a_living_daemons_socket_is_left_alone(daemon: Daemon, client: Client) -> None:
    with Daemon(daemon.path, Handler()) as second:
        assert isinstance(second.error, Refused)
        assert second.error.code == "api.socket.in_use"
    assert client.version().pid == 1


def test_a_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "stackd.sock"
    path.write_text("precious")
    with Daemon(path, Handler()) as daemon:
        assert isinstance(daemon.error, Refused)
        assert daemon.error.code == "api.socket.not_a_socket"
    assert path.read_text() == "precious"


def test_a_path_that_no_socket_can_have_says_so(tmp_path: Path) -> None:
    with Daemon(tmp_path / ("d" * 120) / "s", Handler()) as daemon:
        assert isinstance(daemon.error, Refused)
        assert daemon.error.code == "api.socket.path_too_long"


def test_no_daemon_is_unavailable_and_says_how_to_start_one(tmp_path: Path) -> None:
    with Client(f"unix://{tmp_path}/none.sock") as client, pytest.raises(Unavailable) as caught:
        client.status()
    assert caught.value.code == "api.no_daemon"
    assert "stackd up" in (caught.value.hint or "")


def test_an_address_of_another_form_is_refused() -> None:
    with pytest.raises(StackdError) as caught:
        Client("http://localhost:1")
    assert caught.value.code == "api.host.bad"
