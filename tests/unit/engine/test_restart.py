"""Restarts, delays, attempts, eviction."""

from __future__ import annotations

import msgspec
import pytest
from stackd.base.time import MINUTE, SECOND, Duration, Instant
from stackd.engine.inputs import ReportNode, ReportTasks, RollbackService, SetSpec, StageContent
from stackd.engine.model import SpecRow
from stackd.engine.parts import Availability, NodeState, RolloutState
from stackd.engine.restart_policy import counted
from stackd.engine.taskstate import TaskState
from stackd.spec.digest import spec_digest
from stackd.spec.stack import RestartCondition, RestartPolicy, UpdateConfig, UpdateOrder

from engine_builders import BAD, FLAPPING, SOMEBODY, ToyCluster, a_spec, on, once, settings

FIVE_SECONDS = Duration(5 * SECOND)


def policy(**fields: object) -> RestartPolicy:
    return RestartPolicy(**{"delay_ns": 0, **fields})  # type: ignore[arg-type]


def a_cluster(restart: RestartPolicy, *, image: str = "v1", replicas: int = 1, nodes: int = 1) -> ToyCluster:
    cluster = ToyCluster(nodes=nodes)
    cluster.run(a_spec(image, restart=restart), settings(replicas))
    cluster.rounds(4)
    return cluster


def fail(cluster: ToyCluster) -> None:
    cluster.report(cluster.running()[0], TaskState.FAILED, error="task: non-zero exit (1)", exit_code=1)


def test_a_failed_task_is_replaced_in_its_slot_in_the_same_entry_as_its_report() -> None:
    cluster = a_cluster(policy())
    before = cluster.entries
    fail(cluster)
    assert cluster.entries == before + 1
    failed, successor = cluster.tasks()
    assert (failed.desired, cluster.state(failed)) == (TaskState.SHUTDOWN, TaskState.FAILED)
    assert (successor.slot, successor.desired, cluster.state(successor)) == (1, TaskState.RUNNING, TaskState.ASSIGNED)


def test_the_restart_delay_runs_while_the_successor_is_prepared() -> None:
    cluster = a_cluster(policy(delay_ns=FIVE_SECONDS))
    fail(cluster)
    failed_at = cluster.now
    cluster.rounds(6)
    successor = cluster.tasks()[-1]
    assert (successor.desired, cluster.state(successor)) == (TaskState.READY, TaskState.READY)
    cluster.until(lambda: bool(cluster.running()))
    assert cluster.view.status_of(successor.id).running_at >= failed_at + FIVE_SECONDS


def test_a_new_leader_keeps_the_delay_that_is_running() -> None:
    cluster = a_cluster(policy(delay_ns=FIVE_SECONDS))
    fail(cluster)
    failed_at = cluster.now
    cluster.new_leader()
    cluster.until(lambda: bool(cluster.running()))
    assert FIVE_SECONDS <= cluster.now - failed_at <= FIVE_SECONDS + SECOND


def test_a_slot_whose_old_and_new_task_end_in_one_report_is_filled_again_also_when_that_pauses_the_update() -> None:
    start_first = settings(1, update=UpdateConfig(order=UpdateOrder.START_FIRST))
    cluster = a_cluster(policy())
    cluster.run(a_spec("v2", restart=policy()), start_first)
    cluster.until(lambda: all(task.desired is TaskState.RUNNING for task in cluster.live()))
    ended = [cluster.view.status_of(task.id) for task in cluster.live()]
    assert len(ended) == 2
    failed = tuple(msgspec.structs.replace(status, state=TaskState.FAILED) for status in ended)
    cluster.submit(ReportTasks(node_id=cluster.running()[0].node_id, statuses=failed))
    rollout = cluster.view.rollouts.get(cluster.service().id)
    assert rollout is not None
    assert rollout.state is RolloutState.PAUSED
    assert [(task.slot, task.spec) for task in cluster.live()] == [(1, cluster.service().spec)]


def test_a_task_that_fails_while_it_waits_to_start_is_not_replaced_faster_than_the_delay() -> None:
    cluster = a_cluster(policy(delay_ns=FIVE_SECONDS), image=BAD)
    cluster.rounds(200)
    made = cluster.kinds().count("task.rejected")
    assert 4 <= made <= 6


@pytest.mark.parametrize(
    ("condition", "state", "restarts"),
    [
        (RestartCondition.ANY, TaskState.COMPLETE, True),
        (RestartCondition.ANY, TaskState.FAILED, True),
        (RestartCondition.ON_FAILURE, TaskState.COMPLETE, False),
        (RestartCondition.ON_FAILURE, TaskState.FAILED, True),
        (RestartCondition.ON_FAILURE, TaskState.REJECTED, True),
        (RestartCondition.NONE, TaskState.COMPLETE, False),
        (RestartCondition.NONE, TaskState.FAILED, False),
    ],
)
def test_the_condition_decides_whether_a_task_is_restarted(
    condition: RestartCondition, state: TaskState, restarts: bool
) -> None:
    cluster = a_cluster(policy(condition=condition))
    cluster.report(cluster.running()[0], state, error="" if state is TaskState.COMPLETE else "gone")
    assert (len(cluster.tasks()) == 2) is restarts
    assert (len(cluster.live()) == 1) is restarts


