"""The checker finds what it is there to find: each test plants one fault."""

from __future__ import annotations

from typing import Any

import msgspec
from stackd.base.ids import NodeId, TaskId
from stackd.base.records import encode
from stackd.engine.check import check_state, check_transition
from stackd.engine.model import Node, Task
from stackd.engine.parts import Availability
from stackd.engine.store import Store, Transaction
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Port, PublishMode, Resources, UpdateConfig, UpdateOrder

from engine_builders import ToyCluster, a_spec, settings


def a_cluster(replicas: int = 2, **fields: Any) -> ToyCluster:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(**fields), settings(replicas))
    cluster.settle()
    return cluster


def with_rows(cluster: ToyCluster, *rows: Any, deletes: tuple[tuple[str, str], ...] = ()) -> Store:
    store = cluster.store.fork()
    store.apply(store.index + 1, encode(Transaction(now=cluster.now, puts=rows, deletes=deletes)))
    return store


def changed(record: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(record, **fields)


def test_a_healthy_state_has_no_findings() -> None:
    assert check_state(a_cluster().view) == []


def test_a_missing_spec_is_found() -> None:
    cluster = a_cluster()
    found = check_state(with_rows(cluster, deletes=(("specs", cluster.service().spec),)).view)
    assert any("names the spec" in finding for finding in found)


def test_a_task_of_no_service_and_a_status_of_no_task_are_found() -> None:
    cluster = a_cluster()
    task = cluster.tasks()[0]
    store = with_rows(cluster, deletes=(("services", cluster.service().id), ("tasks", task.id)))
    found = check_state(store.view)
    assert any("belongs to the service" in finding for finding in found)
    assert any(f"status of task {task.id}" in finding for finding in found)


def test_two_tasks_in_one_slot_are_found() -> None:
    cluster = a_cluster()
    twin = changed(cluster.tasks()[0], id=TaskId("twin"))
    assert any("2 tasks that should run" in finding for finding in check_state(with_rows(cluster, twin).view))


def test_a_port_held_twice_on_one_node_is_found() -> None:
    cluster = a_cluster(ports=(Port(target=80, published=8080, mode=PublishMode.HOST),))
    first, second = cluster.tasks()
    store = with_rows(cluster, changed(second, node_id=first.node_id))
    assert any("on port 8080/tcp" in finding for finding in check_state(store.view))


def test_a_state_that_goes_back_is_found() -> None:
    cluster = a_cluster()
    task = cluster.tasks()[0]
    later = with_rows(
        cluster, changed(cluster.view.status_of(task.id), state=TaskState.READY), changed(task, desired=TaskState.READY)
    )
    found = check_transition(cluster.view, later.view)
    assert any("went back from running to ready" in finding for finding in found)
    assert any("fell from running to ready" in finding for finding in found)


def test_a_task_that_moves_is_found() -> None:
    cluster = a_cluster()
    task = cluster.tasks()[0]
    other = next(node.id for node in cluster.view.nodes.values() if node.id != task.node_id)
    later = with_rows(cluster, changed(task, node_id=other))
    assert any("moved from node" in finding for finding in check_transition(cluster.view, later.view))


def test_a_new_task_on_a_drained_node_is_found() -> None:
    cluster = a_cluster()
    node: Node | None = cluster.view.nodes.get("node1")
    assert node is not None
    task: Task = changed(cluster.tasks()[0], id=TaskId("fresh"), node_id=NodeId("node1"))
    status = changed(cluster.view.status_of(cluster.tasks()[0].id), id=task.id, state=TaskState.ASSIGNED)
    later = with_rows(cluster, changed(node, availability=Availability.DRAIN), task, status)
    assert any("set to drain" in finding for finding in check_transition(cluster.view, later.view))


def test_an_update_that_takes_down_too_much_is_found() -> None:
    cluster = a_cluster(3)
    cluster.run(a_spec("v2"), settings(3))
    cluster.rounds(2)
    rows: list[Any] = []
    for task in cluster.live():
        if task.rollout:
            rows.append(changed(task, desired=TaskState.RUNNING, gate=None))
        elif task.slot < 3:
            rows.append(changed(task, desired=TaskState.SHUTDOWN))
    later = with_rows(cluster, *rows)
    found = check_transition(cluster.view, later.view)
    assert found == ["2 slots of shop_web are in transition, its update allows 1"]


def test_what_has_to_leave_a_node_that_has_shrunk_is_not_taken_down_by_the_update_under_way() -> None:
    wanted = settings(3, update=UpdateConfig(order=UpdateOrder.START_FIRST))
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec(reservations=Resources(nano_cpus=10**9)), wanted)
    cluster.settle()
    cluster.drain(1, Availability.PAUSE)
    cluster.run(a_spec("v2"), wanted)
    cluster.describe_node(1, resources=Resources(nano_cpus=10**9))
    cluster.drain(1, Availability.ACTIVE)
    told = [task for task in cluster.running() if task.desired is TaskState.SHUTDOWN]
    assert len(told) == 2
