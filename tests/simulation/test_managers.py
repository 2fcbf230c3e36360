"""Several managers: who leads changes, what the cluster does doesn't."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from stackd.base.time import HOUR, SECOND, Duration
from stackd.engine.inputs import Applied, RemoveStack, ScaleService
from stackd.engine.parts import SYSTEM, NodeState
from stackd.engine.taskstate import TaskState
from stackd.raft.consensus import NotLeader
from stackd.simulation.cluster import SimulatedCluster
from stackd.simulation.loop import run
from stackd.simulation.stacks import a_service, a_stack


def what_runs(cluster: SimulatedCluster) -> list[tuple[int, str]]:
    """Slot and image of every task that runs."""
    view = cluster.view
    running = [task for task in view.tasks.values() if view.status_of(task.id).state is TaskState.RUNNING]
    return sorted((task.slot, row.spec.container.image) for task in running if (row := view.specs.get(task.spec)))


async def updated(seed: int, kill_after: float | None) -> list[tuple[int, str]]:
    """What runs after an update in which the leader was killed."""
    async with SimulatedCluster(seed, managers=3).running() as cluster:
        await cluster.deploy(a_stack("shop", a_service(replicas=5)))
        await cluster.settle()
        await cluster.deploy(a_stack("shop", a_service(image="img:v2", replicas=4)))
        if kill_after is not None:
            await asyncio.sleep(kill_after)
            await cluster.kill_manager()
        await cluster.settle()
        return what_runs(cluster)


def test_killing_the_leader_at_any_point_ends_in_the_same_tasks_as_no_kill() -> None:
    expected = run(updated(1, None))
    assert expected == [(slot, "img:v2") for slot in range(1, 5)]
    for hundredths in range(0, 300, 20):
        assert run(updated(1, hundredths / 100)) == expected


def test_a_manager_that_does_not_lead_decides_nothing() -> None:
    async def story() -> None:
        async with SimulatedCluster(1, managers=3).running() as cluster:
            await cluster.deploy(a_stack("shop", a_service(image="img:exits-1-after-2s", replicas=3)))
            follower = next(manager for manager in cluster.managers if not manager.leads)
            with pytest.raises(NotLeader):
                await follower.writer.submit(ScaleService(name="shop_web", replicas=5, principal=SYSTEM))
            former = cluster.leader
            cluster.log.cut(former.name)
            await asyncio.sleep(2)
            assert cluster.leader is not former
            before = former.writer.view.index
            await asyncio.sleep(60)
            assert former.writer.view.index == before, "nothing is decided without a majority"
            assert cluster.view.index > before
            cluster.log.join(former.name)
            async with asyncio.timeout(1):
                while former.writer.view.index != cluster.view.index:
                    await asyncio.sleep(0.01)

    run(story())


def test_no_node_goes_down_when_leaders_change() -> None:
    async def story() -> None:
        async with SimulatedCluster(1, nodes=5, managers=3).running() as cluster:
            for _ in range(4):
                cluster.depose_manager()
                await asyncio.sleep(40)
            kinds = [event.kind for event in cluster.view.events_after(0)]
            assert f"node.{NodeState.DOWN}" not in kinds

    run(story())


def test_ten_minutes_without_managers_change_nothing() -> None:
    async def story() -> None:
        async with SimulatedCluster(1, managers=3).running() as cluster:
            await cluster.deploy(a_stack("shop", a_service(replicas=4)))
            await cluster.settle()
            tasks = {task.id for task in cluster.view.tasks.values()}
            for manager in cluster.managers:
                await cluster.kill_manager(manager)
            await asyncio.sleep(600)
            assert sum(one.running for node in cluster.nodes for one in node.host.containers.values()) == 4
            for manager in cluster.managers:
                await cluster.start_manager(manager)
            await cluster.settle()
            await asyncio.sleep(60)
            assert {task.id for task in cluster.view.tasks.values()} == tasks

    run(story())


async def span(cluster: SimulatedCluster, meanwhile: Callable[[], Awaitable[None]]) -> float:
    """How fast cluster time goes, of time itself, while something happens and for ten seconds after."""
    await cluster.deploy(a_stack("shop", a_service(replicas=1)))
    before, began = cluster.view.now, asyncio.get_running_loop().time()
    await asyncio.sleep(1)  # the others have heard of it
    await meanwhile()
    await asyncio.sleep(10)
    await cluster.deploy(a_stack("shop", a_service(replicas=2)))
    return (cluster.view.now - before) / SECOND / (asyncio.get_running_loop().time() - began)


@pytest.mark.parametrize("drift", [HOUR, Duration(-HOUR)])
def test_a_new_leader_whose_clock_is_far_off_goes_on_with_the_time_of_the_one_before(drift: Duration) -> None:
    async def story() -> None:
        async with SimulatedCluster(1, managers=3).running() as cluster:
            for manager in cluster.managers:
                manager.clock.drift = Duration(0) if manager.leads else drift
            assert 0.49 <= await span(cluster, cluster.kill_manager) <= 1.51

    run(story())


def test_a_manager_that_was_restarted_with_a_clock_far_ahead_goes_on_with_the_time_that_it_finds() -> None:
    async def story() -> None:
        async with SimulatedCluster(1, managers=3).running() as cluster:
            restarted = next(manager for manager in cluster.managers if not manager.leads)

            async def restart_and_lead() -> None:
                await cluster.kill_manager(restarted)
                restarted.clock.drift = HOUR
                await cluster.start_manager(restarted)
                await cluster.deploy(a_stack("shop", a_service(replicas=3)))
                await asyncio.sleep(1)
                cluster.log.depose(restarted.name)

            assert 0.9 <= await span(cluster, restart_and_lead) <= 1.51
            assert restarted.leads

    run(story())


def test_after_all_managers_were_off_the_clock_is_right_at_once() -> None:
    async def story() -> None:
        async with SimulatedCluster(1, managers=3).running() as cluster:
            await cluster.settle()
            for manager in cluster.managers:
                await cluster.kill_manager(manager)
            await asyncio.sleep(HOUR / SECOND)
            for manager in cluster.managers:
                await cluster.start_manager(manager)
            await asyncio.sleep(5)
            assert abs(cluster.view.now - cluster.leader.clock.now()) < 10 * SECOND

    run(story())


def test_what_was_removed_while_its_agent_was_away_goes_when_it_is_back() -> None:
    async def story() -> None:
        async with SimulatedCluster(1).running() as cluster:
            await cluster.deploy(a_stack("shop", a_service(replicas=3)))
            await cluster.settle()
            away = cluster.nodes[0]
            await cluster.kill_agent(away)
            await asyncio.sleep(60)
            await cluster.submit(RemoveStack(name="shop", principal=SYSTEM))
            await asyncio.sleep(60)
            assert any(container.running for container in away.host.containers.values())
            cluster.start_agent(away)
            await cluster.settle()
            assert not away.host.containers

    run(story())


def test_a_command_whose_outcome_is_unknown_may_be_given_again() -> None:
    async def story() -> None:
        async with SimulatedCluster(1, managers=3).running() as cluster:
            await cluster.deploy(a_stack("shop", a_service(replicas=1)))
            await cluster.settle()
            scale = ScaleService(name="shop_web", replicas=4, principal=SYSTEM)
            asking = asyncio.create_task(cluster.submit(scale))
            await asyncio.sleep(0)
            cluster.log.cut(cluster.leader.name)
            assert isinstance(await asking, Applied)
            await cluster.settle()
            assert len(what_runs(cluster)) == 4

    run(story())
