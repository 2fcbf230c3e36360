"""Drained nodes: replacements that run before what they replace is stopped, and nodes that are lost, removed or too small."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from stackd.base.time import HOUR, MINUTE, SECOND, Duration
from stackd.engine.inputs import Rejected, RemoveNode, RemoveService, ReportNode, ReportTasks, ScaleService, Wake
from stackd.engine.model import Task
from stackd.engine.parts import Availability, NodeState
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Port, PublishMode, Resources, RestartPolicy, TaskSpec, UpdateConfig

from engine_builders import BAD, SOMEBODY, ToyCluster, a_spec, on, once, settings


def a_cluster(replicas: int = 2, nodes: int = 2, spec: TaskSpec | None = None, **fields: Any) -> ToyCluster:
    cluster = ToyCluster(nodes=nodes)
    cluster.run(spec or a_spec(), settings(replicas, **{"drain_start_first": True, **fields}))
    cluster.settle()
    return cluster


def on_node(cluster: ToyCluster, number: int) -> list[Task]:
    return [task for task in cluster.running() if task.node_id == f"node{number}"]


def lowest_while(cluster: ToyCluster, rounds: int) -> int:
    lowest = len(cluster.running())
    for _ in range(rounds):
        cluster.round()
        lowest = min(lowest, len(cluster.running()))
    return lowest


def test_with_drain_start_first_the_replacement_runs_before_the_old_task_is_told_to_stop() -> None:
    cluster = a_cluster()
    (old,) = on_node(cluster, 1)
    cluster.drain(1)
    assert old in cluster.live()
    assert lowest_while(cluster, 12) == 2
    assert {task.node_id for task in cluster.running()} == {"node2"}
    assert cluster.health().converged
    assert all(not task.replaces and task.order is None for task in cluster.live())


def test_without_it_a_drained_node_loses_its_tasks_at_once() -> None:
    cluster = a_cluster(drain_start_first=False)
    (old,) = on_node(cluster, 1)
    cluster.drain(1)
    assert old not in cluster.live()
    assert lowest_while(cluster, 12) == 1


def test_a_drained_node_loses_its_tasks_at_once_also_when_their_turn_in_an_update_is_far_away() -> None:
    cluster = ToyCluster(nodes=2)
    slow = settings(4, update=UpdateConfig(parallelism=2, monitor_ns=1, delay_ns=Duration(HOUR)))
    cluster.run(a_spec("v1"), slow)
    cluster.settle()
    cluster.run(a_spec("v2", placement=on("node.hostname == host2")), slow)
    cluster.until(lambda: "v2" in cluster.images())
    cluster.rounds(5)
    prepared = {task.replaces for task in cluster.live() if task.desired is TaskState.READY}
    assert prepared & {task.id for task in on_node(cluster, 1)}
    cluster.drain(1)
    assert not [task for task in cluster.live() if task.node_id == "node1"]
    cluster.rounds(10)
    assert len(on_node(cluster, 2)) == 4


def test_a_replacement_that_never_runs_holds_the_old_task_no_longer_than_the_progress_deadline() -> None:
    update = UpdateConfig(monitor_ns=1, progress_deadline_ns=Duration(20 * SECOND))
    cluster = a_cluster(1, 2, a_spec(placement=on("node.labels.x != y")), update=update)
    (old,) = cluster.running()
    other = 2 if old.node_id == "node1" else 1
    cluster.drain(other, Availability.PAUSE)
    cluster.drain(int(old.node_id[-1]))
    cluster.rounds(19, after_ns=SECOND)
    assert [task.id for task in cluster.running()] == [old.id]
    cluster.rounds(5, after_ns=SECOND)
    assert cluster.running() == []
    cluster.drain(other, Availability.ACTIVE)
    cluster.settle()


def test_a_replacement_that_fails_is_tried_again_while_the_old_task_goes_on() -> None:
    cluster = a_cluster(1, 2, a_spec(restart=RestartPolicy(delay_ns=Duration(SECOND))))
    (old,) = cluster.running()
    cluster.broken.add("v1")
    cluster.drain(int(old.node_id[-1]))
    cluster.rounds(40)
    assert [task.id for task in cluster.running()] == [old.id]
    cluster.broken.clear()
    cluster.until(lambda: bool(cluster.running()) and cluster.running()[0].id != old.id)
    cluster.settle()


def test_without_attempts_left_the_old_task_stays_for_the_time_that_is_left() -> None:
    update = UpdateConfig(monitor_ns=1, progress_deadline_ns=Duration(MINUTE))
    cluster = a_cluster(1, 2, a_spec(restart=RestartPolicy(delay_ns=0, max_attempts=2)), update=update)
    (old,) = cluster.running()
    cluster.broken.add("v1")
    cluster.drain(int(old.node_id[-1]))
    cluster.rounds(30)
    assert [task.id for task in cluster.running()] == [old.id]
    assert len(cluster.tasks()) == 3
    cluster.rounds(10, after_ns=10 * SECOND)
    assert cluster.running() == []


def test_a_node_that_is_active_again_in_the_middle_does_not_leave_two_tasks() -> None:
    cluster = a_cluster()
    cluster.drain(1)
    cluster.drain(1, Availability.ACTIVE)
    cluster.settle()
    assert len(cluster.running()) == 2


def test_the_node_of_the_replacement_may_be_drained_as_well() -> None:
    cluster = a_cluster(1, 3)
    (old,) = cluster.running()
    cluster.drain(int(old.node_id[-1]))
    mover = cluster.live()[-1]
    cluster.drain(int(mover.node_id[-1]))
    lowest = lowest_while(cluster, 12)
    assert lowest == 1
    assert {task.node_id for task in cluster.running()}.isdisjoint({old.node_id, mover.node_id})


def test_a_new_spec_in_the_middle_of_a_move_is_what_takes_over() -> None:
    cluster = a_cluster(2)
    cluster.drain(1)
    cluster.run(a_spec("v2"), settings(2, drain_start_first=True))
    cluster.settle()
    assert cluster.images() == ["v2", "v2"]
    assert {task.node_id for task in cluster.running()} == {"node2"}


def test_a_fenced_task_is_stopped_before_another_one_runs() -> None:
    cluster = a_cluster(1, 2, a_spec(fence=True))
    cluster.drain(int(cluster.running()[0].node_id[-1]))
    most = 0
    for _ in range(12):
        cluster.round()
        most = max(most, len(cluster.running()))
    assert most == 1
    cluster.settle()


def test_a_move_survives_a_change_of_leader() -> None:
    cluster = a_cluster()
    cluster.drain(1)
    cluster.round()
    cluster.new_leader()
    assert lowest_while(cluster, 12) == 2
    assert {task.node_id for task in cluster.running()} == {"node2"}


# Fencing.


def lost_at(cluster: ToyCluster, task: Task) -> int:
    cluster.crash(int(task.node_id[-1]))
    return cluster.now


@pytest.mark.parametrize("fence", [True, False])
def test_the_successor_of_a_fenced_task_starts_only_when_the_lease_has_certainly_run_out(fence: bool) -> None:
    cluster = a_cluster(1, 2, a_spec(fence=fence))
    (old,) = cluster.running()
    at = lost_at(cluster, old)
    cluster.until(lambda: any(task.id != old.id for task in cluster.running()), limit=600)
    waited = cluster.now - at
    lease, grace = 15 * SECOND, 10 * SECOND
    assert waited >= lease + grace if fence else waited < SECOND


def test_a_fenced_task_that_was_told_to_stop_when_its_node_got_lost_is_waited_for_as_long() -> None:
    cluster = a_cluster(1, 2, a_spec(fence=True))
    (old,) = cluster.running()
    cluster.alive.discard(old.node_id)
    cluster.drain(int(old.node_id[-1]))
    cluster.rounds(10, after_ns=10 * SECOND)  # no timeout helps: the node may still be running it
    assert [task.id for task in cluster.running()] == [old.id]
    at = lost_at(cluster, old)
    cluster.until(lambda: len(cluster.running()) == 2, limit=600)
    assert cluster.now - at >= 25 * SECOND


def test_a_fence_holds_through_a_change_of_leader_and_the_removal_of_the_node() -> None:
    cluster = a_cluster(1, 2, a_spec(fence=True))
    (old,) = cluster.running()
    cluster.alive.discard(old.node_id)
    cluster.submit(RemoveNode(id=old.node_id, principal=SOMEBODY, force=True))
    at = cluster.now
    cluster.new_leader()
    cluster.until(lambda: bool([task for task in cluster.running() if task.id != old.id]), limit=600)
    assert cluster.now - at >= 25 * SECOND


def test_a_fenced_slot_that_is_taken_back_and_wanted_again_waits_for_the_lost_task_that_was_there() -> None:
    """Nobody wants the task any more, but it may still run."""
    cluster = a_cluster(1, 2, a_spec(fence=True))
    (lost,) = cluster.running()
    cluster.alive.discard(lost.node_id)
    cluster.submit(RemoveNode(id=lost.node_id, principal=SOMEBODY, force=True))
    at = cluster.now
    for replicas in (0, 1):
        cluster.submit(ScaleService(name="shop_web", replicas=replicas, principal=SOMEBODY))
        cluster.rounds(2)
    cluster.until(lambda: any(task.id != lost.id for task in cluster.running()))
    assert cluster.now - at >= 25 * SECOND


# Nodes that go.


def test_the_tasks_of_a_node_that_is_down_for_a_day_are_orphaned() -> None:
    cluster = a_cluster()
    (old,) = on_node(cluster, 1)
    cluster.crash(1)
    cluster.rounds(23, after_ns=HOUR)
    assert cluster.state(old) is TaskState.RUNNING
    cluster.rounds(2, after_ns=HOUR)
    assert cluster.state(old) is TaskState.ORPHANED
    status = cluster.view.status_of(old.id)
    assert status.at == cluster.view.now


def test_a_change_of_leader_does_not_restart_the_day() -> None:
    cluster = a_cluster()
    (old,) = on_node(cluster, 1)
    cluster.crash(1)
    cluster.rounds(12, after_ns=HOUR)
    cluster.new_leader()
    cluster.rounds(13, after_ns=HOUR)
    assert cluster.state(old) is TaskState.ORPHANED


def test_the_late_report_of_an_orphaned_task_is_ignored() -> None:
    cluster = a_cluster()
    (old,) = on_node(cluster, 1)
    cluster.crash(1)
    cluster.rounds(25, after_ns=HOUR)
    cluster.recover(1)
    cluster.report(old, TaskState.SHUTDOWN)
    assert cluster.state(old) is TaskState.ORPHANED
    cluster.settle()


def test_a_removed_node_leaves_nothing_waiting() -> None:
    cluster = a_cluster()
    (old,) = on_node(cluster, 1)
    reply = cluster.submit(RemoveNode(id=old.node_id, principal=SOMEBODY))
    assert isinstance(reply, Rejected)
    assert reply.code == "node.remove.up"
    cluster.alive.discard(old.node_id)
    cluster.submit(RemoveNode(id=old.node_id, principal=SOMEBODY, force=True))
    assert cluster.state(old) is TaskState.ORPHANED
    cluster.settle()
    assert {task.node_id for task in cluster.running()} == {"node2"}
    assert cluster.submit(ReportNode(id=old.node_id, state=NodeState.DOWN)) is not None
    assert old.node_id not in cluster.view.nodes


def test_a_new_leader_knows_nothing_of_its_nodes_until_they_have_registered() -> None:
    cluster = a_cluster()
    cluster.alive.discard(cluster.running()[0].node_id)
    cluster.new_leader()
    states = {status.state for status in cluster.view.node_statuses.values()}
    assert states == {NodeState.UNKNOWN, NodeState.READY}
    assert len(cluster.running()) == 2
    assert "node.unknown" not in cluster.kinds()


def test_tasks_leave_a_node_that_has_shrunk_until_the_rest_fits_the_youngest_first() -> None:
    cluster = ToyCluster(nodes=1, cpus=4)
    cluster.run(a_spec(reservations=Resources(nano_cpus=10**9)), settings(4))
    cluster.settle()
    for slot in (1, 2):  # the numbers say nothing about who is the youngest
        cluster.report(next(task for task in cluster.running() if task.slot == slot), TaskState.FAILED, error="gone")
        cluster.settle()
    oldest = [task.id for task in cluster.running() if task.slot in (3, 4)]
    cluster.describe_node(1, resources=Resources(nano_cpus=2 * 10**9, memory_bytes=1 << 30))
    cluster.rounds(6)
    assert [task.id for task in cluster.running()] == oldest
    cluster.join(2, cpus=4)
    cluster.settle()
    assert len(cluster.running()) == 4


def test_a_paused_node_that_has_shrunk_keeps_its_tasks() -> None:
    cluster = ToyCluster(nodes=1, cpus=4)
    cluster.run(a_spec(reservations=Resources(nano_cpus=10**9)), settings(4))
    cluster.settle()
    cluster.drain(1, Availability.PAUSE)
    cluster.describe_node(1, resources=Resources(nano_cpus=10**9))
    cluster.rounds(6)
    assert len(cluster.running()) == 4


def test_an_update_on_a_full_node_is_not_taken_for_a_node_that_has_shrunk() -> None:
    cluster = ToyCluster(nodes=1, cpus=2)
    cluster.run(a_spec(reservations=Resources(nano_cpus=10**9)), settings(2))
    cluster.settle()
    cluster.run(a_spec("v2", reservations=Resources(nano_cpus=10**9)), settings(2))
    cluster.settle()
    assert cluster.images() == ["v2", "v2"]
    assert "task.restarted" not in cluster.kinds()


def test_a_service_that_must_not_restart_is_not_moved() -> None:
    cluster = a_cluster(1, 2, a_spec(restart=once()))
    cluster.drain(int(cluster.running()[0].node_id[-1]))
    cluster.rounds(6)
    assert cluster.running() == []
    assert len(cluster.tasks()) == 1


def test_a_port_that_is_taken_everywhere_keeps_a_task_on_its_drained_node_for_its_time() -> None:
    port = Port(target=80, published=80, mode=PublishMode.HOST)
    update = UpdateConfig(monitor_ns=1, progress_deadline_ns=Duration(30 * SECOND))
    cluster = a_cluster(2, 2, a_spec(ports=(port,)), update=update)
    cluster.drain(1)
    cluster.rounds(10, after_ns=SECOND)
    assert len(cluster.running()) == 2
    cluster.rounds(25, after_ns=SECOND)
    assert [task.node_id for task in cluster.running()] == ["node2"]
    assert cluster.health().health == "degraded"


def test_a_bad_image_is_never_what_takes_over() -> None:
    cluster = a_cluster(1, 2)
    (old,) = cluster.running()
    cluster.run(a_spec(BAD), settings(1, drain_start_first=True))
    cluster.rounds(10)
    assert [task.id for task in cluster.running()] == [old.id]


def test_the_record_of_a_removed_task_goes_when_its_fence_has_ended_whatever_else_happens_then() -> None:
    cluster = a_cluster(2, 2, a_spec(fence=True))
    (lost,), (other,) = on_node(cluster, 1), on_node(cluster, 2)
    cluster.alive.discard(lost.node_id)
    cluster.submit(RemoveNode(id=lost.node_id, principal=SOMEBODY, force=True))
    cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))
    cluster.now += MINUTE
    statuses = [cluster.view.status_of(task.id) for task in cluster.view.tasks_of_node(other.node_id)]
    stopped = tuple(msgspec.structs.replace(status, state=TaskState.SHUTDOWN) for status in statuses)
    due = tuple(cluster.wakeups)
    cluster.submit(Wake(services=due, whole=False), ReportTasks(node_id=other.node_id, statuses=stopped))
    assert not cluster.view.tasks
    assert not cluster.view.services


def test_it_goes_also_where_the_service_is_fenced_no_more() -> None:
    cluster = a_cluster(2, 2, a_spec(fence=True))
    (lost,) = on_node(cluster, 1)
    cluster.alive.discard(lost.node_id)
    cluster.submit(RemoveNode(id=lost.node_id, principal=SOMEBODY, force=True))
    cluster.run(a_spec(), settings(0))
    cluster.rounds(20, after_ns=SECOND)
    assert lost.id in cluster.view.tasks
    cluster.rounds(20, after_ns=SECOND)
    assert lost.id not in cluster.view.tasks
