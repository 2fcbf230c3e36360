"""Simulated hosts: no kinder than real ones, and what is watched on them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from stackd.agent.executor.base import TaskContext, TaskEnded
from stackd.base.ids import ServiceId, TaskId
from stackd.simulation.executor import FakeController, FakeExecutor
from stackd.simulation.fences import EXCUSED_SECONDS, Fences
from stackd.simulation.host import Behaviour, FakeHost, FencedSlot
from stackd.simulation.loop import VirtualClock, run

from agent_builders import a_host, a_spec, an_assignment

SLOT = FencedSlot(ServiceId("s1"), 1)


def scenario(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main()

    run(whole())


def a_controller(host: FakeHost, image: str = "img:v1") -> FakeController:
    spec = a_spec(image)
    return FakeController(host, TaskContext(assignment=an_assignment(spec=spec), spec=spec, files={}), VirtualClock())


async def started(host: FakeHost, image: str = "img:v1") -> FakeController:
    await FakeExecutor(host, VirtualClock()).start()
    controller = a_controller(host, image)
    await controller.prepare()
    await controller.start()
    return controller


def test_what_has_ended_is_started_once_more_by_whoever_has_not_looked() -> None:
    async def main() -> None:
        host = a_host()
        controller = await started(host)
        host.reboot()
        await controller.start()
        looking = a_controller(host)
        await looking.adopt()
        await looking.start()
        assert host.starts[TaskId("t1")] == 1
        await a_controller(host).start()
        assert host.starts[TaskId("t1")] == 2
        assert host.containers[TaskId("t1")].running

    scenario(main)


def test_a_container_that_was_started_once_more_ends_with_its_own_process() -> None:
    async def main() -> None:
        host = a_host()
        await started(host, "img:exits-3-after-10s")
        await asyncio.sleep(6)
        host.reboot()
        await a_controller(host, "img:exits-3-after-10s").start()
        await asyncio.sleep(6)
        assert host.containers[TaskId("t1")].running
        await asyncio.sleep(6)
        assert host.containers[TaskId("t1")].exit_code == 3

    scenario(main)


def test_an_image_with_a_healthcheck_runs_before_it_is_healthy_and_may_end_before() -> None:
    async def main() -> None:
        host = a_host()
        starting = asyncio.ensure_future(started(host, "img:starts-in-30s"))
        await asyncio.sleep(5)
        assert host.containers[TaskId("t1")].running
        assert not starting.done()
        host.end(host.containers[TaskId("t1")], 1)
        with pytest.raises(TaskEnded) as ended:
            await starting
        assert ended.value.exit.code == 1

    scenario(main)


async def two_hosts() -> tuple[FakeHost, FakeHost, Fences]:
    """Two hosts that have had their agents for long enough, on the first of which the slot runs."""
    one, other = (FakeHost(name, random.Random(name)) for name in ("one", "other"))
    fences = Fences([one, other])
    for host in (one, other):
        host.attend(True)
    await asyncio.sleep(EXCUSED_SECONDS)
    one.start(one.create(TaskId("t1"), SLOT), Behaviour())
    return one, other, fences


def test_a_fenced_slot_that_runs_on_two_hosts_at_once_is_found() -> None:
    async def main() -> None:
        _, other, fences = await two_hosts()
        other.start(other.create(TaskId("t2"), SLOT), Behaviour())
        (finding,) = fences.findings
        assert "t2 starts on other in slot 1 of s1, where t1 is running on one" in finding

    scenario(main)


def test_a_fenced_slot_may_go_on_elsewhere_once_it_has_ended() -> None:
    async def main() -> None:
        one, other, fences = await two_hosts()
        one.end(one.containers[TaskId("t1")], 143)
        other.start(other.create(TaskId("t2"), SLOT), Behaviour())
        assert not fences.findings
        assert fences.handed_on == 1

    scenario(main)


def test_a_host_without_its_agent_or_its_engine_is_excused_until_it_has_had_time_to_stop_what_it_runs() -> None:
    async def main() -> None:
        one, other, fences = await two_hosts()
        one.attend(False)
        await asyncio.sleep(2 * EXCUSED_SECONDS)
        other.start(other.create(TaskId("t2"), SLOT), Behaviour())
        one.attend(True)
        one.engine_up = False
        await asyncio.sleep(2 * EXCUSED_SECONDS)
        one.engine_up = True
        other.start(other.create(TaskId("t3"), SLOT), Behaviour())
        assert not fences.findings
        await asyncio.sleep(EXCUSED_SECONDS)
        other.start(other.create(TaskId("t4"), SLOT), Behaviour())
        assert len(fences.findings) == 1

    scenario(main)
