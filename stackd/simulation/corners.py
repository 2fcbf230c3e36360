"""Corners: short histories, each led on purpose to where random ones seldom come.

What takes a day, a thousand records or three coincidences is played here, and counted in the same table of coverage. The
checks are those of every history; a corner only has to get there, and the cluster has to be as wanted in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from stackd.base.time import HOUR
from stackd.engine.inputs import ForceUpdate, RemoveNode, RemoveStack, ScaleService, StageContent
from stackd.engine.parts import SYSTEM, Availability, Owner, RolloutState
from stackd.engine.taskstate import TaskState
from stackd.manager.intake import prepare
from stackd.simulation.cluster import Violation
from stackd.simulation.fences import EXCUSED_SECONDS
from stackd.simulation.stacks import a_service, a_stack
from stackd.simulation.stage import Stage, moved, with_deadline, with_image, with_task
from stackd.spec.stack import FailureAction, Placement, RestartCondition, UpdateOrder

Corner = Callable[[Stage], Awaitable[None]]

NODES = 2
"""How many nodes a corner has."""

SEED = 1

GRAIN = 0.25
"""The loop's, in seconds: what happens at about the same time is decided at once."""

DAY_SECONDS = 86_400.0

LEASE_SECONDS = 15.0
"""The cluster's lease."""

NOWHERE = Placement(constraints=("node.labels.disk == tape",))
IN_ZONE_A = Placement(constraints=("engine.labels.zone == a",))

MANY_SPECS = 2_100
"""More records than one entry may change."""


async def a_move_fails_for_good(stage: Stage) -> None:
    """The drained node keeps its task for as long as a move may take, since what was to take over is not tried again."""
    await stage.deploy(moved(with_deadline(a_service(max_attempts=1, restart_seconds=0.0), 60.0)))
    (old,) = stage.running
    stage.node_beside(old).host.registry_up = False
    await stage.set_node(old, Availability.DRAIN)
    await stage.until(lambda: stage.are(TaskState.REJECTED), "the move has failed")
    stage.node_beside(old).host.registry_up = True
    await stage.cluster.settle()


async def a_task_ends_while_it_is_moved(stage: Stage) -> None:
    """What takes over from it is there already, and is its successor."""
    await stage.deploy(moved(a_service(image="img:pulls-in-10s")))
    (old,) = stage.running
    await stage.set_node(old, Availability.DRAIN)
    await stage.until(lambda: stage.are(TaskState.PREPARING), "the move has begun")
    stage.crash(old)
    await stage.cluster.settle()


async def a_node_is_away_for_a_day(stage: Stage) -> None:
    """The tasks of a node that doesn't come back are given up in the end, without anybody's doing."""
    await stage.deploy(a_service(everywhere=True))
    for node in stage.cluster.nodes:
        await stage.cluster.kill_agent(node)
    await asyncio.sleep(DAY_SECONDS + 600.0)
    if not stage.are(TaskState.ORPHANED):
        raise Violation("the tasks were not given up")
    for node in stage.cluster.nodes:
        stage.cluster.start_agent(node)
    await stage.cluster.settle()


async def a_paused_node_loses_its_task(stage: Stage) -> None:
    """Nothing follows until the node takes tasks again."""
    await stage.deploy(a_service(everywhere=True))
    lost, _ = stage.running
    await stage.set_node(lost, Availability.PAUSE)
    stage.crash(lost)
    await stage.until(lambda: stage.are(TaskState.FAILED), "the task has failed")
    await stage.set_node(lost, Availability.ACTIVE)
    await stage.cluster.settle()


async def an_update_fails_with_nothing_to_go_back_to(stage: Stage) -> None:
    """A rollback leaves no previous spec. A node that was paused during it still has the spec that failed; what takes its
    place later is an update as well, and fails: there is nowhere to go back to."""
    first = a_service(everywhere=True, failure_action=FailureAction.ROLLBACK, monitor_seconds=30.0, parallelism=0)
    await stage.deploy(first)
    await stage.begin(with_image(first, "img:v2"))
    await stage.until(lambda: len(stage.running) == NODES, "the second spec runs")
    left, changed = stage.running
    await stage.set_node(left, Availability.PAUSE)
    stage.crash(changed)
    await stage.until_update_is(RolloutState.ROLLBACK_COMPLETED)
    await stage.set_node(left, Availability.ACTIVE)
    await stage.until_update_is(RolloutState.UPDATING)
    await stage.until(lambda: len(stage.running) == NODES, "the first spec runs again")
    stage.crash(next(task for task in stage.running if task.node_id == left.node_id))
    await stage.until_update_is(RolloutState.PAUSED)
    await stage.cluster.submit(ForceUpdate(name="shop_web", principal=SYSTEM))
    await stage.cluster.settle()


