"""The rolling updater."""

from __future__ import annotations

import msgspec
import pytest
from stackd.base.ids import NodeId
from stackd.base.records import encode
from stackd.base.time import MILLISECOND, SECOND, Duration
from stackd.engine.inputs import ForceUpdate, ReportTasks, RollbackService, ScaleService
from stackd.engine.parts import RolloutState
from stackd.engine.status import NodeStatus, Rollout
from stackd.engine.store import Transaction
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import (
    FailureAction,
    Port,
    PublishMode,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSettings,
    UpdateConfig,
    UpdateOrder,
)

from engine_builders import BAD, CRASHING, ENDING, FLAPPING, SOMEBODY, ToyCluster, a_spec, on, once, settings

START_FIRST = UpdateConfig(order=UpdateOrder.START_FIRST, monitor_ns=1)
ROLL_BACK = UpdateConfig(failure_action=FailureAction.ROLLBACK, monitor_ns=1)


def config(**fields: object) -> UpdateConfig:
    return UpdateConfig(**{"monitor_ns": 1, **fields})  # type: ignore[arg-type]


def a_cluster(replicas: int = 3, update: UpdateConfig | None = None, **fields: object) -> ToyCluster:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec("v1"), settings(replicas, update=update or config(), **fields))
    cluster.settle()
    return cluster


def update(cluster: ToyCluster, image: str = "v2", **fields: object) -> None:
    cluster.run(a_spec(image, **fields), cluster.service().settings)


def rollout(cluster: ToyCluster) -> Rollout:
    found = cluster.view.rollouts.get(cluster.service().id)
    assert found is not None
    return found


def lowest_running_during(cluster: ToyCluster) -> int:
    lowest = len(cluster.running())
    for _ in range(200):
        if cluster.health().converged:
            return lowest
        cluster.round()
        lowest = min(lowest, len(cluster.running()))
    raise AssertionError(cluster.describe())


def test_an_update_replaces_every_task_once() -> None:
    cluster = a_cluster(4)
    update(cluster)
    cluster.settle()
    assert cluster.images() == ["v2"] * 4
    assert len(cluster.tasks()) == 8
    assert rollout(cluster).state is RolloutState.COMPLETED
    assert (rollout(cluster).total, rollout(cluster).done) == (4, 4)


def test_creating_a_service_is_no_update() -> None:
    assert len(a_cluster().view.rollouts) == 0


@pytest.mark.parametrize(("parallelism", "lowest"), [(1, 5), (2, 4), (0, 0)])
def test_stop_first_takes_down_as_many_slots_as_parallelism_says(parallelism: int, lowest: int) -> None:
    cluster = a_cluster(6, config(parallelism=parallelism))
    update(cluster)
    assert lowest_running_during(cluster) == lowest


@pytest.mark.parametrize(("parallelism", "prepared"), [(1, 2), (2, 4), (6, 10)])
def test_as_many_are_prepared_as_are_updated_at_once_and_at_most_four_ahead_of_them(parallelism: int, prepared: int) -> None:
    cluster = a_cluster(16, config(parallelism=parallelism))
    update(cluster)
    most = 0
    while not cluster.health().converged:
        most = max(most, sum(task.desired is TaskState.READY for task in cluster.live()))
        cluster.round()
    assert most == prepared


@pytest.mark.parametrize("parallelism", [1, 2, 0])
def test_start_first_never_runs_fewer_tasks_than_wanted(parallelism: int) -> None:
    cluster = a_cluster(4, config(parallelism=parallelism, order=UpdateOrder.START_FIRST))
    update(cluster)
    assert lowest_running_during(cluster) == 4


def test_new_tasks_of_the_next_slots_are_prepared_before_their_turn() -> None:
    cluster = a_cluster(6, config(parallelism=1))
    update(cluster)
    assert [(task.slot, task.desired) for task in cluster.live() if task.rollout] == [
        (1, TaskState.READY),
        (2, TaskState.READY),
    ]


