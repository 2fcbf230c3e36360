"""From empty data directories to a cluster that runs something: what the daemon of each host says and does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from stackd.api.cluster import JoinTokenRequest
from stackd.api.local import InitRequest, JoinClusterRequest, LeaveClusterRequest, LocalNodeView
from stackd.base.errors import StackdError
from stackd.engine.parts import Role

from cluster import Cluster, ClusterNode, cluster_of
from node import free_port, running_node
from sleepers import SLEEPERS, deploy, running

pytestmark = pytest.mark.needs("root", "net")


def info(node: ClusterNode) -> LocalNodeView:
    with node.client() as client:
        return client.local_node()


def refusal(node: ClusterNode, method: str, *arguments: object) -> str:
    with node.client() as client, pytest.raises(StackdError) as caught:
        getattr(client, method)(*arguments)
    return caught.value.code


def test_a_service_runs_on_the_manager_and_on_the_worker_that_joined(cluster: Cluster) -> None:
    manager, worker = cluster.nodes
    assert info(worker).state == "idle"
    assert refusal(worker, "nodes") == "daemon.no_cluster"
    cluster.form(1)
    assert (info(manager).state, info(worker).state) == ("manager", "worker")
    assert info(worker).managers == (manager.address,)
    with manager.client() as client:
        assert client.cluster_info().cluster.id == info(manager).cluster == info(worker).cluster
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
    wrong = [("nonsense", "security.token.bad"), (token[:-25] + 25 * "0", "cluster.token.wrong")]
    for bad, code in wrong:
        request = JoinClusterRequest(token=bad, manager=manager.join_address)
        assert refusal(worker, "join_cluster", request) == code
        assert info(worker).state == "idle"
    worker.join(token, manager.host_of.address)  # the ports are the usual ones
    cluster.until_ready(1)


def test_both_come_back_from_their_disks_and_their_tasks_have_noticed_nothing(cluster: Cluster) -> None:
    manager = cluster[0]
    cluster.form(1)
    deploy(manager)
    before = running(manager)
    for node in cluster.nodes:
        node.kill()
    cluster.start()
    cluster.until_ready(1)
    assert running(manager) == before


def test_a_cluster_of_one_opens_up_without_touching_its_tasks() -> None:
    with running_node("process") as node:
        node.write("stack.yaml", SLEEPERS)
        node.converged("shop_sleeper")
        before = {(task.id, task.pid) for task in node.tasks("shop_sleeper")}
        place = f"127.0.0.1:{min(free_port(), 65000)}"
        with node.client() as client:
            opened = client.init_cluster(InitRequest(listen=place))
            assert (opened.state, opened.advertise) == ("manager", place)
            assert client.join_token(JoinTokenRequest(role=Role.WORKER)).token
        node.write("more.yaml", SLEEPERS.replace("shop", "more").replace("4", "1"))
        node.converged("more_sleeper")
        node.kill()
        node.start()
        with node.client() as client:
            assert client.local_node().state == "manager"
        node.converged("shop_sleeper", "more_sleeper")
        assert {(task.id, task.pid) for task in node.tasks("shop_sleeper")} == before


def test_prometheus_hears_of_raft_agents_steps_tasks_and_calls() -> None:
    with cluster_of(1, started=False) as cluster:
        node = cluster[0]
        node.options = ("--metrics-addr", "127.0.0.1:9323")
        cluster.start()
        assert values(scrape(node), "stackd_node_role") == {("idle",): 1}
        assert refusal(node, "nodes") == "daemon.no_cluster"
        node.init()
        cluster.until_ready(1)
        deploy(node)
        found = scrape(node)
        assert values(found, "stackd_node_role") == {("manager",): 1}
        for name in ("stackd_raft_leader", "stackd_raft_leader_known", "stackd_raft_voters", "stackd_agents"):
            assert values(found, name) == {(): 1}
        assert values(found, "stackd_raft_applied_index")[()] <= values(found, "stackd_raft_commit_index")[()]
        assert values(found, "stackd_tasks")["running",] == 4
        assert values(found, "stackd_step_seconds_count")[()] > 5
        assert values(found, "stackd_commit_seconds_count")[()] > 5
        calls = values(found, "stackd_call_seconds_count")
        assert calls["here", "Control.Apply", "ok"] == 1
        assert calls["here", "Control.Nodes", "daemon.no_cluster"] == 1
        assert documented() == {family.name: family.type for family in found}


def scrape(node: ClusterNode) -> list[Metric]:
    program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9323/metrics', timeout=10).read().decode())"
    return list(text_string_to_metric_families(node.host_of.run(sys.executable, "-c", program)))


def values(families: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by its labels' values."""
    samples = (sample for family in families for sample in family.samples)
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}


def documented() -> dict[str, str]:
    """The families of docs/metrics.md with their kinds, as the parser names them: counters without `_total`."""
    text = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(stackd_[a-z_]+)(?:\{.*?\})?` \| (\w+) \|", text, re.MULTILINE)
    return {name.removesuffix("_total"): kind for name, kind in rows}


def worker_command(node: ClusterNode) -> bytes:
    with open(f"/proc/{node.pid}/cmdline", "rb") as file:
        return file.read()
