"""Cluster time over wall clocks that are wrong."""

from __future__ import annotations

import asyncio

from stackd.base.time import SECOND, Duration, Instant
from stackd.manager.clustertime import ClusterTime
from stackd.simulation.loop import VirtualClock, run


def seconds_between(one: Instant, other: Instant) -> float:
    return round((other - one) / SECOND, 3)


def test_cluster_time_is_the_wall_clock() -> None:
    async def story() -> None:
        clock = VirtualClock()
        time = ClusterTime(clock)
        assert time.now(Instant(0)) == clock.now()
        await asyncio.sleep(100)
        assert time.now(Instant(0)) == clock.now()
        clock.drift = Duration(50 * SECOND)
        assert time.now(Instant(0)) == clock.now()

    run(story())


def test_a_clock_that_is_behind_the_latest_entry_is_waited_for_at_half_speed() -> None:
    async def story() -> None:
        clock = VirtualClock()
        time = ClusterTime(clock)
        latest = Instant(clock.now() + 300 * SECOND)
        first = time.now(latest)
        assert first == latest
        await asyncio.sleep(10)
        assert seconds_between(first, time.now(latest)) == 5
        await asyncio.sleep(600)
        assert time.now(latest) == clock.now()

    run(story())


def test_time_goes_on_when_the_clock_is_set_back() -> None:
    async def story() -> None:
        clock = VirtualClock()
        time = ClusterTime(clock)
        first = time.now(Instant(0))
        clock.drift = Duration(-20 * SECOND)
        told = [time.now(first)]
        for _ in range(100):
            await asyncio.sleep(0.1)
            told.append(time.now(told[-1]))
        assert told == sorted(told)
        assert seconds_between(first, told[-1]) == 5

    run(story())