def test_the_new_task_is_told_to_start_in_the_entry_that_reports_the_old_one_down() -> None:
    cluster = a_cluster(1)
    update(cluster)
    cluster.until(lambda: cluster.tasks()[0].desired is TaskState.SHUTDOWN)
    old, new = cluster.tasks()
    assert new.desired is TaskState.READY
    before = cluster.entries
    cluster.report(old, TaskState.SHUTDOWN)
    assert cluster.entries == before + 1
    assert cluster.tasks()[-1].desired is TaskState.RUNNING


def test_an_image_that_cannot_be_prepared_pauses_the_update_with_no_downtime() -> None:
    cluster = a_cluster(3)
    update(cluster, BAD)
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED)
    cluster.rounds(20)
    assert cluster.images() == ["v1"] * 3
    assert len(cluster.live()) == 3
    assert rollout(cluster).message == "update paused: shop_web.1 rejected: no such image"
    assert cluster.health() == ("failed", False, "update paused: shop_web.1 rejected: no such image")
    assert cluster.tasks()[1].desired is TaskState.SHUTDOWN  # its record stays and shows why


def test_a_task_that_fails_to_start_pauses_the_update_and_the_slot_is_still_restarted() -> None:
    cluster = a_cluster(3)
    update(cluster, CRASHING)
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED)
    cluster.rounds(6)
    assert cluster.images() == ["v1"] * 2
    assert any(task.slot == 1 for task in cluster.live())


def test_after_a_pause_a_fixed_spec_rolls_on() -> None:
    cluster = a_cluster(3)
    update(cluster, BAD)
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED)
    update(cluster, "v3")
    cluster.settle()
    assert cluster.images() == ["v3"] * 3
    assert rollout(cluster).generation == 2


def test_a_forced_update_of_a_paused_one_starts_over() -> None:
    cluster = a_cluster(2)
    update(cluster, BAD)
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED)
    cluster.submit(ForceUpdate(name="shop_web", principal=SOMEBODY))
    assert rollout(cluster).state is RolloutState.UPDATING


def test_scaling_a_paused_service_does_not_resume_its_update() -> None:
    cluster = a_cluster(2)
    update(cluster, BAD)
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED)
    cluster.submit(ScaleService(name="shop_web", replicas=3, principal=SOMEBODY))
    assert rollout(cluster).state is RolloutState.PAUSED


def test_a_failed_update_rolls_back_to_the_previous_spec() -> None:
    cluster = a_cluster(3, ROLL_BACK)
    before = {task.id for task in cluster.running()}
    update(cluster, CRASHING)
    cluster.until(lambda: rollout(cluster).state is RolloutState.ROLLBACK_COMPLETED)
    cluster.settle()
    assert cluster.images() == ["v1"] * 3
    assert len(before & {task.id for task in cluster.running()}) == 2  # only the slot that was taken is replaced
    assert cluster.service().previous is None
    assert "can't be started" in rollout(cluster).message


def test_a_rolled_back_service_has_the_submitted_version_of_its_old_spec() -> None:
    cluster = a_cluster(2, ROLL_BACK)
    version = cluster.service().spec_version
    update(cluster, BAD)
    cluster.until(lambda: rollout(cluster).state is RolloutState.ROLLBACK_COMPLETED)
    assert cluster.service().spec_version == version


def test_a_failing_rollback_pauses_instead_of_rolling_back() -> None:
    cluster = a_cluster(2, ROLL_BACK, rollback=ROLL_BACK)
    cluster.broken.add("v1")  # its image has left the registry meanwhile
    update(cluster, CRASHING)
    cluster.until(lambda: rollout(cluster).state is RolloutState.ROLLBACK_PAUSED)
    assert rollout(cluster).message.startswith("rollback paused: shop_web.1 rejected")
    cluster.rounds(10)
    assert cluster.images() == ["v1"]


def test_rolling_back_by_hand_can_be_undone() -> None:
    cluster = a_cluster(2)
    update(cluster, "v2")
    cluster.settle()
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY))
    assert rollout(cluster).state is RolloutState.ROLLBACK_STARTED
    assert rollout(cluster).message in ("manually requested rollback", "rollback in progress")
    cluster.settle()
    assert cluster.images() == ["v1"] * 2
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY))
    cluster.settle()
    assert cluster.images() == ["v2"] * 2


