"""Scenarios on a simulated cluster: what a person does, what goes wrong, and what must have come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from stackd.engine.inputs import Applied, RemoveStack, RollbackService, ScaleService, SetAvailability
from stackd.engine.model import Service, Task
from stackd.engine.parts import SYSTEM, Availability, NodeState, RolloutState
from stackd.engine.taskstate import TaskState
from stackd.simulation.cluster import SimulatedCluster
from stackd.simulation.loop import run
from stackd.simulation.node import SimulatedNode
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.stack import FailureAction, UpdateOrder

Scenario = Callable[[SimulatedCluster], Awaitable[None]]


def play(scenario: Scenario, *, nodes: int = 3, seed: int = 1) -> None:
    async def whole() -> None:
        async with SimulatedCluster(seed, nodes=nodes).running() as cluster:
            await scenario(cluster)

    run(whole())


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(predicate: Callable[[], bool], seconds: float = 120.0) -> None:
    async with asyncio.timeout(seconds):
        while not predicate():
            await asyncio.sleep(0.02)


def service(cluster: SimulatedCluster, name: str) -> Service:
    found = cluster.view.service_named(name)
    assert found is not None
    return found


def running(cluster: SimulatedCluster, name: str) -> list[Task]:
    """The tasks of a service that really run, on record and on their hosts."""
    view = cluster.view
    tasks = [task for task in view.tasks_of_service(service(cluster, name).id) if runs(cluster, task)]
    return sorted(tasks, key=lambda task: task.slot)


def runs(cluster: SimulatedCluster, task: Task) -> bool:
    container = host_of(cluster, task).host.containers.get(task.id) if task.node_id else None
    return cluster.view.status_of(task.id).state == TaskState.RUNNING and container is not None and container.running


def host_of(cluster: SimulatedCluster, task: Task) -> SimulatedNode:
    return next(node for node in cluster.nodes if node.id == task.node_id)


def images(cluster: SimulatedCluster, name: str) -> set[str]:
    return {cluster.view.specs.get(task.spec).spec.container.image for task in running(cluster, name)}  # type: ignore[union-attr]


def rollout(cluster: SimulatedCluster, name: str) -> RolloutState | None:
    found = cluster.view.rollouts.get(service(cluster, name).id)
    return found.state if found else None


def containers(cluster: SimulatedCluster) -> int:
    return sum(len(node.host.containers) for node in cluster.nodes)


class Lowest:
    """The lowest number of running tasks of a service while the block lasts."""

    def __init__(self, cluster: SimulatedCluster, name: str) -> None:
        self.value = 10**6
        self._cluster = cluster
        self._name = name

    async def __aenter__(self) -> Lowest:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            self.value = min(self.value, len(running(self._cluster, self._name)))
            await asyncio.sleep(0.01)


def test_a_deployed_stack_runs_everywhere_it_should() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        stack = a_stack("shop", a_service(replicas=5), a_service("agent", everywhere=True))
        reply = await cluster.deploy(stack)
        assert isinstance(reply, Applied)
        assert reply.changed
        await cluster.settle()
        assert [task.slot for task in running(cluster, "shop_web")] == [1, 2, 3, 4, 5]
        assert {task.node_id for task in running(cluster, "shop_agent")} == {node.id for node in cluster.nodes}
        spread = [sum(task.node_id == node.id for task in running(cluster, "shop_web")) for node in cluster.nodes]
        assert max(spread) - min(spread) <= 1

    play(scenario)


def test_deploying_the_same_again_changes_nothing() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        stack = a_stack("shop", a_service(replicas=2))
        await cluster.deploy(stack)
        await cluster.settle()
        before = cluster.log.last_index
        reply = await cluster.deploy(stack, label="again")
        assert isinstance(reply, Applied)
        assert not reply.changed
        await asyncio.sleep(3600)
        assert cluster.log.last_index == before, "an idle cluster writes nothing"

    play(scenario)


def test_an_edit_rolls_one_slot_at_a_time() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=4)))
        await cluster.settle()
        async with Lowest(cluster, "shop_web") as lowest:
            await cluster.deploy(a_stack("shop", a_service(image="img:v2", replicas=4)))
            await cluster.settle()
        assert images(cluster, "shop_web") == {"img:v2"}
        assert lowest.value == 3
        assert rollout(cluster, "shop_web") == RolloutState.COMPLETED

    play(scenario)


def test_start_first_never_runs_fewer_than_wanted() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=3, order=UpdateOrder.START_FIRST)))
        await cluster.settle()
        async with Lowest(cluster, "shop_web") as lowest:
            await cluster.deploy(a_stack("shop", a_service(image="img:v2", replicas=3, order=UpdateOrder.START_FIRST)))
            await cluster.settle()
        assert lowest.value == 3
        assert images(cluster, "shop_web") == {"img:v2"}

    play(scenario)


def test_an_unknown_image_pauses_the_update_without_any_downtime() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=3)))
        await cluster.settle()
        async with Lowest(cluster, "shop_web") as lowest:
            await cluster.deploy(a_stack("shop", a_service(image="img:missing", replicas=3)))
            await until(lambda: rollout(cluster, "shop_web") == RolloutState.PAUSED)
            await asyncio.sleep(600)
        assert lowest.value == 3
        assert images(cluster, "shop_web") == {"img:v1"}

    play(scenario)


def test_a_version_that_crashes_pauses_the_update_and_the_next_good_one_goes_on() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=3)))
        await cluster.settle()
        await cluster.deploy(a_stack("shop", a_service(image="img:exits-1-after-2s", replicas=3)))
        await until(lambda: rollout(cluster, "shop_web") == RolloutState.PAUSED)
        assert len(running(cluster, "shop_web")) >= 2
        await cluster.deploy(a_stack("shop", a_service(image="img:v3", replicas=3)))
        await cluster.settle()
        assert images(cluster, "shop_web") == {"img:v3"}

    play(scenario)


@pytest.mark.parametrize("bad", ["img:missing", "img:fails-at-start", "img:exits-1-after-2s"])
def test_a_failed_update_rolls_back_to_the_previous_spec(bad: str) -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=3)))
        await cluster.settle()
        await cluster.deploy(a_stack("shop", a_service(image=bad, replicas=3, failure_action=FailureAction.ROLLBACK)))
        await until(lambda: rollout(cluster, "shop_web") == RolloutState.ROLLBACK_COMPLETED)
        await cluster.settle()
        assert images(cluster, "shop_web") == {"img:v1"}
        assert len(running(cluster, "shop_web")) == 3

    play(scenario)


def test_a_person_can_roll_back() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        for image in ("img:v1", "img:v2"):
            await cluster.deploy(a_stack("shop", a_service(image=image, replicas=2)))
            await cluster.settle()
        await cluster.submit(RollbackService(name="shop_web", principal=SYSTEM))
        await cluster.settle()
        assert images(cluster, "shop_web") == {"img:v1"}

    play(scenario)


def test_scaling_touches_no_task_that_stays() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=5)))
        await cluster.settle()
        before = {task.id for task in running(cluster, "shop_web")}
        for replicas in (3, 5):
            await cluster.submit(ScaleService(name="shop_web", replicas=replicas, principal=SYSTEM))
            await cluster.settle()
            assert len(running(cluster, "shop_web")) == replicas
        assert [task.slot for task in running(cluster, "shop_web")] == [1, 2, 3, 4, 5]
        assert len(before & {task.id for task in running(cluster, "shop_web")}) == 3

    play(scenario)


def test_a_removed_stack_leaves_nothing() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=4, image="img:stops-in-8s")))
        await cluster.settle()
        await cluster.submit(RemoveStack(name="shop", principal=SYSTEM))
        await until(lambda: not len(cluster.view.services) and not len(cluster.view.tasks))
        await until(lambda: containers(cluster) == 0)
        assert not len(cluster.view.stacks)
        assert all(not node.host.states.load() for node in cluster.nodes)

    play(scenario)


def test_a_crashed_task_is_replaced_in_its_slot() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=2, restart_seconds=1)))
        await cluster.settle()
        victim = running(cluster, "shop_web")[0]
        host = host_of(cluster, victim).host
        host.end(host.containers[victim.id], 1)
        began = now()
        await until(lambda: len(running(cluster, "shop_web")) == 1)
        await cluster.settle()
        assert now() - began < 3
        assert running(cluster, "shop_web")[0].id != victim.id
        assert cluster.view.status_of(victim.id).exit_code == 1

    play(scenario)


def test_tasks_go_on_while_their_agent_is_dead_for_a_moment() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=3)))
        await cluster.settle()
        before = [task.id for task in running(cluster, "shop_web")]
        await cluster.kill_agent(cluster.nodes[0])
        await asyncio.sleep(5)
        cluster.start_agent(cluster.nodes[0])
        await cluster.settle()
        assert [task.id for task in running(cluster, "shop_web")] == before

    play(scenario)


def test_the_only_node_is_killed_and_comes_back_with_the_daemon() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        (node,) = cluster.nodes
        await cluster.deploy(
            a_stack("shop", a_service(replicas=3), a_service("job", image="img:exits-4-after-20s", restart_seconds=60))
        )
        await until(lambda: len(running(cluster, "shop_web")) == 3 and len(running(cluster, "shop_job")) == 1)
        before = [task.id for task in running(cluster, "shop_web")]
        (job,) = running(cluster, "shop_job")
        await cluster.kill_agent(node)
        await cluster.kill_manager()
        await asyncio.sleep(60)
        await cluster.start_manager()
        cluster.start_agent(node)
        await until(lambda: cluster.view.status_of(job.id).state == TaskState.FAILED)
        assert cluster.view.status_of(job.id).exit_code == 4
        assert [task.id for task in running(cluster, "shop_web")] == before

    play(scenario, nodes=1)


def test_a_manager_that_dies_in_the_middle_of_an_update_finishes_it_in_its_next_life() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=6)))
        await cluster.settle()
        await cluster.deploy(a_stack("shop", a_service(image="img:v2", replicas=6)))
        await until(lambda: images(cluster, "shop_web") == {"img:v1", "img:v2"})
        await cluster.kill_manager()
        await asyncio.sleep(30)
        await cluster.start_manager()
        await cluster.settle()
        assert images(cluster, "shop_web") == {"img:v2"}

    play(scenario)


def test_a_lost_node_is_replaced_and_stops_its_old_tasks_when_it_returns() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=3)))
        await cluster.settle()
        lost = cluster.nodes[0]
        lost.reachable = False
        assert lost.wire is not None
        lost.wire.cut()
        await until(lambda: cluster.view.node_statuses.get(lost.id).state == NodeState.DOWN)  # type: ignore[union-attr]
        await until(lambda: sum(task.node_id != lost.id for task in running(cluster, "shop_web")) == 3)
        assert any(one.running for one in lost.host.containers.values()), "an agent cut off keeps its tasks running"
        lost.reachable = True
        await cluster.settle()
        assert not any(one.running for one in lost.host.containers.values())

    play(scenario)


def test_a_drained_node_is_emptied_and_gets_nothing_new() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=6)))
        await cluster.settle()
        drained = cluster.nodes[1].id
        await cluster.submit(SetAvailability(id=drained, availability=Availability.DRAIN, principal=SYSTEM))
        await cluster.settle()
        assert len(running(cluster, "shop_web")) == 6
        assert all(task.node_id != drained for task in running(cluster, "shop_web"))

    play(scenario)


def test_an_engine_that_is_away_loses_nothing() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=3)))
        await cluster.settle()
        before = [task.id for task in running(cluster, "shop_web")]
        for node in cluster.nodes:
            node.host.engine_up = False
        await asyncio.sleep(120)
        for node in cluster.nodes:
            node.host.engine_up = True
        await cluster.settle()
        assert [task.id for task in running(cluster, "shop_web")] == before

    play(scenario)


def test_a_full_log_keeps_the_old_state_and_goes_on_when_there_is_room() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        await cluster.deploy(a_stack("shop", a_service(replicas=2)))
        await cluster.settle()
        before = cluster.view.version
        cluster.log.set_full("manager-1", True)
        deploying = asyncio.create_task(cluster.deploy(a_stack("shop", a_service(image="img:v2", replicas=2))))
        await asyncio.sleep(30)
        assert cluster.view.version == before
        assert images(cluster, "shop_web") == {"img:v1"}
        cluster.log.set_full("manager-1", False)
        await deploying
        await cluster.settle()
        assert images(cluster, "shop_web") == {"img:v2"}

    play(scenario)


def test_secrets_and_configs_reach_tasks_again_after_every_kind_of_restart() -> None:
    async def scenario(cluster: SimulatedCluster) -> None:
        async def shop(content: bytes) -> None:
            web = a_service(replicas=3, config=content, secret="key")
            await cluster.deploy(a_stack("shop", web, config=content, secrets={"key": b"hunter2"}))

        await shop(b"one")
        await cluster.settle()
        for node in cluster.nodes:
            await cluster.kill_agent(node)
            cluster.start_agent(node)
        await cluster.kill_manager()
        await cluster.start_manager()
        await shop(b"two")
        await cluster.settle()
        assert len(running(cluster, "shop_web")) == 3
        assert b"hunter2" not in b"".join(entry.data for entry in cluster.log.entries)

    play(scenario)


def test_an_hour_costs_milliseconds_and_a_seed_gives_one_history() -> None:
    def history() -> list[str]:
        said: list[str] = []

        async def scenario(cluster: SimulatedCluster) -> None:
            await cluster.deploy(a_stack("shop", a_service(replicas=5, image="img:exits-1-after-600s")))
            await asyncio.sleep(3600)
            said.extend(f"{event.at} {event.kind} {event.subject}" for event in cluster.view.events_after(0))

        play(scenario, seed=7)
        return said

    first = history()
    assert len(first) > 20
    assert first == history()
