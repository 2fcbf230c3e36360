"""Cluster time over wall clocks that are wrong, and how it spares the fences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from stackd.base.time import HOUR, MINUTE, SECOND, Duration, Instant
from stackd.manager.clustertime import NEAR, ClusterTime, is_fencing
from stackd.simulation.loop import VirtualClock, run

from engine_builders import ToyCluster, a_spec, settings

WEEK = 7 * 24 * HOUR


class Manager:
    """One manager's clock and cluster time; `latest` is that of the latest entry, `fenced` whether a fence is waited for."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.time = ClusterTime(self.clock)
        self.latest = Instant(0)
        self.fenced = False

    def tell(self) -> Instant:
        """Make an entry."""
        self.latest = self.time.now(self.latest, lambda _now: self.fenced)
        return self.latest

    def follow(self, leader: Manager) -> None:
        """Apply the leader's latest entry."""
        self.latest = leader.latest
        self.time.heard(self.latest)

    @property
    def seconds_behind(self) -> float:
        """How far the time last told is behind the clock."""
        return round((self.clock.now() - self.latest) / SECOND, 3)


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    run(whole())


async def passed(manager: Manager, seconds: float, looks: int = 1) -> float:
    """How many seconds of cluster time pass in so many of real time, if the time is asked that often."""
    before = manager.tell()
    for _ in range(looks):
        await asyncio.sleep(seconds / looks)
        manager.tell()
    return round((manager.latest - before) / SECOND, 3)


def test_cluster_time_is_the_wall_clock_while_that_is_right() -> None:
    async def story() -> None:
        manager = Manager()
        assert manager.tell() == manager.clock.now()
        await asyncio.sleep(100)
        assert manager.tell() == manager.clock.now()

    play(story)


@pytest.mark.parametrize("looks", [1, 100])
@pytest.mark.parametrize(("jump", "expected"), [(5 * MINUTE, 15.0), (WEEK, 15.0), (-5 * MINUTE, 5.0), (-WEEK, 5.0)])
def test_a_jump_of_the_clock_makes_time_half_as_fast_again_or_half_as_fast_until_it_is_made_up(
    jump: int, expected: float, looks: int
) -> None:
    async def story() -> None:
        manager = Manager()
        manager.tell()
        manager.clock.drift = Duration(jump)
        assert await passed(manager, 10.0, looks) == expected
        await asyncio.sleep(3 * abs(jump) / SECOND)
        manager.tell()
        assert manager.seconds_behind == 0

    play(story)


def test_a_clock_that_is_only_a_little_ahead_is_not_caught_up_with() -> None:
    async def story() -> None:
        manager = Manager()
        manager.tell()
        manager.clock.drift = NEAR
        assert await passed(manager, 10.0) == 10.0

    play(story)


def test_time_never_goes_back_and_never_stands_still() -> None:
    async def story() -> None:
        manager = Manager()
        told = [manager.tell()]
        for drift in (-20, 300, -300, 7):
            manager.clock.drift = Duration(drift * SECOND)
            for _ in range(50):
                await asyncio.sleep(0.1)
                told.append(manager.tell())
        assert all(one < other for one, other in pairwise(told))

    play(story)


def test_a_new_leader_goes_on_from_what_the_one_before_told_whatever_its_own_clock_says() -> None:
    async def story() -> None:
        first, second = Manager(), Manager()
        second.clock.drift = Duration(HOUR)
        first.tell()
        second.follow(first)
        told = second.latest
        await asyncio.sleep(10)
        assert (second.tell() - told) / SECOND == 15.0

    play(story)


def test_a_follower_that_heard_nothing_for_days_counts_them_by_itself() -> None:
    async def story() -> None:
        first, second = Manager(), Manager()
        first.tell()
        second.follow(first)
        await asyncio.sleep(3 * 24 * 3600)
        second.tell()
        assert second.seconds_behind == 0

    play(story)


def test_a_cluster_that_was_off_for_a_week_catches_up_at_once_and_only_once() -> None:
    async def story() -> None:
        manager = Manager()
        manager.latest = Instant(manager.clock.now() - WEEK)
        assert manager.tell() == manager.clock.now()
        manager.clock.drift = Duration(WEEK)
        assert await passed(manager, 10.0) == 15.0

    play(story)


def test_a_manager_that_starts_with_a_clock_behind_the_log_takes_no_later_jump_at_once() -> None:
    async def story() -> None:
        manager = Manager()
        manager.latest = Instant(manager.clock.now() + MINUTE)
        assert await passed(manager, 10.0) == 5.0
        manager.clock.drift = Duration(HOUR)
        assert await passed(manager, 10.0) == 15.0

    play(story)


def test_while_a_fence_is_waited_for_time_is_never_faster_than_time_itself() -> None:
    async def story() -> None:
        manager = Manager()
        manager.tell()
        manager.clock.drift = Duration(HOUR)
        manager.fenced = True
        assert await passed(manager, 10.0, looks=7) == 10.0
        manager.fenced = False
        assert await passed(manager, 10.0, looks=7) == 15.0

    play(story)


def test_also_a_cluster_that_was_off_waits_for_its_fences_before_it_catches_up() -> None:
    async def story() -> None:
        manager = Manager()
        manager.latest = Instant(manager.clock.now() - WEEK)
        manager.fenced = True
        assert await passed(manager, 10.0) == 10.0
        manager.fenced = False
        assert manager.tell() == manager.clock.now()

    play(story)


def test_who_waits_for_a_time_looks_again_when_it_can_have_come() -> None:
    async def story() -> None:
        manager = Manager()
        due = Instant(manager.tell() + 30 * SECOND)
        assert manager.time.seconds_until(due) == 30.0
        manager.clock.drift = Duration(HOUR)
        await asyncio.sleep(10)
        manager.tell()
        assert manager.time.seconds_until(due) == 10.0
        await asyncio.sleep(10)
        assert manager.tell() == due
        assert manager.time.seconds_until(due) == 0.0

    play(story)


def a_node_is_lost(*, fence: bool) -> ToyCluster:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(fence=fence), settings(1))
    cluster.settle()
    assert not is_fencing(cluster.view, cluster.view.now)
    cluster.crash(int(cluster.running()[0].node_id[-1]))
    return cluster


def test_a_fence_is_waited_for_from_the_loss_of_the_node_to_the_certain_end_of_its_task() -> None:
    view = a_node_is_lost(fence=True).view
    assert is_fencing(view, view.now)
    assert is_fencing(view, Instant(view.now + 25 * SECOND))
    assert not is_fencing(view, Instant(view.now + 30 * SECOND))


def test_nobody_waits_for_tasks_that_are_not_to_be_fenced() -> None:
    view = a_node_is_lost(fence=False).view
    assert not is_fencing(view, view.now)