def test_a_ratio_that_is_reached_exactly_is_not_exceeded() -> None:
    """29 of 50 is 0.58, though 0.58 times 50 is a little less than 29 in binary."""
    cluster = a_cluster(50, config(parallelism=0, max_failure_ratio=0.58, monitor_ns=SECOND))
    update(cluster)
    cluster.until(lambda: len([task for task in cluster.running() if task.rollout]) == 50)
    *borne, one_too_many = (cluster.view.status_of(task.id) for task in cluster.running()[:30])
    for failing, state in ((borne, RolloutState.UPDATING), ([one_too_many], RolloutState.PAUSED)):
        failed = tuple(msgspec.structs.replace(status, state=TaskState.FAILED) for status in failing)
        cluster.submit(ReportTasks(node_id=NodeId("node1"), statuses=failed))
        assert rollout(cluster).state is state


def test_the_ratio_is_one_of_the_slots_that_are_updated_however_many_come_beside_them() -> None:
    cluster = a_cluster(2, config(parallelism=0, max_failure_ratio=0.5, monitor_ns=SECOND))
    update(cluster)
    cluster.submit(ScaleService(name="shop_web", replicas=6, principal=SOMEBODY))
    cluster.until(lambda: len([task for task in cluster.running() if task.rollout]) == 2)
    for state in (RolloutState.UPDATING, RolloutState.PAUSED):
        cluster.report(next(task for task in cluster.running() if task.rollout), TaskState.FAILED, error="killed")
        assert rollout(cluster).state is state


def test_failures_up_to_the_ratio_are_borne() -> None:
    cluster = a_cluster(4, config(max_failure_ratio=0.5, monitor_ns=SECOND))
    update(cluster, "v2")
    for slot in (1, 2):
        cluster.until(lambda slot=slot: any(task.rollout and task.slot == slot for task in cluster.running()))
        victim = next(task for task in cluster.running() if task.rollout and task.slot == slot)
        cluster.report(victim, TaskState.FAILED, error="killed")
    assert (len(rollout(cluster).failed), rollout(cluster).state) == (2, RolloutState.UPDATING)
    slots = {1, 2}
    cluster.until(lambda: {task.slot for task in cluster.running() if task.rollout} > slots)
    cluster.report(next(task for task in cluster.running() if task.slot in slots), TaskState.FAILED, error="killed again")
    assert (len(rollout(cluster).failed), rollout(cluster).state) == (2, RolloutState.UPDATING)
    victim = next(task for task in cluster.running() if task.rollout and task.slot not in slots)
    cluster.report(victim, TaskState.FAILED, error="killed")
    assert rollout(cluster).state is RolloutState.PAUSED


def test_a_failure_after_the_monitor_window_is_not_the_updates() -> None:
    cluster = a_cluster(2, config(monitor_ns=SECOND, delay_ns=Duration(5 * SECOND)))
    update(cluster)
    cluster.until(lambda: any(task.rollout for task in cluster.running()))
    cluster.rounds(2, after_ns=SECOND)
    cluster.report(next(task for task in cluster.running() if task.rollout), TaskState.FAILED, error="killed")
    assert rollout(cluster).failed == ()


def test_the_monitor_window_begins_when_the_task_runs_however_long_it_was_prepared_before() -> None:
    cluster = a_cluster(2, config(delay_ns=Duration(10 * SECOND), monitor_ns=Duration(2 * SECOND)))
    update(cluster)
    cluster.until(lambda: cluster.images() == ["v2", "v2"])
    (last,) = [task for task in cluster.running() if cluster.view.status_of(task.id).running_at == cluster.now]
    assert cluster.now - last.created_at > 5 * SECOND
    cluster.report(last, TaskState.FAILED, error="killed")
    assert rollout(cluster).state is RolloutState.PAUSED


def test_a_failure_of_an_old_task_is_not_the_updates() -> None:
    cluster = a_cluster(3)
    update(cluster)
    cluster.report(cluster.running()[-1], TaskState.FAILED, error="killed")
    assert rollout(cluster).failed == ()
    cluster.settle()
    assert cluster.images() == ["v2"] * 3


