"""Slots, replicas, global services, history, removal."""

from __future__ import annotations

import pytest
from stackd.base.ids import NodeId
from stackd.engine.inputs import ForceUpdate, RemoveService, RemoveStack, ReportNode, ScaleService, UpdateCluster
from stackd.engine.parts import Availability, NodeState
from stackd.engine.status import NodeStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Port, PublishMode, Resources, ServiceMode

from engine_builders import (
    ENDING,
    SOMEBODY,
    ToyCluster,
    a_spec,
    on,
    once,
    settings,
)


def scale(cluster: ToyCluster, replicas: int) -> None:
    cluster.submit(ScaleService(name="shop_web", replicas=replicas, principal=SOMEBODY))


def test_the_tasks_of_a_new_service_enter_the_log_already_placed_in_one_entry() -> None:
    cluster = ToyCluster()
    before = cluster.entries
    cluster.run(wanted=settings(5))
    assert cluster.entries == before + 2  # the staged spec, then everything else
    assert [task.slot for task in cluster.tasks()] == [1, 2, 3, 4, 5]
    assert {cluster.state(task) for task in cluster.tasks()} == {TaskState.ASSIGNED}
    assert {task.node_id for task in cluster.tasks()} == {"node1"}


def test_slots_after_scaling_down_and_up_again_are_the_lowest_numbers() -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(5))
    cluster.settle()
    scale(cluster, 3)
    cluster.settle()
    scale(cluster, 5)
    cluster.settle()
    assert [task.slot for task in cluster.running()] == [1, 2, 3, 4, 5]


def test_scaling_replaces_no_task() -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(2))
    cluster.settle()
    kept = {task.id for task in cluster.running()}
    scale(cluster, 4)
    cluster.settle()
    assert kept <= {task.id for task in cluster.running()}
    assert cluster.service().spec_version > cluster.tasks()[0].spec_version
    assert "shop_web" not in {rollout.service_id for rollout in cluster.view.rollouts.values()}


def test_a_slot_that_is_wanted_again_waits_for_the_task_that_is_still_stopping_there() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(wanted=settings(2))
    cluster.settle()
    (old,) = [task for task in cluster.running() if task.slot == 2]
    scale(cluster, 1)
    scale(cluster, 2)
    (new,) = [task for task in cluster.live() if task.slot == 2]
    assert new.desired is TaskState.READY
    assert new.gate is not None
    assert new.gate.after == old.id
    cluster.until(lambda: cluster.state(new) >= TaskState.STARTING)
    assert old.id not in [task.id for task in cluster.running()]


def test_scaling_to_zero_removes_every_task_and_its_record() -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(3))
    cluster.settle()
    scale(cluster, 0)
    cluster.settle()
    assert cluster.tasks() == []


def test_scaling_down_leaves_the_nodes_even() -> None:
    """Also where neighbouring slots are on one node, so that going by their numbers alone would empty it."""
    cluster = ToyCluster()
    cluster.run(wanted=settings(2))
    for number in (2, 3):
        cluster.join(number)
        scale(cluster, 2 * number)
        cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node1", "node1", "node2", "node2", "node3", "node3"]
    scale(cluster, 3)
    cluster.settle()
    assert [(task.slot, task.node_id) for task in cluster.running()] == [(1, "node1"), (3, "node2"), (5, "node3")]


def test_scaling_down_takes_tasks_that_do_not_run_first() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(wanted=settings(3))
    cluster.settle()
    first = cluster.tasks()[0]
    cluster.report(first, TaskState.FAILED, error="killed")
    scale(cluster, 2)
    cluster.settle()
    assert [task.slot for task in cluster.running()] == [2, 3]


def test_a_finished_run_once_task_occupies_its_slot_until_the_spec_changes() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(ENDING, restart=once()), settings(3))
    cluster.settle()
    finished = [task.id for task in cluster.tasks()]
    assert len(finished) == 3
    cluster.rounds(5)
    assert [task.id for task in cluster.tasks()] == finished
    cluster.submit(ForceUpdate(name="shop_web", principal=SOMEBODY))
    cluster.settle()
    assert len([task for task in cluster.tasks() if task.id not in finished]) == 3


def test_completed_one_shots_are_converged_and_healthy() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(ENDING, restart=once()), settings(1))
    cluster.settle()
    assert cluster.health() == ("healthy", True, "")