async def an_update_stands_still(stage: Stage) -> None:
    """Its tasks find no node for longer than it may take, so it has failed. What was before comes back by hand."""
    first = with_deadline(a_service(), 20.0)
    await stage.deploy(first)
    await stage.begin(with_task(with_image(first, "img:v2"), placement=NOWHERE))
    await stage.until_update_is(RolloutState.PAUSED)
    await stage.deploy(first)


async def an_update_stands_still_beside_a_move(stage: Stage) -> None:
    """It is said what it waits for, and that is nothing that runs."""
    slow = moved(with_deadline(a_service(image="img:pulls-in-60s", replicas=3, failure_action=FailureAction.CONTINUE), 20.0))
    await stage.deploy(with_image(slow, "img:v1"))
    await stage.begin(slow)
    await stage.until(lambda: stage.running, "the first slot is updated")
    await stage.set_node(stage.running[0], Availability.DRAIN)
    await stage.cluster.settle()


async def an_update_fails_in_every_slot(stage: Stage) -> None:
    """Each new task is tried again once and then given up; the old ones stay, and the update goes on from slot to slot."""
    first = a_service(replicas=6, failure_action=FailureAction.CONTINUE, max_attempts=1)
    await stage.deploy(first)
    await stage.begin(with_image(first, "img:missing:pulls-in-2s"))
    await stage.until_update_is(RolloutState.COMPLETED)
    await stage.deploy(with_image(first, "img:v2"))


async def an_update_is_paused_while_slots_are_prepared(stage: Stage) -> None:
    """What was prepared for slots that still have their old task goes."""
    first = a_service(replicas=4)
    await stage.deploy(first)
    await stage.begin(with_image(first, "img:exits-1-after-2s"))
    await stage.until_update_is(RolloutState.PAUSED)
    await stage.deploy(with_image(first, "img:v2"))


async def an_update_is_overtaken_while_it_starts(stage: Stage) -> None:
    """Start-first: the old task still runs, and what the overtaken update has started beside it goes."""
    first = a_service(order=UpdateOrder.START_FIRST)
    await stage.deploy(first)
    await stage.begin(with_image(first, "img:starts-in-30s"))
    await stage.until(lambda: stage.are(TaskState.STARTING), "the second spec starts")
    await stage.deploy(with_image(first, "img:v3"))


async def an_update_changes_its_order(stage: Stage) -> None:
    """What was prepared to start when the old task has stopped counts on what that one holds; it is prepared anew."""
    first = a_service(image="img:pulls-in-10s")
    await stage.deploy(with_image(first, "img:v1"))
    await stage.begin(first)
    await stage.until(lambda: stage.are(TaskState.PREPARING), "the slot is prepared")
    await stage.deploy(a_service(image="img:pulls-in-10s", order=UpdateOrder.START_FIRST))


async def an_update_to_what_completes(stage: Stage) -> None:
    """A task that has done its work, and need not run again, has not failed."""
    first = a_service(restart=RestartCondition.ON_FAILURE)
    await stage.deploy(first)
    await stage.begin(with_image(first, "img:exits-0-after-2s"))
    await stage.until_update_is(RolloutState.COMPLETED)
    await stage.deploy(first)


async def a_node_changes_after_its_tasks_were_left(stage: Stage) -> None:
    """A task whose spec differs in placement only stays on a node that suits, and is updated when the node no longer does."""
    for node in stage.cluster.nodes:
        node.host.description = msgspec.structs.replace(node.host.description, engine_labels=(("zone", "a"),))
        await stage.cluster.kill_agent(node)
        stage.cluster.start_agent(node)
    await stage.deploy(a_service())
    await stage.deploy(with_task(a_service(), placement=IN_ZONE_A))
    (left,) = [task for task in stage.are(TaskState.RUNNING) if task.desired is TaskState.RUNNING]
    host = stage.node_of(left).host
    host.description = msgspec.structs.replace(host.description, engine_labels=(("zone", "b"),))
    await stage.until(lambda: stage.running and stage.running[0].id != left.id, "the task is replaced")
    await stage.cluster.settle()


async def what_is_prepared_makes_room(stage: Stage) -> None:
    """The new spec fits on one node only, and once there. It is prepared there for a slot that still has its old task, when
    the task of the other slot ends."""
    closed = stage.cluster.nodes[0]
    closed.host.description = msgspec.structs.replace(closed.host.description, features=())
    await stage.cluster.kill_agent(closed)
    stage.cluster.start_agent(closed)
    await stage.deploy(a_service(replicas=2))
    await stage.begin(a_service(image="img:pulls-in-60s", replicas=2, port=30_000))
    await stage.until(lambda: stage.are(TaskState.PREPARING), "one slot is prepared")
    (prepared,) = stage.are(TaskState.PREPARING)
    stage.crash(next(task for task in stage.are(TaskState.RUNNING) if task.slot != prepared.slot))
    await stage.until(lambda: prepared.id not in stage.cluster.view.tasks, "it has made room")
    await stage.cluster.submit(ScaleService(name="shop_web", replicas=1, principal=SYSTEM))
    await stage.cluster.settle()


