"""Cluster time over real members of consensus, whose machines don't agree on the time of day."""

from __future__ import annotations

import time

import pytest
from stackd.api.cluster import UpdateNodeRequest
from stackd.base.time import HOUR, SECOND, Duration
from stackd.engine.parts import Role

from manager_cluster import ANN, Hosts, play


async def make_an_entry(hosts: Hosts, name: str) -> float:
    """How far the clock was when somebody changed something, in seconds."""
    leader = await hosts.leader()
    await hosts.again(lambda: leader.manager.cluster.update_node(UpdateNodeRequest(name="first", labels={name: "1"}), ANN))
    index = leader.manager.writer.store.index
    await hosts.until(lambda: all(host.manager.writer.store.index >= index for host in hosts.hosts))
    return leader.manager.writer.view.now / SECOND


@pytest.mark.parametrize("off", [HOUR, Duration(-HOUR)])
def test_leaders_whose_clocks_are_an_hour_apart_tell_one_time(off: Duration) -> None:
    async def story(hosts: Hosts) -> None:
        await hosts.found()
        for _ in range(2):
            await hosts.join(Role.MANAGER)
        began, first = time.monotonic(), await make_an_entry(hosts, "before")
        former = await hosts.leader()
        for host in hosts.hosts:
            host.clock.off = Duration(0) if host is former else off
        assert former.member is not None
        await former.member.transfer_leadership()
        assert await hosts.leader() is not former
        last = await make_an_entry(hosts, "after")
        assert 0 < last - first < 1.5 * (time.monotonic() - began) + 0.1

    play(story)