def test_a_global_service_runs_once_on_every_node_that_suits() -> None:
    cluster = ToyCluster(nodes=3)
    cluster.run(a_spec(placement=on("node.hostname != host2")), settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node1", "node3"]


def test_a_node_that_joins_gets_its_global_task() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(wanted=settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    cluster.join(2)
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node1", "node2"]


def test_a_global_task_waits_on_its_node_until_that_can_be_seen_again() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.submit(ReportNode(id=NodeId("node2"), state=NodeState.UNKNOWN))
    cluster.run(wanted=settings(mode=ServiceMode.GLOBAL))
    cluster.rounds(5)
    assert [task.node_id for task in cluster.running()] == ["node1"]
    (waiting,) = [task for task in cluster.live() if task.node_id == "node2"]
    assert cluster.view.status_of(waiting.id).reason == "schedule.not_ready"
    cluster.recover(2)
    assert cluster.state(waiting) is TaskState.ASSIGNED


def test_no_record_of_a_global_task_is_left_of_a_node_that_was_removed() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(wanted=settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    cluster.remove_node(2)
    assert [task.node_id for task in cluster.tasks()] == ["node1"]


def test_a_paused_node_keeps_its_global_task_and_gets_no_new_one() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.drain(2, Availability.PAUSE)
    cluster.run(wanted=settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node1"]
    cluster.drain(1, Availability.PAUSE)
    cluster.rounds(5)
    assert [(task.node_id, task.desired) for task in cluster.tasks()] == [("node1", TaskState.RUNNING)]


def test_a_global_task_stays_on_a_paused_node_that_changes_and_leaves_when_its_service_changes() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(placement=on("node.hostname != elsewhere")), settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    cluster.drain(2, Availability.PAUSE)
    cluster.describe_node(2, hostname="elsewhere")
    cluster.rounds(3)
    assert [task.node_id for task in cluster.running()] == ["node1", "node2"]
    assert cluster.health().converged
    cluster.run(a_spec(placement=on("node.hostname == host1")), settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node1"]


def test_a_global_task_of_a_drained_node_is_stopped_and_comes_back_with_the_node() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(wanted=settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    cluster.drain(2)
    cluster.rounds(5)
    assert [task.node_id for task in cluster.running()] == ["node1"]
    cluster.drain(2, Availability.ACTIVE)
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node1", "node2"]


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_history_keeps_as_many_records_per_slot_as_the_cluster_says(limit: int) -> None:
    """The newest ones, and what runs is one of them."""
    cluster = ToyCluster()
    cluster.submit(UpdateCluster(principal=SOMEBODY, history_limit=limit))
    cluster.run(wanted=settings(1))
    made = []
    for _ in range(8):
        cluster.settle()
        made.append(cluster.running()[0].id)
        cluster.report(cluster.running()[0], TaskState.FAILED, error="killed")
    cluster.settle()
    made.append(cluster.running()[0].id)
    assert [task.id for task in cluster.tasks()] == made[-limit:]


def test_a_removed_service_loses_its_name_at_once_and_its_record_with_its_last_task() -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(2))
    cluster.settle()
    service = cluster.service()
    cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))
    assert cluster.view.service_named("shop_web") is None
    assert service.id in cluster.view.services
    cluster.until(lambda: service.id not in cluster.view.services)
    assert list(cluster.view.tasks.values()) == []
    assert list(cluster.view.statuses.values()) == []


def test_a_service_made_again_under_the_same_name_adopts_no_old_task() -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(2))
    cluster.settle()
    old = cluster.service().id
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    cluster.run(wanted=settings(2))
    assert cluster.service().id != old
    cluster.settle()
    cluster.until(lambda: old not in cluster.view.services)
    assert len(cluster.running()) == 2


def test_a_task_that_fits_nowhere_says_why_and_is_placed_when_room_appears() -> None:
    cluster = ToyCluster(nodes=1, cpus=1)
    big = a_spec(reservations=Resources(nano_cpus=2 * 10**9))
    cluster.run(big, settings(1))
    (task,) = cluster.tasks()
    status = cluster.view.status_of(task.id)
    assert (status.state, status.reason) == (TaskState.PENDING, "schedule.resources")
    assert status.error == "no suitable node (insufficient resources on 1 node)"
    assert cluster.health().health == "degraded"
    assert cluster.kinds().count("task.unplaceable") == 1
    cluster.join(2, cpus=4)
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node2"]


def test_tasks_that_fit_nowhere_are_told_of_once_with_how_many_they_are() -> None:
    for replicas, subject in ((1, "shop_web.1"), (3, "shop_web.1 (and 2 more)")):
        cluster = ToyCluster(nodes=1, cpus=1)
        cluster.run(a_spec(reservations=Resources(nano_cpus=2 * 10**9)), settings(replicas))
        (event,) = [event for event in cluster.view.events.values() if event.kind == "task.unplaceable"]
        assert event.subject == subject


def test_a_waiting_task_gets_the_port_that_another_service_gives_up() -> None:
    cluster = ToyCluster(nodes=1)
    port = Port(target=80, published=8080, mode=PublishMode.HOST)
    cluster.deploy(
        ("a", a_spec(ports=(port,)), settings(1)),
        ("b", a_spec("v2", ports=(port,)), settings(1)),
    )
    cluster.rounds(5)
    assert len(cluster.running("shop_a")) + len(cluster.running("shop_b")) == 1
    winner = "shop_a" if cluster.running("shop_a") else "shop_b"
    loser = "shop_b" if winner == "shop_a" else "shop_a"
    cluster.submit(RemoveService(name=winner, principal=SOMEBODY))
    cluster.until(lambda: bool(cluster.running(loser)))


def test_a_service_larger_than_one_entry_is_created_in_several() -> None:
    cluster = ToyCluster(nodes=1, checked=False)
    cluster.run(wanted=settings(2500))
    assert len(cluster.tasks()) == 2500
    assert {cluster.state(task) for task in cluster.tasks()} == {TaskState.ASSIGNED}
    assert max(len(changes.puts) for changes in cluster.history) < 2600


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_full_pass_of_a_new_leader_changes_nothing_that_is_well(replicas: int) -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(replicas))
    cluster.settle()
    before = cluster.entries
    cluster.new_leader()
    assert cluster.written_since(before) == {NodeStatus}


def test_a_label_that_comes_or_goes_on_a_node_brings_or_takes_the_global_task() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(placement=on("engine.labels.disk == ssd")), settings(mode=ServiceMode.GLOBAL))
    cluster.rounds(3)
    assert cluster.tasks() == []
    cluster.describe_node(2, engine_labels=(("disk", "ssd"),))
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node2"]
    cluster.describe_node(2)
    cluster.settle()
    assert cluster.running() == []