def test_three_attempts_are_four_tasks_per_slot_and_spec() -> None:
    cluster = a_cluster(policy(max_attempts=3), image=FLAPPING)
    cluster.rounds(40)
    assert len(cluster.tasks()) == 4
    assert cluster.live() == []
    assert cluster.health().health == "failed"
    assert "task.given_up" in cluster.kinds()
    spec = a_spec(FLAPPING, restart=policy(max_attempts=3), placement=on("node.role == worker"))
    changed = a_spec(FLAPPING, restart=policy(max_attempts=3, window_ns=3600 * SECOND))
    assert spec != changed
    cluster.submit(StageContent(specs=(SpecRow(digest=spec_digest(changed), spec=changed),)))
    cluster.submit(SetSpec(name="shop_web", spec=spec_digest(changed), settings=cluster.service().settings, principal=SOMEBODY))
    cluster.rounds(60)
    assert len([task for task in cluster.tasks() if task.spec == spec_digest(changed)]) == 4


def test_attempts_outlive_a_change_of_leader() -> None:
    cluster = a_cluster(policy(max_attempts=3), image=FLAPPING)
    for _ in range(20):
        cluster.new_leader()
        cluster.rounds(2)
    assert len(cluster.tasks()) == 4


def test_the_attempts_of_another_spec_do_not_count() -> None:
    """What follows an old task while the update is paused has the new spec, and all its attempts before it."""
    cluster = a_cluster(policy(max_attempts=3))
    for _ in range(2):
        fail(cluster)
        cluster.rounds(6)
    assert len(cluster.running()[0].restarts) == 2
    cluster.run(a_spec(BAD, restart=policy(max_attempts=3)), settings(1))
    cluster.until(lambda: "rollout.paused" in cluster.kinds())
    fail(cluster)
    assert [(task.spec, task.restarts) for task in cluster.live()] == [(cluster.service().spec, ())]


def test_what_fails_when_its_update_is_taken_back_has_had_that_try() -> None:
    """What was prepared to take its place is of the spec that nobody wants any more, and is no successor."""
    cluster = a_cluster(policy(delay_ns=FIVE_SECONDS, max_attempts=2), replicas=2)
    cluster.run(a_spec("v2", restart=policy()), settings(2))
    cluster.until(lambda: any(task.slot == 2 and task.desired is TaskState.READY for task in cluster.live()))
    (old,) = [task for task in cluster.running() if task.slot == 2]
    failed = msgspec.structs.replace(cluster.view.status_of(old.id), state=TaskState.FAILED)
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY), ReportTasks(node_id=old.node_id, statuses=(failed,)))
    (successor,) = [task for task in cluster.live() if task.slot == 2 and task.spec == old.spec]
    assert len(successor.restarts) == 1
    assert successor.gate is not None
    assert successor.gate.not_before == cluster.now + FIVE_SECONDS


def test_only_attempts_within_the_window_count() -> None:
    cluster = a_cluster(policy(max_attempts=2, window_ns=10 * SECOND))
    for _ in range(6):
        fail(cluster)
        cluster.rounds(6, after_ns=2 * SECOND)
    assert len(cluster.running()) == 1


def test_an_attempt_as_long_ago_as_the_window_counts_no_more() -> None:
    window = policy(max_attempts=3, window_ns=10 * SECOND)
    attempts = (Instant(5 * SECOND), Instant(5 * SECOND + 1))
    assert counted(window, attempts, Instant(15 * SECOND)) == attempts[1:]


def test_a_drained_node_hands_its_tasks_over_without_delay_and_waits_for_the_old_ones() -> None:
    cluster = a_cluster(policy(delay_ns=FIVE_SECONDS), replicas=2, nodes=2)
    cluster.drain(1)
    old = next(task for task in cluster.tasks() if task.node_id == "node1")
    new = cluster.tasks()[-1] if cluster.tasks()[-1].slot == old.slot else cluster.tasks()[1]
    assert old.desired is TaskState.SHUTDOWN
    assert new.gate is not None
    assert new.gate.after == old.id
    cluster.rounds(6)
    assert [task.node_id for task in cluster.running()] == ["node2", "node2"]


def test_tasks_of_a_node_that_is_down_run_elsewhere_without_waiting_for_the_old() -> None:
    cluster = a_cluster(policy(), replicas=1, nodes=2)
    (old,) = cluster.running()
    cluster.crash(int(old.node_id[-1]))
    cluster.until(lambda: bool([task for task in cluster.running() if task.id != old.id]))
    assert cluster.health().converged


