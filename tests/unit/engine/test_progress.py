"""Updates that don't get on: the progress deadline, and start-first where both tasks never fit."""

from __future__ import annotations

from typing import Any

import pytest
from stackd.base.ids import NodeId
from stackd.base.time import MINUTE, SECOND, Duration
from stackd.engine.inputs import RegisterNode, SetAvailability
from stackd.engine.parts import Availability, RolloutState
from stackd.engine.status import Rollout
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import (
    FailureAction,
    Placement,
    Port,
    PublishMode,
    Resources,
    RestartPolicy,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)

from engine_builders import CRASHING, SOMEBODY, ToyCluster, a_description, a_node, a_spec, on, settings

DEADLINE = Duration(30 * SECOND)
NEARLY_ALL = Resources(nano_cpus=7 * 10**9)
PORT = Port(target=80, published=8080, mode=PublishMode.HOST)


def config(**fields: Any) -> UpdateConfig:
    return UpdateConfig(**{"monitor_ns": 1, "progress_deadline_ns": DEADLINE, **fields})


START_FIRST = config(order=UpdateOrder.START_FIRST)


def rollout(cluster: ToyCluster) -> Rollout:
    found = cluster.view.rollouts.get(cluster.service().id)
    assert found is not None
    return found


def a_stuck_update(update: UpdateConfig, rollback: UpdateConfig | None = None) -> ToyCluster:
    """`shop_web` is to be updated to something that no node can take."""
    cluster = ToyCluster()
    wanted = settings(2, update=update, rollback=rollback or config())
    cluster.run(a_spec("v1"), wanted)
    cluster.settle()
    cluster.run(a_spec("v2", placement=on("node.hostname == nowhere")), wanted)
    return cluster


def test_an_update_that_does_not_get_on_pauses_and_says_what_it_waits_for() -> None:
    cluster = a_stuck_update(config())
    cluster.rounds(29, after_ns=SECOND)
    assert rollout(cluster).state is RolloutState.UPDATING
    cluster.rounds(2, after_ns=SECOND)
    assert rollout(cluster).state is RolloutState.PAUSED
    assert rollout(cluster).message == (
        "update paused: no task was replaced for 30 s: a node for shop_web.1: "
        "no suitable node (scheduling constraints not satisfied on 1 node)"
    )
    assert cluster.images() == ["v1", "v1"]
    assert "rollout.stalled" in cluster.kinds()


def test_an_update_whose_first_task_does_not_come_to_run_says_which_it_is() -> None:
    cluster = ToyCluster()
    wanted = settings(2, update=config())
    cluster.run(a_spec("v1"), wanted)
    cluster.settle()
    cluster.alive.clear()
    cluster.run(a_spec("v2"), wanted)
    cluster.rounds(32, after_ns=SECOND)
    assert rollout(cluster).state is RolloutState.PAUSED
    assert rollout(cluster).cause.startswith("no task was replaced for 30 s: shop_web.1: ")


def test_what_was_prepared_for_slots_that_run_goes_when_the_update_is_paused() -> None:
    cluster = ToyCluster()
    wanted = settings(4, update=config())
    cluster.run(a_spec("v1"), wanted)
    cluster.settle()
    cluster.run(a_spec(CRASHING), wanted)
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED)
    cluster.round()
    assert [task.slot for task in cluster.live() if task.spec != cluster.service().spec] == [2, 3, 4]
    assert not [task.slot for task in cluster.live() if task.spec == cluster.service().spec and task.slot > 1]


def test_a_slot_on_its_way_to_what_is_wanted_once_more_is_one_of_those_to_replace() -> None:
    cluster = ToyCluster()
    wanted = settings(3, update=config())
    cluster.run(a_spec("v1"), wanted)
    cluster.settle()
    cluster.run(a_spec("v2"), wanted)
    begun = cluster.tasks()[1]
    cluster.until(lambda: cluster.tasks()[1].desired is TaskState.RUNNING)
    cluster.report(begun, TaskState.STARTING)
    for image in ("v3", "v2"):
        cluster.run(a_spec(image), wanted)
    assert rollout(cluster).total == 3
    cluster.settle()