def test_with_continue_failures_are_only_counted() -> None:
    cluster = a_cluster(3, config(failure_action=FailureAction.CONTINUE))
    update(cluster, CRASHING)
    cluster.until(lambda: rollout(cluster).state is RolloutState.COMPLETED)
    assert len(rollout(cluster).failed) == 3


def test_the_update_delay_is_kept_between_slots() -> None:
    cluster = a_cluster(2, config(delay_ns=Duration(10 * SECOND)))
    update(cluster)
    cluster.settle()
    first, second = (cluster.view.status_of(task.id).running_at for task in cluster.running())
    assert abs(second - first) >= 10 * SECOND


def test_what_ends_right_after_its_start_breaks_no_more_tasks_than_are_updated_at_once() -> None:
    cluster = a_cluster(6, config(parallelism=2, monitor_ns=Duration(2 * SECOND)))
    update(cluster)
    cluster.until(lambda: cluster.images().count("v2") == 2)
    cluster.rounds(3, after_ns=Duration(100 * MILLISECOND))
    assert cluster.images().count("v1") == 4
    for task in cluster.running():
        if task.rollout:
            cluster.report(task, TaskState.FAILED, error="no such file")
    assert rollout(cluster).state is RolloutState.PAUSED
    assert cluster.images() == ["v1"] * 4


def test_the_monitor_window_ends_the_update_and_a_nanosecond_costs_nothing() -> None:
    cluster = a_cluster(1, config(monitor_ns=Duration(5 * SECOND)))
    update(cluster)
    cluster.until(lambda: cluster.images() == ["v2"])
    ran = cluster.now
    assert rollout(cluster).state is RolloutState.UPDATING
    cluster.until(lambda: rollout(cluster).state is RolloutState.COMPLETED)
    assert cluster.now - ran >= 5 * SECOND
    cluster = a_cluster(1, config(monitor_ns=1))
    update(cluster)
    cluster.until(lambda: cluster.images() == ["v2"])
    assert rollout(cluster).state is RolloutState.COMPLETED


def test_a_new_spec_in_the_middle_wins_and_keeps_what_matches_already() -> None:
    cluster = a_cluster(4)
    original = {task.id for task in cluster.running()}
    update(cluster, "v2")
    cluster.until(lambda: "v2" in cluster.images())
    update(cluster, "v1")
    cluster.settle()
    assert cluster.images() == ["v1"] * 4
    assert len(original & {task.id for task in cluster.running()}) >= 2


def test_tasks_prepared_for_a_spec_no_longer_wanted_are_removed() -> None:
    cluster = a_cluster(3)
    update(cluster, "v2")
    update(cluster, "v1")
    cluster.settle()
    assert len(cluster.tasks()) == 3
    assert cluster.images() == ["v1"] * 3


def test_replicas_and_settings_change_in_place() -> None:
    cluster = a_cluster(3)
    kept = [task.id for task in cluster.running()]
    cluster.run(a_spec("v1"), settings(3, update=config(parallelism=2), labels=(("a", "b"),)))
    cluster.settle()
    assert [task.id for task in cluster.running()] == kept


def test_constraints_that_the_node_satisfies_change_in_place_and_others_replace() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec("v1"), settings(2))
    cluster.settle()
    kept, moved = cluster.running()
    cluster.run(a_spec("v1", placement=on(f"node.id == {kept.node_id}")), settings(2))
    cluster.settle()
    running = cluster.running()
    assert kept.id in {task.id for task in running}
    assert moved.id not in {task.id for task in running}
    assert {task.node_id for task in running} == {kept.node_id}


def test_a_replacement_may_use_what_the_task_it_replaces_holds() -> None:
    cluster = ToyCluster(nodes=1, cpus=2)
    port = (Port(target=80, published=8080, mode=PublishMode.HOST),)
    whole = Resources(nano_cpus=2 * 10**9)
    cluster.run(a_spec("v1", ports=port, reservations=whole), settings(1))
    cluster.settle()
    cluster.run(a_spec("v2", ports=port, reservations=whole), settings(1))
    assert lowest_running_during(cluster) == 0
    assert cluster.images() == ["v2"]


