"""Nodes that join, change their role and leave, and who the managers are, as the state holds it."""

from __future__ import annotations

import pytest
from stackd.base.ids import NodeId
from stackd.base.time import HOUR, Duration, Instant
from stackd.engine.inputs import (
    AdmitNode,
    Applied,
    Input,
    LeaveCluster,
    PutUser,
    Rejected,
    RemoveNode,
    RemoveUser,
    ReportManagers,
    UpdateCluster,
    UpdateNode,
)
from stackd.engine.model import Node
from stackd.engine.parts import Availability, ManagerStatus, NodeState, Role, UserRole
from stackd.engine.taskstate import TaskState

from engine_builders import SOMEBODY, ToyCluster, a_spec, on, settings

NEW = Node(id=NodeId("new"), created_at=Instant(0), role=Role.WORKER)
NODE1, NODE2 = NodeId("node1"), NodeId("node2")


def a_cluster(*managers: NodeId, nodes: int = 2) -> ToyCluster:
    """A cluster in which these nodes are managers."""
    cluster = ToyCluster(nodes=nodes)
    for node in managers:
        cluster.submit(UpdateNode(id=node, role=Role.MANAGER, principal=SOMEBODY))
    cluster.submit(members(*managers))
    return cluster


def members(*managers: NodeId, **fields: bool) -> ReportManagers:
    return ReportManagers(managers=tuple((node, ManagerStatus(address=f"{node}:2377", **fields)) for node in managers))


def kinds(cluster: ToyCluster) -> list[str]:
    return [event.kind for event in cluster.view.events_after(0)]


def refused(cluster: ToyCluster, command: Input) -> str:
    reply = cluster.submit(command)
    assert isinstance(reply, Rejected)
    return reply.code


def test_a_node_that_asks_again_is_the_same_node_and_keeps_its_role() -> None:
    cluster = ToyCluster()
    first = cluster.submit(AdmitNode(node=NEW, hostname="box"))
    again = cluster.submit(AdmitNode(node=Node(id=NEW.id, created_at=Instant(0), role=Role.MANAGER)))
    assert isinstance(first, Applied)
    assert first.changed
    assert isinstance(again, Applied)
    assert not again.changed
    assert cluster.view.nodes.get("new").role is Role.WORKER  # type: ignore[union-attr]
    assert kinds(cluster).count("node.joined") == 2  # node1 and this one


def test_labels_are_added_replaced_and_removed_and_tasks_that_must_go_do() -> None:
    cluster = ToyCluster()
    cluster.submit(UpdateNode(id=NODE1, labels=(("disk", "ssd"), ("zone", "a")), principal=SOMEBODY))
    cluster.run(a_spec(placement=on("node.labels.disk == ssd")), settings(1))
    cluster.settle()
    cluster.submit(UpdateNode(id=NODE1, labels=(("zone", "b"),), labels_removed=("disk",), principal=SOMEBODY))
    assert cluster.view.nodes.get(NODE1).labels == (("zone", "b"),)  # type: ignore[union-attr]
    cluster.rounds(5)
    assert cluster.running() == []


def test_a_label_without_a_name_is_refused() -> None:
    assert refused(ToyCluster(), UpdateNode(id=NODE1, labels=(("", "x"),), principal=SOMEBODY)) == "node.label.bad"


def test_the_last_manager_is_not_demoted() -> None:
    cluster = a_cluster(NODE1)
    assert refused(cluster, UpdateNode(id=NODE1, role=Role.WORKER, principal=SOMEBODY)) == "node.demote.last"
    assert refused(cluster, LeaveCluster(id=NODE1, principal=SOMEBODY)) == "node.demote.last"


def test_a_manager_that_leaves_is_forgotten_only_when_consensus_has_let_go_of_it() -> None:
    cluster = a_cluster(NODE1, NODE2)
    cluster.submit(LeaveCluster(id=NODE2, principal=SOMEBODY))
    leaving = cluster.view.nodes.get(NODE2)
    assert leaving is not None
    assert leaving.leaving
    assert leaving.role is Role.WORKER
    assert leaving.availability is Availability.DRAIN
    assert refused(cluster, UpdateNode(id=NODE2, role=Role.MANAGER, principal=SOMEBODY)) == "node.leaving"
    assert refused(cluster, AdmitNode(node=Node(id=NODE2, created_at=Instant(0)))) == "node.leaving"
    cluster.submit(members(NODE1))
    assert NODE2 not in cluster.view.nodes
    assert NODE2 not in cluster.view.node_statuses


