"""The leader dies in the middle of something: another manager goes on where it stood, and no task notices."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from stackd.api.cluster import UpdateNodeRequest
from stackd.api.control import ListRequest, NameRequest, ScaleRequest, UpdateRequest
from stackd.api.views import ServiceView, TaskView
from stackd.base.errors import StackdError
from stackd.engine.parts import Availability

from cluster import Cluster, ClusterNode, cluster_of
from node import alive
from node_stacks import workers

pytestmark = [pytest.mark.needs("root", "net"), pytest.mark.timeout(240)]

JOB = "work_job"
WRITE_SECONDS = 2.0
"""From the leader's death to the next write that is accepted."""


@pytest.fixture(scope="module")
def started() -> Iterator[Cluster]:
    with cluster_of(4) as cluster:
        cluster.form(3)
        yield cluster


@pytest.fixture
def cluster(started: Cluster) -> Iterator[Cluster]:
    """Three managers and a worker, all well, with nothing deployed; so it is again afterwards."""
    yield started
    for node in started.nodes:
        if not node.is_running:
            node.start()
    started.until_ready(3)
    leader = started.leader()
    with leader.client() as client:
        for stack in client.stacks().items:
            client.remove_stack(NameRequest(name=stack.name))
        for view in client.nodes().items:
            client.update_node(UpdateNodeRequest(name=view.id, availability=Availability.ACTIVE))
    leader.eventually(lambda: not leader.services(), "everything is removed")


def deploy(cluster: Cluster, text: str) -> None:
    manager = cluster[0]
    file = manager.home / "stack.yaml"
    file.write_text(text)
    done = manager.cli("apply", "-f", file)
    assert done.code == 0, f"{done.err}\n{cluster.report()}"


def kill_leader(cluster: Cluster) -> tuple[ClusterNode, ClusterNode]:
    """The leader, which is no more, and a manager that lives."""
    leader = cluster.leader()
    leader.kill()
    return leader, next(node for node in cluster.nodes[:3] if node is not leader)


def job(manager: ClusterNode) -> ServiceView:
    return manager.services()[JOB]


def pids(tasks: list[TaskView]) -> dict[str, int]:
    return {task.id: task.pid for task in tasks}


def test_writes_are_accepted_again_within_two_seconds_and_the_tasks_run_on(cluster: Cluster) -> None:
    deploy(cluster, workers(replicas=4))
    before = pids(cluster[0].running_tasks(JOB))
    leader, manager = kill_leader(cluster)
    killed = time.monotonic()
    while True:
        with contextlib.suppress(StackdError), manager.client() as client:
            client.scale(ScaleRequest(name=JOB, replicas=5))
            break
        assert time.monotonic() - killed < 30, cluster.report()
    assert time.monotonic() - killed < WRITE_SECONDS
    assert all(alive(pid) for pid in before.values())
    leader.start()
    cluster.until_ready(3)
    cluster.eventually(lambda: job(manager).converged, "the service has converged")
    after = pids(manager.running_tasks(JOB))
    assert before.items() <= after.items()
    assert len(after) == 5


def test_a_rolling_update_goes_on_where_it_stood(cluster: Cluster) -> None:
    deploy(cluster, workers("1", replicas=6, update="monitor: 100ms, delay: 300ms, parallelism: 1"))
    with cluster[0].client() as client:
        client.update(UpdateRequest(name=JOB, env_add=("RELEASE=2",)))
    cluster.eventually(lambda: 1 <= job(cluster[0]).updated <= 3, "the update is under way")
    leader, manager = kill_leader(cluster)
    cluster.eventually(lambda: job(manager).rollout, "another manager answers")
    leader.start()
    cluster.eventually(lambda: job(manager).converged and job(manager).updated == 6, "the update has ended")
    slots = [task.slot for task in manager.history(JOB)]
    assert {slot: slots.count(slot) for slot in slots} == dict.fromkeys(range(1, 7), 2)  # each was replaced, and once


def test_a_drain_goes_on(cluster: Cluster) -> None:
    deploy(cluster, workers(replicas=8))
    leader = cluster.leader()
    victim = next(node for node in cluster.nodes if node is not leader)
    with leader.client() as client:
        client.update_node(UpdateNodeRequest(name=victim.id, availability=Availability.DRAIN))
    _, manager = kill_leader(cluster)
    leader.start()

    def moved() -> bool:
        tasks = manager.running_tasks(JOB)
        return len(tasks) == 8 and all(task.node != victim.name for task in tasks) and job(manager).converged

    cluster.eventually(moved, "the node is drained")


def test_a_restart_that_is_due_later_happens_when_it_is_due(cluster: Cluster) -> None:
    text = workers(replicas=2).replace("{delay: 100ms}", "{delay: 4s}")
    deploy(cluster, text)
    leader = cluster.leader()
    victim = next(task for task in leader.running_tasks(JOB) if task.node != leader.name)
    killed = time.monotonic()
    cluster.named(victim.node).host_of.run("kill", "-USR1", str(victim.pid))
    cluster.eventually(lambda: victim.id not in pids(leader.running_tasks(JOB)), "the end of the task is on record")
    _, manager = kill_leader(cluster)

    def replaced() -> bool:
        with manager.client() as client:
            tasks = client.tasks(ListRequest(service=JOB, history=False)).items
        return any(task.slot == victim.slot and task.id != victim.id and task.state == "running" for task in tasks)

    cluster.eventually(replaced, "the task is replaced", 15)
    assert 3.5 < time.monotonic() - killed < 10
