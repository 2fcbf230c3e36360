"""Knowledge about containers from events, and looking again after a gap."""

from __future__ import annotations

import asyncio

import pytest
from stackd.agent.executor.docker.spec import ContainerEvent
from stackd.agent.executor.docker.watch import ContainerWatch
from stackd.base.time import Instant


def event(action: str, *, exit_code: int = 0, health: str = "") -> ContainerEvent:
    return ContainerEvent(container_id="c1", action=action, at=Instant(9), exit_code=exit_code, health=health)


def test_a_death_is_known_with_code_time_and_reason() -> None:
    watch = ContainerWatch()
    watched = watch.track("c1")
    watch.event(event("start"))
    watch.event(event("oom"))
    watch.event(event("die", exit_code=137))
    assert (watched.started, watched.ended, watched.exit_code, watched.oom, watched.ended_at) == (True, True, 137, True, 9)


def test_a_container_removed_by_hand_has_ended_and_keeps_the_code_it_died_with() -> None:
    watch = ContainerWatch()
    watched = watch.track("c1")
    watch.event(event("die", exit_code=3))
    watch.event(event("destroy"))
    assert (watched.ended, watched.gone, watched.exit_code) == (True, True, 3)


def test_a_new_connection_makes_what_is_known_stale_and_wakes_whoever_waits() -> None:
    watch = ContainerWatch()
    watched = watch.track("c1")
    watched.stale = False
    change = watched.next_change()
    watch.reconnected()
    assert watched.stale
    assert change.is_set()


def test_a_change_between_looking_and_waiting_is_not_missed() -> None:
    async def scenario() -> None:
        watch = ContainerWatch()
        watched = watch.track("c1")
        change = watched.next_change()
        watch.event(event("health", health="healthy"))
        await asyncio.wait_for(change.wait(), 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watched.next_change().wait(), 0.01)

    asyncio.run(scenario())


def test_events_of_containers_nobody_waits_for_are_dropped() -> None:
    watch = ContainerWatch()
    watch.event(event("die"))
    assert watch.track("c1").stale
    watch.forget("c1")
    watch.event(event("die"))
    assert not watch.track("c1").ended