def test_it_rolls_back_where_that_is_what_failures_lead_to() -> None:
    cluster = a_stuck_update(config(failure_action=FailureAction.ROLLBACK))
    cluster.rounds(40, after_ns=SECOND)
    assert rollout(cluster).state is RolloutState.ROLLBACK_COMPLETED
    assert cluster.health().converged
    assert cluster.images() == ["v1", "v1"]


def test_with_continue_it_is_only_told_again_and_again() -> None:
    cluster = a_stuck_update(config(failure_action=FailureAction.CONTINUE))
    cluster.rounds(100, after_ns=SECOND)
    assert rollout(cluster).state is RolloutState.UPDATING
    assert cluster.kinds().count("rollout.stalled") == 3


def test_watching_what_runs_is_no_standstill_however_long_it_takes() -> None:
    cluster = ToyCluster()
    watched = config(progress_deadline_ns=Duration(10 * SECOND), monitor_ns=Duration(60 * SECOND))
    for image in ("v1", "v2"):
        cluster.run(a_spec(image), settings(1, update=watched))
        cluster.settle(limit=900)
    assert [kind for kind in cluster.kinds() if kind.startswith("rollout.")] == ["rollout.updating", "rollout.completed"]


def test_without_a_deadline_it_may_take_for_ever() -> None:
    cluster = a_stuck_update(config(progress_deadline_ns=Duration(0)))
    cluster.rounds(20, after_ns=10 * MINUTE)
    assert rollout(cluster).state is RolloutState.UPDATING


def test_a_rollback_that_does_not_get_on_pauses() -> None:
    cluster = a_stuck_update(config(failure_action=FailureAction.ROLLBACK))
    cluster.rounds(28, after_ns=SECOND)
    cluster.crash(1)
    cluster.rounds(40, after_ns=SECOND)
    assert rollout(cluster).state is RolloutState.ROLLBACK_PAUSED


def test_every_slot_that_is_done_begins_the_deadline_anew() -> None:
    cluster = ToyCluster()
    slow = config(delay_ns=Duration(20 * SECOND))
    cluster.run(a_spec("v1"), settings(4, update=slow))
    cluster.settle()
    cluster.run(a_spec("v2"), settings(4, update=slow))
    cluster.until(lambda: rollout(cluster).state is RolloutState.COMPLETED, limit=1000)
    assert cluster.now - rollout(cluster).started_at > 2 * DEADLINE


def test_the_pause_between_two_slots_may_be_longer_than_the_deadline() -> None:
    cluster = ToyCluster()
    slow = config(delay_ns=Duration(MINUTE))
    cluster.run(a_spec("v1"), settings(2, update=slow))
    cluster.settle()
    cluster.run(a_spec("v2"), settings(2, update=slow))
    cluster.until(lambda: rollout(cluster).state is RolloutState.COMPLETED, limit=1000)


def test_the_deadline_outlives_a_change_of_leader_and_the_time_without_one_does_not_count() -> None:
    cluster = a_stuck_update(config())
    cluster.now += 10 * MINUTE  # nobody leads
    cluster.new_leader()
    assert rollout(cluster).state is RolloutState.UPDATING
    cluster.rounds(32, after_ns=SECOND)
    assert rollout(cluster).state is RolloutState.PAUSED


# Start-first where both at once fit nowhere.


def a_full_cluster(spec: TaskSpec, nodes: int = 2, replicas: int = 2) -> ToyCluster:
    cluster = ToyCluster(nodes=nodes, cpus=2)
    cluster.run(spec, settings(replicas, update=START_FIRST))
    cluster.settle()
    return cluster


@pytest.mark.parametrize(
    "fields",
    [
        {"ports": (PORT,)},
        {"reservations": Resources(nano_cpus=2 * 10**9)},
        {"placement": Placement(max_per_node=1)},
    ],
    ids=["host port", "resources", "max replicas per node"],
)
def test_a_start_first_update_that_fits_nowhere_beside_the_old_tasks_goes_on_stop_first_and_says_so(
    fields: dict[str, Any],
) -> None:
    cluster = a_full_cluster(a_spec("v1", **fields))
    cluster.run(a_spec("v2", **fields), settings(2, update=START_FIRST))
    lowest = 2
    while not cluster.health().converged:
        cluster.round()
        lowest = min(lowest, len(cluster.running()))
    assert (cluster.images(), lowest) == (["v2", "v2"], 1)
    told = [event.message for event in cluster.view.events_after(0) if event.kind == "rollout.gave_way"]
    assert len(told) == 2
    assert told[0].startswith("the old task has to stop first: no suitable node (")
    assert all(task.order is None for task in cluster.live())


