"""What a node is changes while its tasks run on: promoted, demoted, restarted, locked, renewed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from stackd.api.cluster import AutolockRequest, RotateRootRequest, UpdateNodeRequest
from stackd.api.local import LeaveClusterRequest, UnlockRequest
from stackd.base.errors import StackdError
from stackd.engine.parts import Role

from aged import age
from cluster import Cluster, ClusterNode, cluster_of
from sleepers import deploy, running

pytestmark = pytest.mark.needs("root", "net")


def make(manager: ClusterNode, node: ClusterNode, role: Role) -> None:
    with manager.client() as client:
        client.update_node(UpdateNodeRequest(name=node.id, role=role))


def states(cluster: Cluster) -> Sequence[str]:
    return [node.state for node in cluster.nodes]


def test_a_worker_is_promoted_and_the_former_leader_demoted_and_no_task_notices(cluster: Cluster) -> None:
    first, second = cluster.nodes
    cluster.form(1)
    deploy(first)
    before = running(first)
    make(first, second, Role.MANAGER)
    cluster.eventually(lambda: states(cluster) == ["manager", "manager"], "the worker is a manager")
    cluster.until_ready(2)
    assert running(second) == before  # asked of the follower, answered by the leader
    make(second, first, Role.WORKER)
    cluster.eventually(lambda: states(cluster) == ["worker", "manager"], "the leader is a worker")
    cluster.eventually(lambda: second.nodes()["node1"].certificate_role == "worker", "it has a worker's certificate")
    cluster.until_ready(1)
    assert running(second) == before
    assert not [event for event in second.events() if event.kind in ("node.down", "task.failed")]
    assert not (first.data / "raft").exists()
    assert not (first.data / "key").exists()


def test_a_manager_that_was_demoted_while_it_was_off_comes_back_as_a_worker() -> None:
    with cluster_of(3) as cluster:
        cluster.form(3)
        away = next(node for node in cluster.nodes if node is not cluster.leader())
        away.kill()
        with cluster.leader().client() as client:
            client.update_node(UpdateNodeRequest(name=away.name, role=Role.WORKER))
        away.start()
        cluster.eventually(lambda: away.state == "worker", "it is a worker")
        cluster.until_ready(2)
        assert not (away.data / "raft").exists()


def test_a_manager_leaves_and_the_other_goes_on_alone(cluster: Cluster) -> None:
    first, second = cluster.nodes
    cluster.form(2)
    deploy(first)
    with first.client() as client:
        assert client.leave_cluster(LeaveClusterRequest()).state == "idle"
    second.until(lambda services: services["shop_sleeper"].converged, "everything runs on the other")
    assert {task.node for task in second.tasks("shop_sleeper")} == {"node2"}
    assert set(second.nodes()) == {"node2"}
    with second.client() as client, pytest.raises(StackdError) as caught:
        client.leave_cluster(LeaveClusterRequest())
    assert caught.value.code == "node.demote.last"


def test_a_manager_that_reaches_too_few_others_says_that_nobody_leads(cluster: Cluster) -> None:
    cluster.form(2)
    leader = cluster.leader()
    (other,) = (node for node in cluster.nodes if node is not leader)
    leader.kill()

    def trouble() -> str:
        with other.client() as client, pytest.raises(StackdError) as caught:
            client.nodes()
        return caught.value.code

    cluster.eventually(lambda: trouble() == "manager.no_leader", "it has noticed")
    with other.client() as client:
        what = f"a manager that leads: it reaches 1 of 2 managers, itself included, and not {leader.address}"
        assert client.local_node().message == what
    leader.start()
    cluster.until_ready(2)


def test_a_locked_manager_waits_for_its_key_and_its_tasks_run_on(cluster: Cluster) -> None:
    manager = cluster[0]
    cluster.form(1)
    deploy(manager)
    before = running(manager)
    with manager.client() as client:
        key = client.set_autolock(AutolockRequest(on=True)).key
    manager.kill()
    manager.start()
    assert manager.state == "locked"
    with manager.client() as client:
        for call in (client.nodes, lambda: client.unlock(UnlockRequest(key="stackd-unlock-1-nonsense"))):
            with pytest.raises(StackdError) as caught:
                call()
            assert caught.value.code in ("daemon.locked", "security.key.bad_unlock_key")
        assert client.unlock(UnlockRequest(key=key)).state == "manager"
    cluster.until_ready(1)
    make(manager, cluster[1], Role.MANAGER)
    cluster.until_ready(2)  # a new manager is told the key; only its next start asks for it
    cluster[1].kill()
    cluster[1].start()
    assert cluster[1].state == "locked"
    with cluster[1].client() as client:
        client.unlock(UnlockRequest(key=key))
    cluster.until_ready(2)
    assert running(manager) == before


def test_every_node_renews_when_the_root_is_replaced(cluster: Cluster) -> None:
    manager, worker = cluster.nodes
    cluster.form(1)
    deploy(manager)
    before = running(manager)
    with manager.client() as client:
        old = client.cluster_info().root_digest
        client.rotate_root(RotateRootRequest())
        cluster.eventually(lambda: client.cluster_info().rotation is None, "every node has moved")
        assert client.cluster_info().root_digest != old
    assert running(manager) == before
    worker.kill()
    worker.start()
    cluster.until_ready(1)
    assert running(manager) == before


def test_an_old_certificate_is_renewed_under_a_session_that_goes_on(cluster: Cluster) -> None:
    manager, worker = cluster.nodes
    cluster.form(1)
    worker.stop()
    until = age(worker.data, manager.data, days=85)
    worker.start()
    cluster.eventually(lambda: manager.nodes()["node2"].state == "ready", "the worker is back")
    seen = max(event.seq for event in manager.events())
    cluster.eventually(lambda: (manager.nodes()["node2"].certificate_until or "") > until, "it has another certificate")
    assert [event for event in manager.events() if event.seq > seen and event.kind.startswith("node.")] == []


def test_a_cluster_whose_certificates_have_all_expired_comes_back_by_itself(cluster: Cluster) -> None:
    manager = cluster[0]
    cluster.form(1)
    deploy(manager)
    before = running(manager)
    for node in cluster.nodes:
        node.kill()
        age(node.data, manager.data, days=91)
    cluster.start()
    cluster.until_ready(1)
    assert running(manager) == before