def test_what_a_node_ran_when_it_left_runs_elsewhere() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(), settings(2))
    cluster.settle()
    cluster.alive.discard(NODE2)
    cluster.submit(LeaveCluster(id=NODE2, principal=SOMEBODY))
    states = [cluster.view.status_of(task.id).state for task in cluster.view.tasks.values() if task.node_id == NODE2]
    assert states == [TaskState.ORPHANED]
    cluster.settle()
    assert {task.node_id for task in cluster.running()} == {NODE1}


def test_a_demoted_node_that_is_still_a_member_of_consensus_is_not_removed() -> None:
    cluster = a_cluster(NODE1, NODE2)
    cluster.submit(UpdateNode(id=NODE2, role=Role.WORKER, principal=SOMEBODY))
    assert refused(cluster, RemoveNode(id=NODE2, principal=SOMEBODY, force=True)) == "node.remove.manager"
    cluster.submit(members(NODE1))
    assert isinstance(cluster.submit(RemoveNode(id=NODE2, principal=SOMEBODY, force=True)), Applied)


def test_managers_that_come_go_and_vanish_are_news_and_who_leads_is_not() -> None:
    cluster = a_cluster(NODE1, NODE2)
    before = len(kinds(cluster))
    cluster.submit(members(NODE1, NODE2, leader=True))
    assert len(kinds(cluster)) == before
    cluster.submit(members(NODE1, NODE2, reachable=False))
    cluster.submit(members(NODE1))
    assert kinds(cluster)[before:] == ["node.manager"] * 4  # two vanish, one is back, one is let go


def test_a_new_manager_is_news_once_when_it_has_its_vote() -> None:
    cluster = a_cluster()
    before = len(kinds(cluster))
    cluster.submit(members(NODE1, voter=False, reachable=False))
    cluster.submit(members(NODE1, voter=False))
    cluster.submit(members(NODE1))
    assert [event.message for event in cluster.view.events_after(0)][before:] == ["is a manager now"]


def test_what_is_known_of_a_manager_outlives_a_new_session_and_a_new_leader() -> None:
    cluster = a_cluster(NODE1)
    cluster.join(1)
    status = cluster.view.node_statuses.get(NODE1)
    assert status is not None
    assert status.state is NodeState.READY
    assert status.manager == ManagerStatus(address="node1:2377")


def test_users_come_change_and_go() -> None:
    cluster = ToyCluster()
    cluster.submit(PutUser(name="ann", role=UserRole.VIEWER, principal=SOMEBODY))
    cluster.submit(PutUser(name="ann", role=UserRole.ADMIN, principal=SOMEBODY))
    assert [(user.name, user.role) for user in cluster.view.users.values()] == [("ann", UserRole.ADMIN)]
    cluster.submit(RemoveUser(name="ann", principal=SOMEBODY))
    assert len(cluster.view.users) == 0
    assert refused(cluster, RemoveUser(name="ann", principal=SOMEBODY)) == "cluster.user.unknown"


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a\n"])
def test_a_users_name_is_plain(name: str) -> None:
    assert refused(ToyCluster(), PutUser(name=name, role=UserRole.VIEWER, principal=SOMEBODY)) == "cluster.user.name"


def test_each_role_of_a_user_includes_those_before_it() -> None:
    allowed = [(has.value, needs.value) for has in UserRole for needs in UserRole if has.allows(needs)]
    assert allowed == [
        ("viewer", "viewer"),
        ("deployer", "viewer"),
        ("deployer", "deployer"),
        ("admin", "viewer"),
        ("admin", "deployer"),
        ("admin", "admin"),
    ]


def test_commands_are_in_the_audit_with_who_gave_them() -> None:
    cluster = a_cluster(NODE1)
    cluster.submit(UpdateNode(id=NODE2, availability=Availability.PAUSE, principal=SOMEBODY))
    event = cluster.view.events_after(0)[-1]
    assert (event.kind, event.principal) == ("node.availability", SOMEBODY)


def test_certificates_lives_can_only_be_set_where_there_are_certificates() -> None:
    command = UpdateCluster(principal=SOMEBODY, certificate_life_ns=Duration(2 * HOUR))
    assert refused(ToyCluster(), command) == "cluster.authority.missing"