def test_where_another_node_has_room_nothing_gives_way() -> None:
    cluster = a_full_cluster(a_spec("v1", ports=(PORT,)), nodes=3)
    cluster.run(a_spec("v2", ports=(PORT,)), settings(2, update=START_FIRST))
    lowest = 2
    while not cluster.health().converged:
        cluster.round()
        lowest = min(lowest, len(cluster.running()))
    assert (cluster.images(), lowest) == (["v2", "v2"], 2)
    assert "rollout.gave_way" not in cluster.kinds()


def listening(image: str, **fields: Any) -> TaskSpec:
    return a_spec(image, ports=(PORT,), **fields)


def test_what_is_prepared_takes_no_place_from_a_slot_that_is_let_go_in_the_same_decision() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(listening("v1"), settings(1, update=START_FIRST))
    cluster.settle()
    cluster.run(listening("v2"), settings(2, update=START_FIRST))
    cluster.round()
    cluster.run(listening("v3"), settings(2, update=START_FIRST))
    assert [task.slot for task in cluster.live() if task.desired is TaskState.READY and task.node_id] == []
    cluster.rounds(9, after_ns=SECOND)
    assert cluster.images() == ["v3", "v3"]


def an_update_that_stands_in_its_own_way() -> ToyCluster:
    """The turn of slot 3, in which nothing runs, has come; slot 2's next task, which is only prepared, has taken the port that
    is left, and no node has anything more to report."""
    wanted = settings(3, update=config(order=UpdateOrder.START_FIRST, delay_ns=2 * SECOND))
    cluster = ToyCluster(nodes=0)
    cluster.join(1, labels={"disk": "ssd"})
    cluster.join(2, labels={"disk": "ssd"})
    cluster.run(listening("v1", placement=on("node.labels.disk == ssd")), wanted)
    cluster.rounds(4)
    cluster.remove_node(1)
    cluster.join(3)
    cluster.join(4)
    cluster.run(listening("v2"), wanted)
    cluster.until(lambda: any(task.slot == 3 for task in cluster.live() if task.spec == cluster.service().spec))
    return cluster


def test_what_is_prepared_gives_way_to_a_slot_in_which_nothing_runs() -> None:
    cluster = an_update_that_stands_in_its_own_way()
    cluster.rounds(40, after_ns=SECOND)
    assert cluster.health().converged
    assert cluster.images() == ["v2", "v2", "v2"]


def test_what_is_prepared_gives_way_only_when_a_stop_would_have_made_room_by_now() -> None:
    cluster = an_update_that_stands_in_its_own_way()
    (prepared,) = [task for task in cluster.live() if task.slot == 2 and task.desired is TaskState.READY]
    cluster.rounds(9, after_ns=SECOND)
    assert prepared.id in [task.id for task in cluster.live()]
    cluster.rounds(2, after_ns=SECOND)
    assert prepared.id not in [task.id for task in cluster.live()]
    assert all(task.node_id for task in cluster.live() if task.slot == 3)


def test_nothing_is_prepared_while_a_slot_in_which_nothing_runs_waits_for_a_node() -> None:
    cluster = an_update_that_stands_in_its_own_way()
    cluster.rounds(9, after_ns=SECOND)
    while not all(task.node_id for task in cluster.live() if task.slot == 3):
        cluster.round(SECOND)
    assert [task.slot for task in cluster.live() if task.desired is TaskState.READY] == []


def test_a_stop_first_image_that_is_bad_costs_nothing_also_after_giving_way() -> None:
    cluster = a_full_cluster(a_spec("v1", ports=(PORT,)))
    cluster.broken.add("v2")
    cluster.run(a_spec("v2", ports=(PORT,)), settings(2, update=START_FIRST))
    cluster.rounds(10)
    assert rollout(cluster).state is RolloutState.PAUSED
    assert cluster.images() == ["v1", "v1"]