def test_a_replacement_that_fits_nowhere_keeps_the_old_task_and_the_rollout_says_why() -> None:
    cluster = ToyCluster(nodes=1, cpus=2)
    cluster.run(a_spec("v1"), settings(1))
    cluster.settle()
    cluster.run(a_spec("v2", reservations=Resources(nano_cpus=3 * 10**9)), settings(1))
    cluster.rounds(10)
    assert cluster.images() == ["v1"]
    assert rollout(cluster).message == (
        "update waits for a node for shop_web.1: no suitable node (insufficient resources on 1 node)"
    )
    assert cluster.health().health == "degraded"


def test_a_finished_run_once_task_is_replaced_in_its_turn() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(ENDING, restart=once()), settings(3))
    cluster.until(lambda: cluster.live() == [] and bool(cluster.tasks()))
    cluster.run(a_spec("v2", restart=once()), settings(3))
    assert len(cluster.live()) == 1
    cluster.settle()
    assert cluster.images() == ["v2"] * 3


def test_a_slot_whose_attempts_are_used_up_keeps_its_old_task() -> None:
    cluster = a_cluster(2, config(failure_action=FailureAction.CONTINUE))
    update(cluster, BAD, restart=once())
    cluster.until(lambda: rollout(cluster).state is RolloutState.COMPLETED)
    cluster.rounds(10)
    assert cluster.images() == ["v1"] * 2
    assert not cluster.health().converged
    assert cluster.health().health == "degraded"


def test_a_stuck_service_takes_a_good_spec_at_once() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(BAD, restart=RestartPolicy(delay_ns=Duration(600 * SECOND))), settings(2))
    cluster.rounds(5)
    cluster.run(a_spec("v2"), settings(2))
    cluster.settle(limit=30)
    assert cluster.images() == ["v2"] * 2


def test_a_global_service_rolls_node_by_node() -> None:
    cluster = ToyCluster(nodes=3)
    cluster.run(a_spec("v1"), settings(mode=ServiceMode.GLOBAL))
    cluster.settle()
    cluster.run(a_spec("v2"), settings(mode=ServiceMode.GLOBAL))
    assert lowest_running_during(cluster) == 2
    assert cluster.images() == ["v2"] * 3
    assert [task.node_id for task in cluster.running()] == ["node1", "node2", "node3"]


def test_a_new_leader_goes_on_with_an_update() -> None:
    cluster = a_cluster(4)
    update(cluster)
    for _ in range(100):
        cluster.new_leader()
        cluster.round()
        if cluster.health().converged:
            break
        assert rollout(cluster).state is RolloutState.UPDATING
    assert cluster.images() == ["v2"] * 4
    assert rollout(cluster).generation == 1


def test_a_new_leader_keeps_the_pause_between_two_slots() -> None:
    cluster = a_cluster(2, config(delay_ns=Duration(10 * SECOND)))
    update(cluster)
    cluster.until(lambda: "v2" in cluster.images())
    cluster.new_leader()
    cluster.settle()
    first, second = (cluster.view.status_of(task.id).running_at for task in cluster.running())
    assert abs(second - first) >= 10 * SECOND


def test_what_was_prepared_stop_first_is_not_started_beside_its_old_task_when_the_settings_change() -> None:
    """It counts on what the old task holds, and the node has no room for both."""
    cluster = ToyCluster(cpus=8)
    half = Resources(nano_cpus=4 * 10**9)
    cluster.run(a_spec(reservations=half), settings(2, update=config(delay_ns=Duration(10 * SECOND))))
    cluster.settle()
    update(cluster, reservations=half)
    cluster.until(lambda: [task.desired for task in cluster.live()].count(TaskState.READY) == 1 and len(cluster.running()) == 2)
    cluster.run(a_spec("v2", reservations=half), settings(2, update=START_FIRST))
    for _ in range(100):
        cluster.round()
        assert len(cluster.running()) <= 2
    assert cluster.images() == ["v2", "v2"]
    assert "rollout.gave_way" in cluster.kinds()


