"""Nodes that become managers and cease to be ones, with real consensus between them."""

from __future__ import annotations

import pytest
from stackd.api.cluster import LeaveRequest, MoveManagerRequest, UpdateNodeRequest
from stackd.base.errors import Refused
from stackd.engine.parts import Role
from stackd.manager.authority import role_now

from manager_cluster import ANN, Host, Hosts, as_node, play


async def three(hosts: Hosts) -> None:
    await hosts.found()
    await hosts.join(Role.MANAGER)
    await hosts.join(Role.MANAGER)


async def demote(hosts: Hosts, host: Host) -> None:
    cluster = (await hosts.leader()).manager.cluster
    await cluster.update_node(UpdateNodeRequest(name=host.node_id, role=Role.WORKER), ANN)


async def let_go(hosts: Hosts, host: Host) -> None:
    """Wait until consensus has let go of a manager, and end it as its daemon would."""
    assert host.member is not None
    await host.member.ended()
    await host.stop()


def test_managers_that_join_get_a_vote_and_every_manager_knows_where_the_others_are() -> None:
    async def story(hosts: Hosts) -> None:
        await three(hosts)
        for host in hosts.hosts:
            statuses = host.manager.writer.view.node_statuses.values()
            addresses = {status.manager.address for status in statuses if status.manager is not None}
            assert addresses == {"10.0.0.1:2377", "10.0.0.2:2377", "10.0.0.3:2377"}
            assert {str(address) for address in host.manager.managers.addresses()} == addresses
            assert host.manager.managers.leader == (await hosts.leader()).node_id

    play(story)


def test_a_promoted_worker_gets_a_managers_certificate_and_then_a_vote() -> None:
    async def story(hosts: Hosts) -> None:
        first = await hosts.found()
        worker = await hosts.join(Role.WORKER)
        assert worker.role is Role.WORKER
        await first.manager.cluster.update_node(UpdateNodeRequest(name="host2", role=Role.MANAGER), ANN)
        await hosts.renew(worker)
        assert worker.role is Role.MANAGER
        await hosts.enter(worker)
        assert len(hosts.voters()) == 2

    play(story)


def test_a_manager_that_has_moved_is_known_where_it_is_now_and_a_worker_moves_nothing() -> None:
    async def story(hosts: Hosts) -> None:
        first = await hosts.found()
        moved = await hosts.join(Role.MANAGER)
        worker = await hosts.join(Role.WORKER)
        cluster, request = first.manager.cluster, MoveManagerRequest(address="10.0.0.9:2377")
        with pytest.raises(Refused) as caught:
            await cluster.move_manager(request, as_node(worker.node_id))
        assert caught.value.code == "api.access.denied"
        await hosts.again(lambda: cluster.move_manager(request, as_node(moved.node_id)))

        def places(host: Host) -> set[str]:
            statuses = host.manager.writer.view.node_statuses.values()
            return {status.manager.address for status in statuses if status.manager is not None}

        await hosts.until(lambda: places(first) == places(moved) == {"10.0.0.1:2377", "10.0.0.9:2377"})
        assert worker.node_id not in first.manager.consensus.known_addresses

    play(story)


def test_the_leader_is_demoted_by_handing_the_leadership_on_first() -> None:
    async def story(hosts: Hosts) -> None:
        await three(hosts)
        old = await hosts.leader()
        await demote(hosts, old)
        await let_go(hosts, old)
        leader = await hosts.leader()
        assert leader is not old
        await hosts.until(lambda: len(hosts.voters()) == 2)
        assert role_now(leader.manager.writer.view, old.node_id) is Role.WORKER
        await hosts.renew(old)
        assert old.role is Role.WORKER

    play(story)


def test_a_demoted_manager_keeps_its_certificate_until_consensus_has_let_go_of_it() -> None:
    async def story(hosts: Hosts) -> None:
        await three(hosts)
        leader = await hosts.leader()
        follower, other = (host for host in hosts.hosts if host is not leader)
        hosts.network.isolate(other.node_id)
        await hosts.until(lambda: other.node_id not in hosts.voters_of(leader))
        with pytest.raises(Refused) as caught:
            await demote(hosts, follower)
        assert caught.value.code == "node.demote.quorum"
        assert role_now(leader.manager.writer.view, follower.node_id) is Role.MANAGER
        await demote(hosts, other)  # the one that can't be reached may go
        await hosts.until(lambda: role_now(leader.manager.writer.view, other.node_id) is Role.WORKER)

    play(story)


def test_the_only_manager_can_neither_be_demoted_nor_leave() -> None:
    async def story(hosts: Hosts) -> None:
        first = await hosts.found()
        for attempt in (
            lambda: demote(hosts, first),
            lambda: first.manager.cluster.leave(LeaveRequest(), as_node(first.node_id)),
        ):
            with pytest.raises(Refused) as caught:
                await attempt()
            assert caught.value.code == "node.demote.last"

    play(story)


def test_a_manager_that_leaves_is_forgotten_when_consensus_has_let_go_of_it() -> None:
    async def story(hosts: Hosts) -> None:
        await three(hosts)
        leader = await hosts.leader()
        await leader.manager.cluster.leave(LeaveRequest(), as_node(leader.node_id))
        await let_go(hosts, leader)
        successor = await hosts.leader()
        await hosts.until(lambda: leader.node_id not in successor.manager.writer.view.nodes)

    play(story)


def test_a_worker_that_leaves_is_forgotten_at_once() -> None:
    async def story(hosts: Hosts) -> None:
        first = await hosts.found()
        worker = await hosts.join(Role.WORKER)
        await first.manager.cluster.leave(LeaveRequest(), as_node(worker.node_id))
        assert worker.node_id not in first.manager.writer.view.nodes

    play(story)