def test_what_fits_nowhere_at_all_is_left_to_the_deadline() -> None:
    cluster = a_full_cluster(a_spec("v1"))
    cluster.run(a_spec("v2", reservations=Resources(nano_cpus=9 * 10**9)), settings(2, update=START_FIRST))
    cluster.rounds(40, after_ns=SECOND)
    assert rollout(cluster).state is RolloutState.PAUSED
    assert cluster.images() == ["v1", "v1"]


# What is part of a rollout.


def test_a_slot_that_is_filled_during_an_update_instead_of_being_updated_is_part_of_it() -> None:
    cluster = ToyCluster(nodes=2)
    update = config(monitor_ns=10 * SECOND)
    cluster.run(a_spec("v1"), settings(2, update=update))
    cluster.settle()
    cluster.run(a_spec("v2"), settings(2, update=update))
    cluster.crash(1)
    cluster.crash(2)
    assert {task.rollout for task in cluster.live()} == {1}
    cluster.recover(1)
    cluster.until(lambda: bool(cluster.running()) and cluster.running()[0].rollout == 1)
    cluster.report(cluster.live()[0], TaskState.FAILED, error="bad")
    assert rollout(cluster).state is RolloutState.PAUSED


def test_a_new_task_whose_node_is_drained_before_it_runs_is_followed_by_one_that_is_part_of_the_update() -> None:
    cluster = ToyCluster(nodes=2)
    update = config(parallelism=1, delay_ns=Duration(5 * SECOND))
    cluster.run(a_spec("v1"), settings(2, update=update))
    cluster.settle()
    cluster.run(a_spec("v2"), settings(2, update=update))
    cluster.until(lambda: any(task.replaces and task.desired is TaskState.RUNNING for task in cluster.live()))
    (new,) = [task for task in cluster.live() if task.replaces and task.desired is TaskState.RUNNING]
    cluster.drain(int(new.node_id[-1]))
    cluster.until(lambda: rollout(cluster).done == 1)
    assert cluster.view.tasks.get(new.id) not in cluster.live()
    cluster.until(lambda: rollout(cluster).state is RolloutState.COMPLETED)
    assert (rollout(cluster).done, rollout(cluster).failed) == (2, ())


def test_a_slot_counts_as_failed_once_however_often_it_is_tried_again() -> None:
    cluster = ToyCluster()
    update = config(order=UpdateOrder.START_FIRST, max_failure_ratio=1.0)
    cluster.run(a_spec("v1"), settings(2, update=update))
    cluster.settle()
    cluster.broken.add("v2")
    cluster.run(a_spec("v2", restart=RestartPolicy(delay_ns=0)), settings(2, update=update))
    cluster.rounds(6)
    assert (len(rollout(cluster).failed), rollout(cluster).state) == (2, RolloutState.UPDATING)
    assert len([task for task in cluster.tasks() if task.rollout == 1]) > 4
    cluster.broken.clear()
    cluster.settle()
    assert (rollout(cluster).state, rollout(cluster).done, rollout(cluster).total) == (RolloutState.COMPLETED, 2, 2)


def test_a_start_first_task_gives_way_also_in_the_decision_in_which_another_one_finds_its_place() -> None:
    """That one takes nobody's place, so it frees nothing (`ToyCluster` asks after every entry)."""
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec("v1", reservations=NEARLY_ALL), settings(2, update=START_FIRST))
    cluster.settle()
    first, second = cluster.running()
    for number in (1, 2):
        cluster.drain(number, Availability.PAUSE)
    cluster.run(a_spec("v2", reservations=NEARLY_ALL), settings(2, update=START_FIRST))
    cluster.remove_node(int(first.node_id.removeprefix("node")))
    cluster.alive.add(NodeId("node3"))
    cluster.submit(
        RegisterNode(id=NodeId("node3"), description=a_description(3), node=a_node(3)),
        SetAvailability(id=second.node_id, availability=Availability.ACTIVE, principal=SOMEBODY),
    )
    assert "rollout.gave_way" in cluster.kinds()
    cluster.settle()
    assert cluster.images() == ["v2", "v2"]
