"""From empty data directories to a cluster that runs something: what the daemon of each host says and does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stackd.api.local import InitRequest, JoinClusterRequest, LeaveClusterRequest, LocalNodeView
from stackd.base.errors import StackdError
from stackd.engine.model import Role

from cluster import Cluster, ClusterNode, cluster_of

pytestmark = pytest.mark.needs("root", "net")

SLEEPERS = """
name: shop
services:
  sleeper:
    image: busybox
    command: ["sleep", "1000"]
    deploy:
      replicas: 4
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with cluster_of(2) as cluster:
        yield cluster


def info(node: ClusterNode) -> LocalNodeView:
    with node.client() as client:
        return client.local_node()


def refusal(node: ClusterNode, method: str, *arguments: object) -> str:
    with node.client() as client, pytest.raises(StackdError) as caught:
        getattr(client, method)(*arguments)
    return caught.value.code


def deploy(node: ClusterNode, stack: str = SLEEPERS) -> None:
    done = node.cli("apply", "-f", node.write("stack.yaml", stack), "--yes")
    assert done.code == 0, done.err


def test_a_service_runs_on_the_manager_and_on_the_worker_that_joined(cluster: Cluster) -> None:
    manager, worker = cluster.nodes
    assert info(worker).state == "idle"
    assert refusal(worker, "nodes") == "daemon.no_cluster"
    cluster.form(1)
    assert (info(manager).state, info(worker).state) == ("manager", "worker")
    assert info(worker).managers == (manager.address,)
    deploy(manager)
    assert {task.node for task in manager.tasks("shop_sleeper")} == {"node1", "node2"}
    assert refusal(worker, "nodes") == "daemon.not_a_manager"
    assert refusal(worker, "init_cluster", InitRequest()) == "daemon.in_cluster"
    assert refusal(manager, "init_cluster", InitRequest()) == "daemon.in_cluster"


def test_a_node_that_leaves_takes_its_tasks_with_it_and_may_join_again(cluster: Cluster) -> None:
    manager, worker = cluster.nodes
    cluster.form(1)
    deploy(manager)
    with worker.client() as client:
        assert client.leave_cluster(LeaveClusterRequest()).state == "idle"
    assert worker.leftovers() == [f"process {worker.pid}: {worker_command(worker)!r}"]
    manager.until(lambda services: services["shop_sleeper"].converged, "everything runs on the manager")
    assert {task.node for task in manager.tasks("shop_sleeper")} == {"node1"}
    worker.join(cluster.token(Role.WORKER), manager.join_address)
    cluster.until_ready(1)


def test_a_wrong_token_leaves_the_node_as_it_was(cluster: Cluster) -> None:
    manager, worker = cluster.nodes
    manager.init()
    token = cluster.token(Role.WORKER)
    for bad, code in (("nonsense", "security.token.bad"), (token[:-1] + "!", "security.token.bad"), (token[:-25] + 25 * "0", "cluster.token.wrong")):
        request = JoinClusterRequest(token=bad, manager=manager.join_address)
        assert refusal(worker, "join_cluster", request) == code
        assert info(worker).state == "idle"
    worker.join(token, manager.host_of.address)  # the ports are the usual ones
    cluster.until_ready(1)


def test_both_come_back_from_their_disks_and_their_tasks_have_noticed_nothing(cluster: Cluster) -> None:
    manager, worker = cluster.nodes
    cluster.form(1)
    deploy(manager)
    before = {(task.id, task.pid) for task in manager.running_tasks()}
    for node in cluster.nodes:
        node.kill()
    cluster.start()
    cluster.until_ready(1)
    assert {(task.id, task.pid) for task in manager.running_tasks()} == before


def worker_command(node: ClusterNode) -> bytes:
    with open(f"/proc/{node.pid}/cmdline", "rb") as file:
        return file.read()
