"""A task that was only prepared for an update, and is dropped again, says nothing about its slot."""

from __future__ import annotations

from stackd.engine.model import Task
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import RestartCondition, RestartPolicy

from engine_builders import ToyCluster, a_spec, settings

NEVER = RestartPolicy(condition=RestartCondition.NONE)


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
