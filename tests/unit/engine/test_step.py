"""The pipeline as a whole: containment, reports, nodes, sources, limits, cost."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from stackd.base.ids import NodeId, RevisionId, ServiceId
from stackd.base.records import encode
from stackd.base.time import Instant
from stackd.engine.inputs import (
    Applied,
    FullPass,
    PutSource,
    RegisterNode,
    Rejected,
    ReportNode,
    ReportSource,
    ReportTasks,
    ScaleService,
    SetAvailability,
    Wake,
)
from stackd.engine.model import Source
from stackd.engine.parts import Availability, NodeState, SourceKind
from stackd.engine.status import NodeStatus, TaskStatus
from stackd.engine.step import step
from stackd.engine.store import Store, Transaction
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import ServiceMode

from engine_builders import SOMEBODY, START, ToyCluster, a_description, a_node, a_spec, settings


def put(cluster: ToyCluster, *rows: Any, deletes: tuple[tuple[str, str], ...] = ()) -> None:
    transaction = Transaction(now=cluster.now, puts=rows, deletes=deletes)
    cluster.store.apply(cluster.store.index + 1, encode(transaction))


def a_cluster(replicas: int = 2, nodes: int = 1) -> ToyCluster:
    cluster = ToyCluster(nodes=nodes)
    cluster.run(wanted=settings(replicas))
    cluster.settle()
    return cluster


# Containment.


def a_cluster_with_a_broken_service() -> ToyCluster:
    """`shop_bad` names a spec that isn't there; `shop_web` is well."""
    cluster = ToyCluster(checked=False)
    cluster.deploy(("bad", a_spec("v9"), settings(1)), ("web", a_spec("v1"), settings(1)))
    cluster.settle()
    put(cluster, deletes=(("specs", cluster.service("shop_bad").spec),))
    return cluster


def test_a_service_that_makes_a_stage_fail_is_frozen_and_the_others_go_on() -> None:
    cluster = a_cluster_with_a_broken_service()
    cluster.new_leader()
    assert "is not in the state" in cluster.service("shop_bad").frozen
    assert cluster.health("shop_bad").health == "failed"
    assert cluster.kinds().count("service.frozen") == 1
    cluster.submit(ScaleService(name="shop_web", replicas=3, principal=SOMEBODY))
    cluster.until(lambda: len(cluster.running("shop_web")) == 3)


def test_a_frozen_service_stays_frozen_through_a_change_of_leader_and_writes_nothing() -> None:
    cluster = a_cluster_with_a_broken_service()
    cluster.new_leader()
    before = cluster.entries
    cluster.new_leader()
    assert cluster.written_since(before) == {NodeStatus}


def test_a_frozen_service_thaws_when_another_leader_can_handle_it() -> None:
    cluster = a_cluster()
    service = cluster.service()
    put(cluster, msgspec.structs.replace(service, frozen="KeyError: x"))
    cluster.submit(ScaleService(name="shop_web", replicas=5, principal=SOMEBODY))
    assert cluster.service().frozen == ""
    put(cluster, msgspec.structs.replace(cluster.service(), frozen="KeyError: x"))
    cluster.new_leader()
    assert cluster.service().frozen == ""


def test_a_broken_stage_does_not_leave_half_of_its_writes() -> None:
    cluster = a_cluster_with_a_broken_service()
    before = cluster.tasks("shop_bad")
    cluster.new_leader()
    assert cluster.tasks("shop_bad") == before


# Reports of tasks.


def test_a_report_that_goes_back_is_ignored() -> None:
    cluster = a_cluster()
    task = cluster.running()[0]
    before = cluster.entries
    cluster.report(task, TaskState.STARTING)
    assert cluster.entries == before


def test_a_report_from_another_node_is_ignored() -> None:
    cluster = a_cluster()
    task = cluster.running()[0]
    status = TaskStatus(id=task.id, state=TaskState.FAILED, at=START)
    reply = cluster.submit(ReportTasks(node_id=NodeId("node9"), statuses=(status,)))
    assert reply == Applied(changed=False)
    assert cluster.state(task) is TaskState.RUNNING


def test_a_report_of_a_task_that_its_node_was_not_given_yet_is_ignored() -> None:
    """Of a global service: the node is known before the task is assigned to it."""
    cluster = ToyCluster()
    cluster.submit(ReportNode(id=NodeId("node1"), state=NodeState.UNKNOWN))
    cluster.run(wanted=settings(mode=ServiceMode.GLOBAL))
    (waiting,) = cluster.tasks()
    assert waiting.node_id == "node1"
    cluster.report(waiting, TaskState.RUNNING)
    assert cluster.state(waiting) is TaskState.PENDING


