"""Rebalancing: off unless asked for, a few tasks at a time, and never below what was running."""

from __future__ import annotations

from collections import Counter

from stackd.base.time import SECOND, Instant
from stackd.engine.inputs import Applied, Rejected, UpdateCluster
from stackd.spec.stack import Resources

from engine_builders import SOMEBODY, ToyCluster, a_spec, on, settings

A_WHILE = 31 * SECOND


def a_cluster(replicas: int = 6, tasks: int = 1, **spec: object) -> ToyCluster:
    """One node with everything on it; at most `tasks` tasks are moved at a time."""
    cluster = ToyCluster(nodes=1)
    cluster.submit(UpdateCluster(principal=SOMEBODY, rebalance_tasks=tasks))
    cluster.run(a_spec(**spec), settings(replicas))
    cluster.settle()
    return cluster


def per_node(cluster: ToyCluster) -> Counter[str]:
    return Counter(task.node_id for task in cluster.running())


def wait_a_while(cluster: ToyCluster) -> None:
    cluster.now = Instant(cluster.now + A_WHILE)
    cluster.round()


def test_a_node_that_joins_gets_its_share_after_a_while() -> None:
    cluster = a_cluster()
    cluster.join(2)
    cluster.rounds(20)
    assert per_node(cluster) == {"node1": 6}
    wait_a_while(cluster)
    cluster.until(lambda: per_node(cluster) == {"node1": 3, "node2": 3})
    cluster.settle()


def test_nothing_is_moved_unless_somebody_asks_for_it() -> None:
    cluster = a_cluster(tasks=0)
    cluster.join(2)
    wait_a_while(cluster)
    cluster.rounds(20)
    assert per_node(cluster) == {"node1": 6}
    cluster.submit(UpdateCluster(principal=SOMEBODY, rebalance_tasks=1))
    cluster.until(lambda: per_node(cluster) == {"node1": 3, "node2": 3})


def test_no_task_is_stopped_before_the_one_that_takes_over_runs() -> None:
    cluster = a_cluster()
    cluster.join(2)
    wait_a_while(cluster)
    lowest = 6
    for _ in range(60):
        cluster.round()
        lowest = min(lowest, len(cluster.running()))
    assert lowest == 6
    assert per_node(cluster) == {"node1": 3, "node2": 3}


def test_only_so_many_tasks_move_at_once() -> None:
    cluster = a_cluster(replicas=9)
    for number in (2, 3):
        cluster.join(number)
    wait_a_while(cluster)
    for _ in range(80):
        assert len([task for task in cluster.live() if task.replaces]) <= 1
        cluster.round()
    assert set(per_node(cluster).values()) == {3}


def test_a_difference_of_one_is_left_alone() -> None:
    cluster = a_cluster(replicas=1)
    cluster.join(2)
    wait_a_while(cluster)
    cluster.rounds(20)
    assert len(cluster.tasks()) == 1


def test_a_node_that_does_not_suit_gets_nothing() -> None:
    cluster = a_cluster(placement=on("node.hostname == host1"))
    cluster.join(2)
    wait_a_while(cluster)
    cluster.rounds(20)
    assert per_node(cluster) == {"node1": 6}


def test_a_node_gets_no_more_than_it_has_room_for() -> None:
    cluster = a_cluster(reservations=Resources(nano_cpus=10**9))
    cluster.join(2, cpus=1)
    wait_a_while(cluster)
    cluster.rounds(40)
    assert per_node(cluster) == {"node1": 5, "node2": 1}


def test_a_task_that_can_not_be_moved_stays_and_is_not_tried_for_ever() -> None:
    cluster = a_cluster(replicas=2)
    cluster.broken.add("v1")
    cluster.join(2)
    wait_a_while(cluster)
    cluster.rounds(100)
    assert per_node(cluster) == {"node1": 2}
    assert cluster.kinds().count("task.rebalanced") <= 2


def test_a_setting_that_nobody_means_is_refused() -> None:
    cluster = ToyCluster()
    reply = cluster.submit(UpdateCluster(principal=SOMEBODY, rebalance_tasks=-1))
    assert isinstance(reply, Rejected)
    assert reply.code == "cluster.setting"
    assert cluster.submit(UpdateCluster(principal=SOMEBODY, history_limit=5)) == Applied(changed=False)
