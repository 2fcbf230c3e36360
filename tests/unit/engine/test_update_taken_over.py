"""What an update finds in the slots that an earlier one of the same spec has left: it is part of the later one."""

from __future__ import annotations

import pytest
from stackd.engine.inputs import RollbackService
from stackd.engine.parts import RolloutState
from stackd.engine.status import Rollout
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import FailureAction, UpdateConfig, UpdateOrder

from engine_builders import BAD, SOMEBODY, ToyCluster, a_spec, settings


def begun(order: UpdateOrder) -> ToyCluster:
    """A cluster in the middle of an update that never ends: what can't be prepared is tried again and again."""
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec("v1"), settings(3, update=UpdateConfig(monitor_ns=1)))
    cluster.settle()
    submit(cluster, order, FailureAction.CONTINUE)
    cluster.rounds(5)
    return cluster


def submit(cluster: ToyCluster, order: UpdateOrder, action: FailureAction) -> None:
    cluster.run(a_spec(BAD), settings(3, update=UpdateConfig(order=order, failure_action=action, monitor_ns=1)))


def test_a_rollback_to_a_task_that_is_only_starting_is_done_when_that_one_runs() -> None:
    cluster = ToyCluster(nodes=1)
    update = UpdateConfig(order=UpdateOrder.START_FIRST, monitor_ns=1)
    cluster.run(a_spec("v1"), settings(1, update=update))
    (first,) = cluster.tasks()
    cluster.report(first, TaskState.STARTING)
    cluster.run(a_spec("v2"), settings(1, update=update))
    (second,) = (task for task in cluster.tasks() if task.id != first.id)
    cluster.report(second, TaskState.READY)
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY))
    assert (rollout(cluster).state, rollout(cluster).done) == (RolloutState.ROLLBACK_STARTED, 0)
    cluster.report(first, TaskState.RUNNING)
    assert (rollout(cluster).state, rollout(cluster).done) == (RolloutState.ROLLBACK_COMPLETED, 1)
    cluster.settle()
    assert cluster.images() == ["v1"]


def rollout(cluster: ToyCluster) -> Rollout:
    found = cluster.view.rollouts.get(cluster.service().id)
    assert found is not None
    return found


@pytest.mark.parametrize("order", list(UpdateOrder))
@pytest.mark.parametrize("before", list(UpdateOrder))
def test_a_try_that_an_earlier_update_of_the_same_spec_began_counts_when_it_fails(
    before: UpdateOrder, order: UpdateOrder
) -> None:
    cluster = begun(before)
    first = rollout(cluster).generation
    submit(cluster, order, FailureAction.PAUSE)
    cluster.until(lambda: rollout(cluster).state is RolloutState.PAUSED, limit=100)
    assert rollout(cluster).generation > first
    assert len(cluster.running()) == 3
