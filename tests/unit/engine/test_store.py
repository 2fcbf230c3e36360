"""The store: applying, looking up, forking, snapshots."""

from __future__ import annotations

import pytest
from stackd.base.errors import StackdError
from stackd.base.ids import NodeId, ServiceId, TaskId
from stackd.base.records import encode
from stackd.base.time import Instant
from stackd.engine.model import Service, Task
from stackd.engine.status import TaskStatus
from stackd.engine.store import SNAPSHOT_MAGIC, Store, Transaction
from stackd.engine.taskstate import TaskState
from stackd.engine.view import TABLE_OF, View
from stackd.spec.digest import spec_digest

from engine_builders import START, ToyCluster, a_spec, settings


def a_task(number: int, service: str = "s1", node: str = "") -> Task:
    return Task(
        id=TaskId(f"t{number}"),
        service_id=ServiceId(service),
        slot=number,
        spec=spec_digest(a_spec()),
        desired=TaskState.RUNNING,
        created_at=START,
        node_id=NodeId(node),
    )


def a_service(name: str = "shop_web", *, removing: bool = False, id: str = "s1") -> Service:
    return Service(
        id=ServiceId(id),
        stack="shop",
        name=name,
        spec=spec_digest(a_spec()),
        settings=settings(),
        created_at=START,
        updated_at=START,
        removing=removing,
    )


def put(store: Store, *rows: object, now: int = START) -> None:
    store.apply(store.index + 1, encode(Transaction(now=Instant(now), puts=rows)))  # type: ignore[arg-type]


def delete(store: Store, *keys: tuple[str, str]) -> None:
    store.apply(store.index + 1, encode(Transaction(now=START, deletes=keys)))


def contents(view: View) -> dict[str, list[object]]:
    return {name: sorted(getattr(view, name).values(), key=lambda row: row.key) for name in TABLE_OF.values()}


def test_an_applied_transaction_shows_in_the_live_view() -> None:
    store = Store()
    view = store.view
    changes = store.apply(7, encode(Transaction(now=START, puts=(a_task(1),))))
    assert (view.index, view.version, view.now) == (7, 1, START)
    assert view.tasks.get("t1") == a_task(1)
    assert changes.puts == (a_task(1),)
    assert changes.index == 7


def test_an_entry_that_opens_a_term_changes_nothing_but_the_index() -> None:
    store = Store()
    put(store, a_task(1))
    changes = store.apply(9, b"")
    assert (store.index, store.view.version, changes.puts) == (9, 1, ())
    assert store.undecodable == 0


@pytest.mark.parametrize(
    "data", [b"\xff", b"garbage", encode([1, 2, 3]), encode([START, [["no-such-record", 1]], []]), b"\x91" * 5000]
)
def test_an_entry_that_is_no_transaction_is_counted_and_changes_nothing(data: bytes) -> None:
    store = Store()
    put(store, a_task(1))
    before = contents(store.view)
    store.apply(2, data)
    assert contents(store.view) == before
    assert (store.undecodable, store.index, store.view.version) == (1, 2, 1)


def test_deleting_what_is_not_there_is_no_error() -> None:
    store = Store()
    delete(store, ("tasks", "t1"), ("no-such-table", "x"))
    assert store.view.version == 1


def test_cluster_time_never_goes_back() -> None:
    store = Store()
    put(store, a_task(1), now=START + 5)
    put(store, a_task(2), now=START)
    assert store.view.now == START + 5


def test_tasks_are_found_by_service_and_by_node_as_they_move() -> None:
    store = Store()
    put(store, a_task(1), a_task(2, service="s2"))
    assert [task.id for task in store.view.tasks_of_service(ServiceId("s1"))] == ["t1"]
    assert {task.id for task in store.view.tasks_of_node(NodeId(""))} == {"t1", "t2"}
    put(store, a_task(1, node="n1"))
    assert [task.id for task in store.view.tasks_of_node(NodeId("n1"))] == ["t1"]
    assert {task.id for task in store.view.tasks_of_node(NodeId(""))} == {"t2"}
    delete(store, ("tasks", "t1"))
    assert store.view.tasks_of_node(NodeId("n1")) == []
    assert store.view.tasks_of_service(ServiceId("s1")) == []