async def a_fenced_task_is_cut_off(stage: Stage) -> None:
    """Its node stops it when the lease has run out, and that takes a while; nothing starts elsewhere before."""
    await stage.deploy(with_task(a_service(image="img:stops-in-8s"), fence=True))
    (lost,) = stage.running
    node = stage.node_of(lost)
    node.cut_off(True)
    await stage.until(lambda: [task for task in stage.running if task.id != lost.id], "another task has taken its place")
    node.cut_off(False)
    await stage.cluster.settle()


async def a_fenced_task_is_cut_off_and_its_agent_restarts(stage: Stage) -> None:
    """The restart makes the lease no longer: the task ends as soon as the agent is back, and is not waited for longer."""
    await stage.deploy(with_task(a_service(image="img:stops-in-8s"), fence=True))
    (lost,) = stage.running
    node = stage.node_of(lost)
    node.cut_off(True)
    await asyncio.sleep(LEASE_SECONDS - 5.0)
    await stage.cluster.kill_agent(node)
    await asyncio.sleep(LEASE_SECONDS)
    stage.cluster.start_agent(node)
    await stage.until(lambda: [task for task in stage.running if task.id != lost.id], "another task has taken its place")
    node.cut_off(False)
    await stage.cluster.settle()


async def a_fenced_task_is_cut_off_and_clocks_jump(stage: Stage) -> None:
    """Nothing that is done to the manager's clock while the task is waited for makes the wait shorter, nor does its restart."""
    await stage.deploy(with_task(a_service(image="img:stops-in-8s"), fence=True))
    (lost,) = stage.running
    node = stage.node_of(lost)
    node.cut_off(True)
    await stage.until(lambda: stage.running == [], "the node is given up")
    stage.cluster.leader.clock.drift = HOUR
    await asyncio.sleep(1.0)
    await stage.cluster.kill_manager()
    await stage.cluster.start_manager()
    await stage.until(lambda: stage.cluster.view.service_named("shop_web"), "the manager is back")
    await stage.until(lambda: [task for task in stage.running if task.id != lost.id], "another task has taken its place")
    node.cut_off(False)
    await stage.cluster.settle()


async def a_fenced_task_loses_its_node(stage: Stage) -> None:
    """The node is put out and joins again at once, which is how it learns that it has to stop the task."""
    await stage.deploy(with_task(a_service(image="img:stops-in-8s"), fence=True))
    await asyncio.sleep(EXCUSED_SECONDS)
    (lost,) = stage.running
    await stage.cluster.submit(RemoveNode(id=lost.node_id, principal=SYSTEM, force=True))
    await stage.until(lambda: stage.running, "another task has taken its place")
    await stage.cluster.settle()


async def a_host_reboots_while_a_task_starts(stage: Stage) -> None:
    """Its agent finds a process that was started and has ended, and doesn't start it once more."""
    await stage.begin(a_service(image="img:starts-in-30s"))
    await stage.until(lambda: stage.are(TaskState.STARTING), "the task starts")
    (starting,) = stage.are(TaskState.STARTING)
    node = stage.node_of(starting)
    await stage.cluster.kill_agent(node)
    node.reboot()
    stage.cluster.start_agent(node)
    await stage.cluster.settle()


async def content_that_nobody_deploys(stage: Stage) -> None:
    """It is kept for a while, in case that somebody does, and collected in as many entries as it takes."""
    await stage.deploy(a_service(), a_service("other"))
    services = [a_service(f"s{number}", f"img:{number}") for number in range(MANY_SPECS)]
    staged = prepare([(a_stack("never", *services, config=b"never"), Owner())], stage.cluster.key)
    await stage.cluster.submit(StageContent(specs=staged.specs, blobs=staged.blobs))
    await stage.deploy(a_service())
    await asyncio.sleep(1200.0)
    await stage.cluster.submit(RemoveStack(name="shop", principal=SYSTEM))
    await asyncio.sleep(1200.0)
    stage.cluster.require_nothing_left()


CORNERS: dict[str, Corner] = {
    corner.__name__: corner
    for corner in (
        a_move_fails_for_good,
        a_task_ends_while_it_is_moved,
        a_node_is_away_for_a_day,
        a_paused_node_loses_its_task,
        an_update_fails_with_nothing_to_go_back_to,
        an_update_stands_still,
        an_update_stands_still_beside_a_move,
        an_update_fails_in_every_slot,
        an_update_is_paused_while_slots_are_prepared,
        an_update_is_overtaken_while_it_starts,
        an_update_changes_its_order,
        an_update_to_what_completes,
        a_node_changes_after_its_tasks_were_left,
        what_is_prepared_makes_room,
        a_fenced_task_is_cut_off,
        a_fenced_task_is_cut_off_and_its_agent_restarts,
        a_fenced_task_is_cut_off_and_clocks_jump,
        a_fenced_task_loses_its_node,
        a_host_reboots_while_a_task_starts,
        content_that_nobody_deploys,
    )
}