@pytest.mark.parametrize("state", [NodeState.UNKNOWN, NodeState.DISCONNECTED])
def test_a_node_that_is_only_out_of_sight_keeps_its_tasks(state: NodeState) -> None:
    cluster = a_cluster(policy(), replicas=2, nodes=2)
    entries, tasks = cluster.entries, cluster.tasks()
    cluster.submit(ReportNode(id=tasks[0].node_id, state=state))
    cluster.rounds(3)
    assert cluster.entries == entries + 1
    assert cluster.tasks() == tasks


def test_a_paused_node_keeps_its_tasks() -> None:
    cluster = a_cluster(policy(), replicas=2, nodes=2)
    cluster.drain(1, Availability.PAUSE)
    cluster.rounds(3)
    assert len(cluster.tasks()) == 2


def test_a_task_moves_off_an_active_node_that_no_longer_satisfies_its_constraints() -> None:
    cluster = two_nodes_with_an_engine_label()
    cluster.describe_node(1)
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node2", "node2"]


def test_a_paused_node_keeps_tasks_whose_constraints_it_no_longer_satisfies_until_it_is_active() -> None:
    cluster = two_nodes_with_an_engine_label()
    kept = [task.id for task in cluster.tasks()]
    cluster.drain(1, Availability.PAUSE)
    cluster.describe_node(1)
    cluster.rounds(3)
    assert [task.id for task in cluster.running()] == kept
    assert cluster.health().converged
    cluster.drain(1, Availability.ACTIVE)
    cluster.settle()
    assert [task.node_id for task in cluster.running()] == ["node2", "node2"]


def two_nodes_with_an_engine_label() -> ToyCluster:
    """One of two replicas on each node; both need the label, and a node that is described anew without it has it no more."""
    cluster = ToyCluster(nodes=2)
    for number in (1, 2):
        cluster.describe_node(number, engine_labels=(("disk", "ssd"),))
    cluster.run(a_spec(placement=on("engine.labels.disk == ssd")), settings(2))
    cluster.settle()
    assert {task.node_id for task in cluster.running()} == {"node1", "node2"}
    return cluster


def test_an_evicted_task_that_must_not_restart_is_stopped_and_not_replaced() -> None:
    cluster = a_cluster(once(), replicas=1, nodes=2)
    (task,) = cluster.running()
    cluster.drain(int(task.node_id[-1]))
    cluster.rounds(5)
    assert [(task.desired, cluster.state(task)) for task in cluster.tasks()] == [(TaskState.SHUTDOWN, TaskState.SHUTDOWN)]


def test_a_successor_gives_up_waiting_after_a_minute() -> None:
    cluster = a_cluster(policy(), replicas=1, nodes=2)
    (old,) = cluster.running()
    node = int(old.node_id[-1])
    cluster.alive.discard(old.node_id)  # it doesn't answer, but nobody has noticed yet
    cluster.drain(node)
    drained_at = cluster.now
    cluster.until(lambda: len(cluster.running()) == 2, limit=700)
    assert MINUTE <= cluster.now - drained_at <= MINUTE + SECOND
    assert cluster.view.status_of(old.id).state is TaskState.RUNNING


def test_a_label_that_goes_moves_exactly_the_tasks_of_the_services_that_need_it() -> None:
    cluster = ToyCluster(nodes=2)
    for number in (1, 2):
        cluster.describe_node(number, engine_labels=(("disk", "ssd"),))
    cluster.deploy(
        ("fast", a_spec(placement=on("engine.labels.disk == ssd")), settings(2)),
        ("any", a_spec("v2"), settings(2)),
    )
    cluster.settle()
    kept = {task.id for task in cluster.running("shop_any")}
    cluster.describe_node(1)
    cluster.settle()
    assert {task.node_id for task in cluster.running("shop_fast")} == {"node2"}
    assert {task.id for task in cluster.running("shop_any")} == kept


def test_the_task_that_runs_is_never_reaped_and_the_history_is_bounded_also_with_attempts() -> None:
    cluster = a_cluster(policy(max_attempts=8, window_ns=Duration(SECOND)))
    for _ in range(12):
        fail(cluster)
        cluster.rounds(8, after_ns=SECOND)
        assert len(cluster.running()) == 1
    assert len(cluster.tasks()) == 9


def test_a_slot_whose_old_task_completes_while_the_update_is_paused_gets_the_new_one_that_may_be_tried_again() -> None:
    """What the old task's policy says of it is not the last word: the slot's latest task is one that may be restarted."""
    on_failure = policy(condition=RestartCondition.ON_FAILURE, max_attempts=3)
    cluster = a_cluster(on_failure)
    (old,) = cluster.running()
    cluster.run(a_spec(BAD, restart=on_failure), settings(1))
    cluster.until(lambda: rollout_state(cluster) is RolloutState.PAUSED)
    cluster.rounds(3)
    assert [task.id for task in cluster.live()] == [old.id]
    cluster.report(old, TaskState.COMPLETE, exit_code=0)
    (new,) = cluster.live()
    assert new.spec == cluster.service().spec
    assert len(new.restarts) == 1


def rollout_state(cluster: ToyCluster) -> RolloutState:
    rollout = cluster.view.rollouts.get(cluster.service().id)
    assert rollout is not None
    return rollout.state