def test_a_service_that_is_being_removed_has_lost_its_name_but_not_its_stack() -> None:
    store = Store()
    put(store, a_service())
    assert store.view.service_named("shop_web") == a_service()
    put(store, a_service(removing=True), a_service(id="s2"))
    assert store.view.service_named("shop_web") == a_service(id="s2")
    assert {service.id for service in store.view.services_of_stack("shop")} == {"s1", "s2"}


def test_tasks_wait_until_they_are_assigned() -> None:
    store = Store()
    put(store, a_task(1), TaskStatus(id=TaskId("t1"), state=TaskState.PENDING, at=START))
    assert [task.id for task in store.view.waiting_tasks()] == ["t1"]
    put(store, TaskStatus(id=TaskId("t1"), state=TaskState.ASSIGNED, at=START))
    assert store.view.waiting_tasks() == []


def test_a_task_without_a_report_is_new() -> None:
    assert Store().view.status_of(TaskId("t1")).state is TaskState.NEW


def test_a_frozen_state_and_a_fork_do_not_see_later_entries_nor_each_other() -> None:
    store = Store()
    put(store, *(a_task(number) for number in range(200)))
    frozen, fork = store.freeze(), store.fork()
    before = contents(frozen.view)
    put(store, a_task(1, node="n1"), a_task(500))
    delete(store, ("tasks", "t3"))
    put(fork, a_task(7, node="n2"))
    assert contents(frozen.view) == before
    assert frozen.view.tasks_of_node(NodeId("n1")) == []
    assert len(frozen.view.tasks) == 200
    assert "t500" not in fork.view.tasks
    assert [task.id for task in fork.view.tasks_of_node(NodeId("n2"))] == ["t7"]
    assert store.view.tasks_of_node(NodeId("n2")) == []


def a_busy_store() -> Store:
    cluster = ToyCluster(nodes=2)
    cluster.run(wanted=settings(3))
    cluster.settle()
    cluster.run(a_spec("v2"), settings(3))
    cluster.rounds(3)
    return cluster.store


def test_a_restored_snapshot_is_the_same_state() -> None:
    store = a_busy_store()
    store.apply(store.index + 1, b"garbage")
    restored = Store.restore(b"".join(store.freeze().chunks()))
    assert contents(restored.view) == contents(store.view)
    assert restored.view.version == store.view.version
    assert restored.view.now == store.view.now
    assert restored.view.event_seq == store.view.event_seq
    assert (restored.index, restored.undecodable) == (store.index, 1)
    service = store.view.service_named("shop_web")
    assert service is not None
    found = {task.id for task in restored.view.tasks_of_service(service.id)}
    assert found == {task.id for task in store.view.tasks_of_service(service.id)}


def test_a_snapshot_of_a_restored_state_is_the_same_bytes() -> None:
    written = b"".join(a_busy_store().freeze().chunks())
    assert b"".join(Store.restore(written).freeze().chunks()) == written


def test_a_snapshot_of_something_else_is_refused() -> None:
    with pytest.raises(StackdError) as caught:
        Store.restore(b"PK\x03\x04")
    assert caught.value.code == "engine.snapshot.format"


def test_a_snapshot_of_a_newer_format_is_refused_with_a_hint() -> None:
    head = encode([2, 1, 1, START, 0])
    with pytest.raises(StackdError) as caught:
        Store.restore(SNAPSHOT_MAGIC + len(head).to_bytes(4, "big") + head)
    assert caught.value.code == "engine.snapshot.format"
    assert caught.value.hint


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.99])
def test_a_snapshot_that_was_cut_off_is_refused(keep: float) -> None:
    written = b"".join(a_busy_store().freeze().chunks())
    with pytest.raises(StackdError) as caught:
        Store.restore(written[: int(len(written) * keep)])
    assert caught.value.code == "engine.snapshot.damaged"


def test_an_installed_state_takes_the_place_of_the_present_one_and_tells_what_changed() -> None:
    store, other = Store(), a_busy_store()
    put(store, a_task(1), a_service("gone", id="s9"))
    changes = store.install(b"".join(other.freeze().chunks()))
    assert contents(store.view) == contents(other.view)
    assert store.index == changes.index == other.index
    assert ("tasks", "t1") in changes.deletes
    assert ("services", "s9") in changes.deletes
    assert {row.key for row in changes.puts if isinstance(row, Task)} == {task.id for task in other.view.tasks.values()}
