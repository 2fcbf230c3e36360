"""The checks of jobs, moves, fences and order find what they are for."""

from __future__ import annotations

from typing import Any

import msgspec
from stackd.base.ids import TaskId
from stackd.base.records import encode
from stackd.engine.check import check_transition
from stackd.engine.model import Task
from stackd.engine.status import TaskStatus
from stackd.engine.store import Transaction
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import Dependency, ServiceMode

from engine_builders import BAD, ToyCluster, a_spec, settings


def findings(cluster: ToyCluster, *rows: Any) -> list[str]:
    """What the check says of a step that writes these rows."""
    before, after = cluster.store.freeze().view, cluster.store.fork()
    after.apply(after.index + 1, encode(Transaction(now=cluster.now, puts=rows)))
    return check_transition(before, after.view)


def changed(task: Task, **fields: Any) -> Task:
    return msgspec.structs.replace(task, **fields)


def another(task: Task, **fields: Any) -> tuple[Task, TaskStatus]:
    """A task like this one under another id, with its status."""
    twin = changed(task, id=TaskId("twin"), **fields)
    return twin, TaskStatus(id=twin.id, state=TaskState.NEW, at=task.created_at)


def test_a_job_that_begins_more_runs_than_it_is_to_complete_is_found() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec("v1"), settings(2, mode=ServiceMode.REPLICATED_JOB))
    cluster.rounds(4)
    found = findings(cluster, *another(cluster.tasks()[0], slot=3))
    assert any("has begun 3 runs, 2 are to complete" in finding for finding in found)


def test_a_job_with_more_runs_at_once_than_may_be_is_found() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec("v1"), settings(5, mode=ServiceMode.REPLICATED_JOB, max_concurrent=1))
    cluster.rounds(4)
    found = findings(cluster, *another(cluster.tasks()[0], slot=2))
    assert any("2 runs of shop_web are under way at once, 1 may be" in finding for finding in found)


def test_a_task_that_is_stopped_before_it_was_taken_over_from_is_found() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(), settings(1, drain_start_first=True))
    cluster.settle()
    (old,) = cluster.running()
    cluster.drain(int(old.node_id[-1]))
    found = findings(cluster, changed(old, desired=TaskState.SHUTDOWN))
    assert any(f"task {old.id} was told to stop before" in finding for finding in found)


def test_a_task_that_is_let_go_beside_a_fenced_one_is_found() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(fence=True), settings(1))
    cluster.settle()
    (old,) = cluster.running()
    cluster.crash(int(old.node_id[-1]))
    successor = cluster.live()[-1]
    found = findings(cluster, changed(successor, desired=TaskState.RUNNING, gate=None))
    assert any(f"where {old.id} may still run" in finding for finding in found)


def test_a_service_that_begins_before_what_it_depends_on_is_found() -> None:
    cluster = ToyCluster()
    cluster.deploy(("db", a_spec(BAD), settings(1)), ("web", a_spec(), settings(1, depends_on=(Dependency(service="db"),))))
    (db,) = cluster.tasks("shop_db")
    early, status = another(db, service_id=cluster.service("shop_web").id)
    found = findings(cluster, early, status)
    assert any("has its first tasks although it waits until shop_db runs" in finding for finding in found)