def test_scaling_up_during_an_update_makes_tasks_of_the_new_spec_at_once() -> None:
    cluster = a_cluster(2)
    update(cluster)
    cluster.submit(ScaleService(name="shop_web", replicas=5, principal=SOMEBODY))
    fresh = [task for task in cluster.live() if task.slot > 2]
    assert {task.spec for task in fresh} == {cluster.service().spec}
    assert len(fresh) == 3
    cluster.settle()


def test_scaling_in_the_middle_of_an_update_leaves_the_good_spec_to_go_back_to() -> None:
    cluster = a_cluster(2, ROLL_BACK)
    good = cluster.service().spec
    update(cluster, CRASHING)
    cluster.submit(ScaleService(name="shop_web", replicas=3, principal=SOMEBODY))
    cluster.until(lambda: rollout(cluster).state is RolloutState.ROLLBACK_COMPLETED)
    assert (cluster.service().spec, cluster.service().settings.replicas) == (good, 3)


def test_a_slot_lost_together_with_the_successor_prepared_for_it_is_still_part_of_the_update() -> None:
    cluster = ToyCluster(nodes=3)
    cluster.run(a_spec("v1"), settings(6, update=config(parallelism=2)))
    cluster.settle()
    update(cluster)
    old, prepared = (task for task in cluster.live() if task.slot == 2)
    assert (old.node_id, prepared.desired) == (prepared.node_id, TaskState.READY)
    cluster.crash(int(old.node_id.removeprefix("node")))
    (successor,) = (task for task in cluster.live() if task.slot == 2)
    assert (successor.replaces, successor.rollout) == (old.id, rollout(cluster).generation)
    cluster.settle()
    assert (rollout(cluster).done, rollout(cluster).total) == (6, 6)


def test_an_old_task_goes_when_its_successor_runs_however_many_other_slots_were_lost_meanwhile() -> None:
    cluster = ToyCluster(nodes=3)
    cluster.run(a_spec("v1"), settings(6, update=config(parallelism=1, order=UpdateOrder.START_FIRST)))
    cluster.settle()
    update(cluster)
    old, new = (task for task in cluster.live() if task.slot == 1)
    cluster.report(new, TaskState.PREPARING)
    lost = next(number for number in (1, 2, 3) if f"node{number}" not in (old.node_id, new.node_id))
    cluster.crash(lost)
    replaced_early = [task for task in cluster.live() if task.rollout and task.desired is TaskState.RUNNING and task.slot != 1]
    assert len(replaced_early) == 2  # more than the update takes on by itself
    cluster.report(new, TaskState.RUNNING)
    assert (cluster.tasks()[0].id, cluster.tasks()[0].desired) == (old.id, TaskState.SHUTDOWN)
    cluster.settle()
    assert rollout(cluster).state is RolloutState.COMPLETED


def test_many_new_specs_in_a_row_never_pile_up_tasks_in_a_slot() -> None:
    cluster = a_cluster(1, START_FIRST)
    for number in range(2, 7):
        update(cluster, f"v{number}")
        cluster.rounds(2)
        assert len([task for task in cluster.live() if task.desired is TaskState.RUNNING]) <= 2
        assert cluster.images() == ["v1"]
    cluster.settle()
    assert cluster.images() == ["v6"]


def test_a_rollback_with_a_task_that_was_never_placed_settles() -> None:
    cluster = ToyCluster(nodes=3)
    restart = RestartPolicy(condition=RestartCondition.ON_FAILURE, delay_ns=0)
    port = (Port(target=80, published=8080, mode=PublishMode.HOST),)
    surging = config(parallelism=3, failure_action=FailureAction.ROLLBACK, max_failure_ratio=0.5, order=UpdateOrder.START_FIRST)
    cluster.run(a_spec("v1", restart=once()), settings(4))
    cluster.run(a_spec(CRASHING, restart=restart, ports=port), settings(4, update=surging))
    cluster.settle()
    assert cluster.images() == ["v1"] * 4


