"""What the local API answers on a node that is no manager."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from stackd.api.control import Caller, DownRequest, Empty, ListRequest, VersionResponse
from stackd.base.errors import StackdError
from stackd.daemon.local import Present
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
    async def version(self, request: str, caller: Caller) -> str:
        return request


def test_calls_go_to_whatever_answers_at_the_moment() -> None:
    handlers: list[object] = [Handler()]
    present = Present(lambda: handlers[-1])
    method = present.version
    assert asyncio.run(method("good", CALLER)) == "good"
    handlers.append(Daemon().control)
    assert asyncio.run(method(Empty(), CALLER)).node_id == "n1"