def test_no_task_is_observed_to_be_in_a_state_that_is_only_ever_desired() -> None:
    cluster = ToyCluster()
    cluster.run()
    cluster.settle()
    (task,) = cluster.running()
    cluster.report(task, TaskState.REMOVE)
    assert cluster.state(task) is TaskState.RUNNING


def test_a_report_on_an_unknown_task_is_ignored() -> None:
    cluster = a_cluster()
    status = TaskStatus(id=type(cluster.tasks()[0].id)("gone"), state=TaskState.FAILED, at=START)
    assert cluster.submit(ReportTasks(node_id=NodeId("node1"), statuses=(status,))) == Applied(changed=False)


def test_the_same_report_again_writes_nothing_but_more_detail_is_kept() -> None:
    cluster = a_cluster()
    task = cluster.running()[0]
    before, at = cluster.entries, cluster.view.status_of(task.id).at
    cluster.rounds(3)
    cluster.report(task, TaskState.RUNNING)
    assert cluster.entries == before
    cluster.report(task, TaskState.RUNNING, pid=42, container_id="c1")
    status = cluster.view.status_of(task.id)
    assert (status.pid, status.container_id, status.at) == (42, "c1", at)


def test_the_instant_at_which_a_task_first_ran_is_cluster_time() -> None:
    cluster = ToyCluster()
    cluster.run()
    cluster.until(lambda: bool(cluster.running()))
    status = cluster.view.status_of(cluster.running()[0].id)
    assert (status.at, status.running_at) == (cluster.now, cluster.now)


# Nodes.


def test_a_node_registers_once_and_the_same_again_writes_nothing() -> None:
    cluster = ToyCluster(nodes=1)
    before = cluster.entries
    cluster.submit(RegisterNode(id=NodeId("node1"), description=a_description(1), node=a_node(1)))
    assert cluster.entries == before


def test_since_when_a_node_is_ready_does_not_move_with_what_it_says_of_itself() -> None:
    cluster = ToyCluster()
    before = cluster.view.node_statuses.get("node1")
    cluster.rounds(3)
    cluster.describe_node(1, hostname="renamed")
    after = cluster.view.node_statuses.get("node1")
    assert before is not None
    assert after is not None
    assert (after.at, after.description.hostname) == (before.at, "renamed")
    cluster.crash(1)
    cluster.recover(1)
    again = cluster.view.node_statuses.get("node1")
    assert again is not None
    assert again.at == cluster.now > before.at


def test_a_stranger_is_refused() -> None:
    cluster = ToyCluster(nodes=1)
    reply = cluster.submit(RegisterNode(id=NodeId("node7"), description=a_description(7)))
    assert isinstance(reply, Rejected)
    assert reply.code == "node.unknown"
    for command in (
        ReportNode(id=NodeId("node7"), state=NodeState.DOWN),
        SetAvailability(id=NodeId("node7"), availability=Availability.DRAIN, principal=SOMEBODY),
    ):
        assert isinstance(cluster.submit(command), Rejected)


def test_nothing_new_is_placed_on_a_node_that_is_drained_or_out_of_sight() -> None:
    cluster = a_cluster(nodes=2)
    cluster.drain(2)
    cluster.submit(ReportNode(id=NodeId("node1"), state=NodeState.UNKNOWN))
    cluster.submit(ScaleService(name="shop_web", replicas=6, principal=SOMEBODY))
    assert all(not task.node_id for task in cluster.tasks() if cluster.state(task) is TaskState.PENDING)
    assert [task for task in cluster.tasks() if cluster.state(task) is TaskState.PENDING]
    cluster.recover(1)
    cluster.settle()
    assert {task.node_id for task in cluster.running()} == {"node1"}


# Sources.


def test_a_source_that_says_the_same_again_writes_nothing() -> None:
    cluster = ToyCluster()
    source = Source(name="infra", kind=SourceKind.DIRECTORY, location="/srv/infra")
    assert cluster.submit(PutSource(source=source, principal=SOMEBODY)) == Applied(changed=True, version=cluster.view.version)
    seen = ReportSource(name="infra", seen="abc", revision=RevisionId("r1"))
    cluster.submit(seen)
    before = cluster.entries
    cluster.rounds(3)
    cluster.submit(PutSource(source=source, principal=SOMEBODY))
    cluster.submit(seen)
    assert cluster.entries == before


