"""The virtual-time loop."""

from __future__ import annotations

import asyncio
import time

import pytest
from stackd.base.time import HOUR, seconds
from stackd.simulation.loop import EPOCH, Deadlock, VirtualClock, run


def test_days_of_sleep_cost_nothing_and_timers_fire_in_order() -> None:
    async def main() -> list[tuple[float, str]]:
        fired: list[tuple[float, str]] = []

        async def every(name: str, period: float) -> None:
            for _ in range(3):
                await asyncio.sleep(period)
                fired.append((round(asyncio.get_running_loop().time(), 6), name))

        async with asyncio.TaskGroup() as group:
            group.create_task(every("a", 3600))
            group.create_task(every("b", 86_400))
        return fired

    began = time.process_time()
    assert run(main()) == [(3600, "a"), (7200, "a"), (10_800, "a"), (86_400, "b"), (172_800, "b"), (259_200, "b")]
    assert time.process_time() - began < 1


def test_the_clock_follows_the_loop_and_may_be_off() -> None:
    async def main() -> None:
        clock, fast = VirtualClock(), VirtualClock(drift=seconds(5))
        assert clock.now() == EPOCH
        await asyncio.sleep(3600)
        assert clock.now() == EPOCH + HOUR
        assert fast.now() - clock.now() == seconds(5)

    run(main())


def test_timeouts_work_in_virtual_time() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await asyncio.Event().wait()

    run(main())


def test_a_program_that_can_never_go_on_is_an_error_at_once() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(main())
