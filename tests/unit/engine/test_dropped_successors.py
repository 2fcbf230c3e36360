"""Tasks that are prepared to take the place of others, when they are dropped or their node shrinks."""

from __future__ import annotations

from stackd.base.time import MILLISECOND, SECOND, Duration, Instant
from stackd.engine.model import Task
from stackd.engine.orchestrate.fence import fence_end
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import FailureAction, Resources, RestartCondition, RestartPolicy, UpdateConfig

from engine_builders import BAD, ToyCluster, a_spec, on, settings

NEVER = RestartPolicy(condition=RestartCondition.NONE)
NEARLY_ALL = Resources(nano_cpus=7_000_000_000)


def a_cluster_in_an_update() -> tuple[ToyCluster, Task, Task]:
    """Two slots in the middle of an update, the second with its old task and the one that is prepared for it; an old task that
    has to leave its node is not replaced."""
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(restart=NEVER), settings(2))
    cluster.settle()
    cluster.run(a_spec("v2", restart=NEVER), settings(2))
    cluster.until(lambda: any(cluster.view.status_of(task.id).state is TaskState.READY for task in prepared(cluster)))
    (new,) = [task for task in prepared(cluster) if task.slot == 2]
    (old,) = [task for task in cluster.running() if task.slot == 2]
    assert new.node_id == old.node_id
    return cluster, old, new


def prepared(cluster: ToyCluster) -> list[Task]:
    return [task for task in cluster.live() if task.desired is TaskState.READY]


def test_a_slot_that_is_over_stays_so_when_what_was_prepared_for_it_is_dropped() -> None:
    """The update fills it in its turn; it is not filled as if it had never been (`ToyCluster` asks after every entry)."""
    cluster, old, new = a_cluster_in_an_update()
    cluster.drain(int(old.node_id.removeprefix("node")))
    dropped = cluster.view.tasks.get(new.id)
    assert dropped is not None
    assert dropped.desired is TaskState.REMOVE
    cluster.settle()
    assert cluster.images() == ["v2", "v2"]


def test_a_successor_counts_on_a_node_that_shrinks_as_soon_as_it_waits_for_nobody() -> None:
    """Not only when it runs: what a decision makes of it changes nothing about its room (`ToyCluster` asks again)."""
    cluster = ToyCluster()
    cluster.run(a_spec(reservations=NEARLY_ALL), settings(1))
    cluster.settle()
    (old,) = cluster.running()
    cluster.run(a_spec("v2", reservations=NEARLY_ALL), settings(1))
    cluster.until(lambda: cluster.view.status_of(old.id).state is TaskState.SHUTDOWN)
    (new,) = cluster.live()
    assert cluster.view.status_of(new.id).state is TaskState.READY
    cluster.shrink(1, cpus=1)
    assert new.id not in [task.id for task in cluster.live()]


def test_what_is_made_anew_for_one_that_was_dropped_counts_the_tries_before_it() -> None:
    """Three tries are three, also if the second one has to leave its node before it is over."""
    cluster = ToyCluster()
    wanted = settings(1, update=UpdateConfig(failure_action=FailureAction.CONTINUE, monitor_ns=1))
    cluster.run(a_spec(), wanted)
    cluster.settle()
    for number in (2, 3):
        cluster.join(number)
        cluster.describe_node(number, engine_labels=(("disk", "ssd"),))
    retried = RestartPolicy(delay_ns=0, max_attempts=2)
    cluster.run(a_spec(BAD, restart=retried, placement=on("engine.labels.disk == ssd")), wanted)
    cluster.until(lambda: any(task.restarts for task in prepared(cluster)))
    (second,) = prepared(cluster)
    cluster.describe_node(int(second.node_id.removeprefix("node")))
    (again,) = prepared(cluster)
    assert again.id != second.id
    assert len(again.restarts) == 1
    cluster.rounds(30)
    assert cluster.kinds().count("task.rejected") == 3
    assert cluster.images() == ["v1"]


def test_the_successor_of_a_task_that_has_to_leave_in_an_update_counts_the_tries_before_it() -> None:
    """Its slot has had its three tries of the new spec, and gets no others since the old task can't stay."""
    cluster = ToyCluster(nodes=2)
    wanted = settings(2, update=UpdateConfig(failure_action=FailureAction.CONTINUE, monitor_ns=1))
    cluster.run(a_spec(), wanted)
    cluster.settle()
    cluster.run(a_spec(BAD, restart=RestartPolicy(delay_ns=SECOND, max_attempts=2)), wanted)
    cluster.until(lambda: cluster.kinds().count("task.rejected") >= 2)
    cluster.drain(1)
    cluster.rounds(100)
    assert cluster.kinds().count("task.rejected") == 6
    assert cluster.images() == ["v1"]


def test_what_waits_to_be_tried_again_does_not_start_beside_a_fenced_task_that_is_lost() -> None:
    """Its own time has come in the decision in which the node is given up."""
    cluster = ToyCluster()
    wanted = settings(1, update=UpdateConfig(failure_action=FailureAction.CONTINUE, monitor_ns=1))
    cluster.run(a_spec(fence=True), wanted)
    cluster.settle()
    (old,) = cluster.running()
    cluster.join(2)
    retried = RestartPolicy(delay_ns=Duration(SECOND))
    cluster.run(a_spec(BAD, fence=True, restart=retried, placement=on("node.id == node2")), wanted)
    cluster.until(lambda: any(task.gate for task in prepared(cluster)))
    (again,) = prepared(cluster)
    assert again.gate is not None
    cluster.now = Instant(again.gate.not_before + MILLISECOND)
    cluster.crash(int(old.node_id.removeprefix("node")))
    (waiting,) = prepared(cluster)
    assert waiting.gate is not None
    assert (waiting.id, waiting.gate.after) == (again.id, old.id)
    assert fence_end(cluster.view, old) > cluster.now + 20 * SECOND