def test_an_error_of_a_source_keeps_what_was_read_before_and_is_told_once() -> None:
    cluster = ToyCluster()
    cluster.submit(ReportSource(name="infra", seen="abc", revision=RevisionId("r1")))
    for _ in range(3):
        cluster.submit(ReportSource(name="infra", seen="", error="no such repository", error_code="source.git"))
    status = cluster.view.source_statuses.get("infra")
    assert status is not None
    assert (status.seen, status.revision, status.error) == ("abc", "r1", "no such repository")
    cluster.submit(ReportSource(name="infra", seen="abc"))
    assert [kind for kind in cluster.kinds() if kind.startswith("source.")] == ["source.error", "source.recovered"]


# The first leader, limits, cost.


def test_the_first_full_pass_makes_the_cluster() -> None:
    store = Store()
    decision = step(store.view, [FullPass(cluster_id="c1")], START, random.Random(1))
    assert decision.transaction is not None
    store.apply(1, encode(decision.transaction))
    assert store.view.cluster is not None
    assert store.view.cluster.id == "c1"
    assert step(store.view, [FullPass()], START, random.Random(1)).transaction is None


def test_a_fault_of_ours_refuses_one_input_and_no_other() -> None:
    cluster = a_cluster()
    broken = ScaleService(name="shop_web", replicas="three", principal=SOMEBODY)  # type: ignore[arg-type]
    fine = ScaleService(name="shop_web", replicas=3, principal=SOMEBODY)
    decision = step(cluster.view, [broken, fine], cluster.now, random.Random(1))
    assert isinstance(decision.replies[0], Rejected)
    assert decision.replies[0].code == "engine.fault"
    assert isinstance(decision.replies[1], Applied)


def test_time_that_went_back_counts_as_the_states_own() -> None:
    cluster = a_cluster()
    before = cluster.view.now
    command = ScaleService(name="shop_web", replicas=3, principal=SOMEBODY)
    decision = step(cluster.view, [command], Instant(START - 10**12), random.Random(1))
    assert decision.transaction is not None
    assert decision.transaction.now == before


def test_deciding_changes_nothing_by_itself_and_the_same_twice() -> None:
    cluster = a_cluster()
    command = ScaleService(name="shop_web", replicas=6, principal=SOMEBODY)
    first = step(cluster.view, [command], cluster.now, random.Random(5))
    second = step(cluster.view, [command], cluster.now, random.Random(5))
    assert first.transaction is not None
    assert encode(first.transaction) == encode(second.transaction)


def test_an_entry_stays_within_its_limits_and_names_what_it_had_no_room_for() -> None:
    cluster = ToyCluster(checked=False)
    services = [(f"s{number:03}", a_spec(f"v{number}"), settings(30)) for number in range(100)]
    cluster.deploy(*services)
    assert len(cluster.view.tasks) == 3000
    assert max(len(encode(changes.puts)) for changes in cluster.history) < 1024 * 1024


class _CountingRows:
    """A table that counts how often it is read as a whole."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.scans = 0

    def values(self) -> Any:
        self.scans += 1
        return self._inner.values()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def __contains__(self, key: str) -> bool:
        return key in self._inner


@pytest.mark.parametrize("state", [TaskState.RUNNING, TaskState.FAILED])
def test_a_report_on_one_task_scans_no_table_of_tasks(state: TaskState) -> None:
    cluster = ToyCluster()
    cluster.run(wanted=settings(3))
    cluster.rounds(2)
    if state is TaskState.FAILED:
        cluster.settle()
    view: Any = cluster.view
    view.tasks, view.statuses = tasks, statuses = _CountingRows(view.tasks), _CountingRows(view.statuses)
    task = cluster.live()[0]
    report = msgspec.structs.replace(view.status_of(task.id), state=state)
    step(view, [ReportTasks(node_id=task.node_id, statuses=(report,))], cluster.now, random.Random(1))
    assert (tasks.scans, statuses.scans) == (0, 0)


def test_looking_at_a_service_that_is_gone_does_nothing() -> None:
    cluster = ToyCluster()
    gone = Wake(services=(ServiceId("gone"),))
    assert step(cluster.view, [gone], cluster.now, random.Random(1)).transaction is None