def test_a_paused_rollback_writes_nothing_when_its_delay_has_passed() -> None:
    cluster = ToyCluster(nodes=3)
    slow = config(delay_ns=Duration(2 * SECOND), monitor_ns=SECOND, parallelism=0)
    everywhere = settings(mode=ServiceMode.GLOBAL, rollback=slow)
    cluster.run(a_spec(FLAPPING, restart=once()), everywhere)
    cluster.run(a_spec(BAD, restart=once()), settings(mode=ServiceMode.GLOBAL, update=ROLL_BACK))
    cluster.until(lambda: rollout(cluster).state is RolloutState.ROLLBACK_PAUSED)
    cluster.rounds(30)
    before = cluster.entries
    cluster.new_leader()
    assert cluster.written_since(before) == {NodeStatus}


def test_scaling_up_together_with_an_update_starts_the_new_slots_at_once_and_rolls_the_others() -> None:
    cluster = a_cluster(2, config(parallelism=1))
    cluster.run(a_spec("v2"), settings(5, update=config(parallelism=1)))
    at_once = [task for task in cluster.live() if task.desired is TaskState.RUNNING and not task.replaces and task.slot > 2]
    assert len(at_once) == 3
    assert rollout(cluster).total == 2
    cluster.settle()
    assert cluster.images() == ["v2"] * 5


def test_scaling_down_together_with_an_update_removes_the_surplus_at_once_and_rolls_the_rest() -> None:
    cluster = a_cluster(4, config(parallelism=1))
    cluster.run(a_spec("v2"), settings(2, update=config(parallelism=1)))
    assert [task.slot for task in cluster.tasks() if task.desired is TaskState.REMOVE] == [3, 4]
    assert rollout(cluster).total == 2
    cluster.settle()
    assert cluster.images() == ["v2", "v2"]


def test_a_task_that_crashes_while_the_update_is_paused_comes_back_with_the_new_spec() -> None:
    cluster = a_cluster(3)
    cluster.broken.add("v2")
    update(cluster, "v2")
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED)
    cluster.broken.clear()
    cluster.report(cluster.running()[0], TaskState.FAILED, error="killed")
    cluster.until(lambda: len(cluster.running()) == 3)
    assert sorted(cluster.images()) == ["v1", "v1", "v2"]


def test_a_new_task_that_completes_and_need_not_run_again_has_not_failed() -> None:
    cluster = a_cluster(2, config(monitor_ns=Duration(5 * SECOND)))
    update(cluster, ENDING, restart=RestartPolicy(condition=RestartCondition.ON_FAILURE))
    cluster.settle()
    assert (rollout(cluster).state, rollout(cluster).failed) == (RolloutState.COMPLETED, ())


def test_every_forced_update_replaces_every_task() -> None:
    cluster = a_cluster(2)
    for _ in range(3):
        before = {task.id for task in cluster.running()}
        cluster.submit(ForceUpdate(name="shop_web", principal=SOMEBODY))
        cluster.settle()
        assert before.isdisjoint(task.id for task in cluster.running())


def test_each_state_of_an_update_is_told_once() -> None:
    cluster = a_cluster(2, ROLL_BACK)
    update(cluster, BAD)
    cluster.settle()
    told = [kind for kind in cluster.kinds() if kind.startswith("rollout.")]
    assert told == ["rollout.updating", "rollout.rollback_started", "rollout.rollback_completed"]


def test_without_a_rollback_config_a_rollback_has_the_defaults() -> None:
    cluster = a_cluster(2)
    cluster.run(a_spec(BAD), ServiceSettings(replicas=2, update=ROLL_BACK))
    cluster.until(lambda: rollout(cluster).state is RolloutState.ROLLBACK_COMPLETED)
    assert cluster.images() == ["v1", "v1"]


def test_without_a_previous_spec_an_update_that_was_to_roll_back_pauses_and_says_so() -> None:
    cluster = a_cluster(2, ROLL_BACK)
    cluster.run(a_spec(BAD), settings(2, update=ROLL_BACK))
    forgotten = msgspec.structs.replace(cluster.service(), previous=None)
    cluster.store.apply(cluster.store.index + 1, encode(Transaction(now=cluster.now, puts=(forgotten,))))
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED)
    assert "there is no previous spec to go back to" in rollout(cluster).message
    assert cluster.images() == ["v1", "v1"]