def test_a_node_that_was_down_gets_another_global_task_and_its_old_one_is_told_to_stop() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(wanted=settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    before = cluster.tasks()
    (old,) = [task for task in cluster.running() if task.node_id == "node2"]
    cluster.crash(2)
    assert [task.desired for task in cluster.tasks() if task.id == old.id] == [TaskState.SHUTDOWN]
    cluster.recover(2)
    cluster.settle()
    assert len(cluster.tasks()) == len(before) + 1
    assert cluster.state(old) is TaskState.SHUTDOWN


def test_each_global_service_is_judged_by_its_own_record_when_a_node_returns() -> None:
    cluster = ToyCluster(nodes=2)
    everywhere = settings(mode=ServiceMode.GLOBAL)
    cluster.deploy(("once", a_spec(ENDING, restart=once()), everywhere), ("web", a_spec(), everywhere))
    cluster.rounds(8)
    done = [task.id for task in cluster.tasks("shop_once")]
    cluster.crash(2)
    cluster.recover(2)
    cluster.settle()
    assert [task.id for task in cluster.tasks("shop_once")] == done
    assert len(cluster.running("shop_web")) == 2


def test_among_equals_scaling_down_takes_the_highest_slots() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(wanted=settings(5))
    cluster.settle()
    scale(cluster, 2)
    cluster.settle()
    assert [task.slot for task in cluster.running()] == [1, 2]


def test_new_constraints_take_the_global_task_of_an_excluded_node_at_once_and_roll_over_the_others() -> None:
    cluster = ToyCluster(nodes=3)
    cluster.run(a_spec("v1"), settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    cluster.run(a_spec("v2", placement=on("node.hostname != host3")), settings(mode=ServiceMode.GLOBAL))
    gone = [task for task in cluster.tasks() if task.node_id == "node3"]
    assert [task.desired for task in gone] == [TaskState.SHUTDOWN]
    assert len([task for task in cluster.live() if task.node_id != "node3" and task.desired is TaskState.RUNNING]) == 2
    cluster.settle()
    assert cluster.images() == ["v2", "v2"]
