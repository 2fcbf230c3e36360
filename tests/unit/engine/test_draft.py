"""The draft: an overlay whose difference is the transaction."""

from __future__ import annotations

import random

import msgspec
from stackd.base.ids import NodeId, ServiceId
from stackd.base.time import Instant
from stackd.engine import draft as draft_module
from stackd.engine.draft import Draft
from stackd.engine.model import Event, Task
from stackd.engine.taskstate import TaskState

from engine_builders import START, ToyCluster, settings


def a_cluster(replicas: int = 2) -> ToyCluster:
    cluster = ToyCluster()
    cluster.run(wanted=settings(replicas))
    cluster.settle()
    return cluster


def a_draft(cluster: ToyCluster) -> Draft:
    return Draft(cluster.view, cluster.now, random.Random(1))


def test_putting_what_is_there_already_writes_nothing() -> None:
    cluster = a_cluster()
    draft = a_draft(cluster)
    for task in cluster.tasks():
        draft.put(task)
    assert draft.transaction() is None


def test_putting_back_what_was_changed_writes_nothing() -> None:
    cluster = a_cluster()
    draft = a_draft(cluster)
    task = cluster.tasks()[0]
    draft.put(msgspec.structs.replace(task, desired=TaskState.SHUTDOWN))
    draft.put(task)
    assert draft.transaction() is None


def test_a_row_made_and_deleted_in_one_decision_leaves_no_trace() -> None:
    cluster = a_cluster()
    draft = a_draft(cluster)
    draft.put(msgspec.structs.replace(cluster.tasks()[0], id="fresh"))
    draft.delete(Task, "fresh")
    assert draft.transaction() is None


def test_lookups_see_the_changes_of_the_draft_and_the_view_does_not() -> None:
    cluster = a_cluster()
    draft = a_draft(cluster)
    service = cluster.service()
    first, second = cluster.tasks()
    draft.put(msgspec.structs.replace(first, node_id=NodeId("node9")))
    draft.put(msgspec.structs.replace(first, id="fresh"))
    draft.delete(Task, second.id)
    assert {task.id for task in draft.tasks_of_service(service.id)} == {first.id, "fresh"}
    assert [task.id for task in draft.tasks_of_node(NodeId("node9"))] == [first.id]
    assert len(draft.tasks) == len(list(draft.tasks.values())) == 2
    assert second.id not in draft.tasks
    assert {task.id for task in cluster.view.tasks_of_service(service.id)} == {first.id, second.id}


def test_a_rollback_restores_rows_lookups_and_the_number_of_events() -> None:
    cluster = a_cluster()
    draft = a_draft(cluster)
    first, second = cluster.tasks()
    draft.put(msgspec.structs.replace(first, desired=TaskState.SHUTDOWN))
    savepoint = draft.savepoint()
    draft.put(msgspec.structs.replace(first, desired=TaskState.REMOVE, node_id=NodeId("node9")))
    draft.delete(Task, second.id)
    draft.event("task.failed", "shop_web.1", "gone")
    draft.rollback(savepoint)
    transaction = draft.transaction()
    assert transaction is not None
    assert transaction.puts == (msgspec.structs.replace(first, desired=TaskState.SHUTDOWN),)
    assert transaction.deletes == ()
    assert draft.tasks_of_node(NodeId("node9")) == []
    assert draft.event_seq == cluster.view.event_seq
    assert len(draft.tasks) == 2


def test_the_ring_of_events_keeps_the_latest() -> None:
    cluster = ToyCluster()
    first = cluster.view.event_seq
    draft = a_draft(cluster)
    for number in range(draft_module.EVENTS_MAX + 5):
        draft.event("task.failed", "x", str(number))
    assert len(draft.events) == draft_module.EVENTS_MAX
    assert len(draft.events_after(0)) == draft_module.EVENTS_MAX
    assert draft.events_after(0)[-1].message == str(draft_module.EVENTS_MAX + 4)
    assert draft.events_after(draft.event_seq - 1)[0].seq == first + draft_module.EVENTS_MAX + 5


def test_the_earliest_wake_up_counts_and_the_past_is_none() -> None:
    draft = a_draft(ToyCluster())
    service = ServiceId("s")
    draft.wake(Instant(START + 50), service)
    draft.wake(Instant(START + 20), service)
    draft.wake(Instant(START + 90), service)
    draft.wake(draft.now, service)
    assert draft.wakeups == {service: START + 20}


def test_what_has_no_room_in_the_entry_is_left_for_the_next() -> None:
    draft = a_draft(ToyCluster())
    service = ServiceId("s")
    done = [number for number in draft.budgeted(service, range(draft_module.CHANGES_MAX + 7)) if _write(draft, number)]
    assert len(done) == draft_module.CHANGES_MAX
    assert list(draft.more) == [service]


def _write(draft: Draft, number: int) -> bool:
    draft.put(Event(seq=10_000 + number, at=START, kind="x", subject="x", message="x"))
    return True
