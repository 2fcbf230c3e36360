"""What the local API answers on a node that is no manager, and how calls are counted on one that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from stackd.api.control import Caller, DownRequest, Empty, ListRequest, VersionResponse
from stackd.base.errors import NotFound, StackdError
from stackd.daemon.local import Present
from stackd.daemon.metered import Metered
from stackd.daemon.node import local_caller
from stackd.daemon.role import NOT_A_MANAGER, Bystander

CALLER = local_caller(0)


def code_of(call: Callable[[], Awaitable[object]]) -> str:
    async def main() -> None:
        await call()

    with pytest.raises(StackdError) as caught:
        asyncio.run(main())
    return caught.value.code


class Daemon:
    def __init__(self) -> None:
        self.stopped = False
        version = VersionResponse(version="1", data_dir="/d", pid=7, node_id="n1")
        self.control = Bystander(NOT_A_MANAGER, version, self.stop)

    async def stop(self) -> None:
        self.stopped = True


def test_a_worker_says_who_it_is_and_refuses_everything_about_the_cluster() -> None:
    control = Daemon().control
    assert asyncio.run(control.version(Empty(), CALLER)).node_id == "n1"
    assert code_of(lambda: control.services(ListRequest(), CALLER)) == "daemon.not_a_manager"


def test_a_worker_can_be_ended_but_what_runs_on_it_is_not_its_own_to_remove() -> None:
    daemon = Daemon()

    async def down(*, remove: bool) -> list[bool]:
        return [progress.done async for progress in daemon.control.down(DownRequest(remove=remove), CALLER)]

    assert code_of(lambda: down(remove=True)) == "daemon.not_a_manager"
    assert not daemon.stopped
    assert asyncio.run(down(remove=False)) == [True]
    assert daemon.stopped


class Handler:
    """Answers a single call and a stream; each may go wrong."""

    async def version(self, request: str, caller: Caller) -> str:
        if request == "bad":
            raise NotFound("service.unknown", "no")
        return request

    async def watch(self, request: int, caller: Caller) -> AsyncIterator[int]:
        for number in range(request):
            yield number
        if not request:
            raise ZeroDivisionError


def test_every_call_is_counted_with_its_outcome() -> None:
    seen: list[tuple[str, str]] = []
    handler = Metered(Handler(), "Control", lambda method, outcome, _seconds: seen.append((method, outcome)))

    async def watch(number: int) -> list[int]:
        return [item async for item in handler.watch(number, CALLER)]

    assert asyncio.run(handler.version("good", CALLER)) == "good"
    assert code_of(lambda: handler.version("bad", CALLER)) == "service.unknown"
    assert asyncio.run(watch(3)) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(watch(0))
    assert seen == [
        ("Control.version", "ok"),
        ("Control.version", "service.unknown"),
        ("Control.watch", "ok"),
        ("Control.watch", "api.internal"),
    ]


def test_calls_go_to_whatever_answers_at_the_moment() -> None:
    handlers: list[object] = [Handler()]
    present = Present(lambda: handlers[-1])
    method = present.version
    assert asyncio.run(method("good", CALLER)) == "good"
    handlers.append(Daemon().control)
    assert asyncio.run(method(Empty(), CALLER)).node_id == "n1"
