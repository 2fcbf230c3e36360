"""Jobs: completions, concurrency, iterations, nodes."""

from __future__ import annotations

import pytest
from stackd.base.ids import NodeId
from stackd.engine.inputs import (
    ForceUpdate,
    Rejected,
    RemoveNode,
    ReportNode,
    RollbackService,
    ScaleService,
    SetSpec,
    StageContent,
)
from stackd.engine.model import SpecRow, Task
from stackd.engine.parts import Availability, NodeState, RevisionState
from stackd.engine.taskstate import TaskState
from stackd.spec.digest import spec_digest
from stackd.spec.stack import RestartCondition, RestartPolicy, ServiceMode, ServiceSettings

from engine_builders import BAD, ENDING, FLAPPING, SOMEBODY, ToyCluster, a_spec, on, once, settings


def a_job(completions: int, concurrent: int = 0) -> ServiceSettings:
    return settings(completions, mode=ServiceMode.REPLICATED_JOB, max_concurrent=concurrent)


EVERYWHERE = settings(mode=ServiceMode.GLOBAL_JOB)


def completed(cluster: ToyCluster) -> list[Task]:
    return [task for task in cluster.tasks() if cluster.state(task) is TaskState.COMPLETE]


def unfinished(cluster: ToyCluster) -> list[Task]:
    return [task for task in cluster.tasks() if cluster.state(task) <= TaskState.RUNNING]


@pytest.mark.parametrize(("completions", "concurrent"), [(5, 2), (5, 0), (3, 7), (1, 1)])
def test_a_job_completes_as_often_as_asked_and_never_runs_more_than_max_concurrent_at_once(
    completions: int, concurrent: int
) -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(ENDING), a_job(completions, concurrent))
    most = 0
    while not cluster.health().converged:
        most = max(most, len(unfinished(cluster)))
        cluster.round()
    assert len(completed(cluster)) == len(cluster.tasks()) == completions
    assert most == min(concurrent or completions, completions)


def test_the_tasks_of_a_job_are_to_complete_and_are_never_restarted_when_they_have() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(ENDING, restart=RestartPolicy(condition=RestartCondition.ANY, delay_ns=0)), a_job(2))
    assert {task.desired for task in cluster.tasks()} == {TaskState.COMPLETE}
    cluster.settle()
    kept = [task.id for task in cluster.tasks()]
    cluster.rounds(10)
    assert [task.id for task in cluster.tasks()] == kept


def test_a_run_that_fails_is_repeated_until_it_completes() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec("v1"), a_job(2))
    cluster.until(lambda: len(cluster.running()) == 2)
    failed = cluster.running()[0]
    cluster.report(failed, TaskState.FAILED, error="task: non-zero exit (1)")
    assert cluster.health().health == "degraded"
    cluster.until(lambda: len(cluster.running()) == 2)
    for task in cluster.running():
        assert task.desired is TaskState.COMPLETE
        cluster.report(task, TaskState.COMPLETE, exit_code=0)
    assert cluster.health() == ("healthy", True, "")


def test_a_job_without_attempts_left_has_failed_and_starts_nothing_in_place_of_the_run() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(FLAPPING, restart=RestartPolicy(delay_ns=0, max_attempts=2)), a_job(1))
    cluster.rounds(30)
    assert len(cluster.tasks()) == 3
    cluster.new_leader()
    cluster.rounds(10)
    assert len(cluster.tasks()) == 3
    assert cluster.health().health == "failed"
    assert "is not restarted" in cluster.health().message


def test_a_new_spec_ends_the_runs_of_the_one_before_and_starts_from_the_first_slot() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec("v1"), a_job(3, 2))
    cluster.until(lambda: len(cluster.running()) == 2)
    cluster.report(cluster.running()[0], TaskState.COMPLETE)
    cluster.rounds(3)
    cluster.run(a_spec("v2"), a_job(3, 2))
    first = [task for task in cluster.live() if task.iteration == 2]
    assert [task.slot for task in first] == [1, 2]
    cluster.until(lambda: cluster.images() == ["v2", "v2"])
    assert {task.iteration for task in cluster.tasks() if cluster.state(task) is TaskState.RUNNING} == {2}
    assert cluster.view.rollouts.get(cluster.service().id) is None


def test_going_back_to_an_earlier_spec_runs_it_again() -> None:
    cluster = ToyCluster()
    for image in (ENDING, "v1", ENDING):
        cluster.run(a_spec(image), a_job(1))
        cluster.rounds(6)
    assert cluster.service().iteration == 3
    cluster.settle()
    assert [task.iteration for task in completed(cluster)] == [1, 3]


def test_a_forced_update_or_a_rollback_runs_a_job_again_and_the_same_manifest_does_not() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(ENDING), a_job(1))
    cluster.settle()
    cluster.run(a_spec(ENDING), a_job(1))
    assert cluster.service().iteration == 1
    cluster.submit(ForceUpdate(name="shop_web", principal=SOMEBODY))
    cluster.settle()
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY))
    cluster.settle()
    assert cluster.service().iteration == 3
    assert len(completed(cluster)) == 3


def test_more_completions_are_added_to_the_iteration_under_way_and_fewer_take_back_what_runs() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec("v1"), a_job(2))
    cluster.until(lambda: len(cluster.running()) == 2)
    cluster.report(cluster.running()[0], TaskState.COMPLETE)
    cluster.submit(ScaleService(name="shop_web", replicas=4, principal=SOMEBODY))
    cluster.until(lambda: len(cluster.running()) == 3)
    assert cluster.service().iteration == 1
    cluster.submit(ScaleService(name="shop_web", replicas=2, principal=SOMEBODY))
    cluster.until(lambda: len(unfinished(cluster)) == 1)
    cluster.report(cluster.running()[0], TaskState.COMPLETE)
    assert cluster.health().converged


def test_the_history_of_a_job_is_kept_as_short_as_that_of_any_slot() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(ENDING), a_job(1))
    for _ in range(8):
        cluster.settle()
        cluster.submit(ForceUpdate(name="shop_web", principal=SOMEBODY))
    cluster.settle()
    assert len(cluster.tasks()) == 5


def test_a_job_with_fewer_completions_in_its_next_iteration_forgets_the_slots_it_no_longer_has() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(ENDING), a_job(4))
    cluster.settle()
    cluster.run(a_spec(ENDING, placement=on("node.role == worker")), a_job(1))
    cluster.settle()
    assert {task.slot for task in cluster.tasks()} == {1}


def test_a_run_whose_node_is_lost_is_repeated_elsewhere_and_a_completed_one_is_not() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec("v1"), a_job(2))
    cluster.until(lambda: len(cluster.running()) == 2)
    done, lost = cluster.running()
    cluster.report(done, TaskState.COMPLETE)
    cluster.crash(int(done.node_id[-1]))
    cluster.rounds(5)
    assert len(cluster.tasks()) == 2
    cluster.recover(int(done.node_id[-1]))
    cluster.crash(int(lost.node_id[-1]))
    cluster.until(lambda: any(task.id != lost.id for task in cluster.running()))
    (again,) = [task for task in cluster.running() if task.id != lost.id]
    cluster.report(again, TaskState.COMPLETE)
    assert cluster.health().converged


def test_a_global_job_begins_on_a_node_out_of_sight_when_that_is_back() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.submit(ReportNode(id=NodeId("node2"), state=NodeState.DISCONNECTED))
    cluster.run(a_spec(ENDING), EVERYWHERE)
    cluster.settle()
    assert [task.node_id for task in cluster.tasks()] == ["node1"]
    cluster.recover(2)
    cluster.settle()
    assert [task.node_id for task in cluster.tasks()] == ["node1", "node2"]


def test_a_global_job_runs_once_on_every_node_and_on_those_that_join_later() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(ENDING, placement=on("node.hostname != host3")), EVERYWHERE)
    cluster.settle()
    assert [task.node_id for task in completed(cluster)] == ["node1", "node2"]
    cluster.join(3)
    cluster.join(4)
    cluster.settle()
    assert [task.node_id for task in completed(cluster)] == ["node1", "node2", "node4"]


def test_a_global_job_is_stopped_on_a_drained_node_and_starts_again_when_the_node_is_back() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec("v1"), EVERYWHERE)
    cluster.until(lambda: len(cluster.running()) == 2)
    cluster.drain(2)
    cluster.until(lambda: len(cluster.running()) == 1)
    cluster.report(cluster.running()[0], TaskState.COMPLETE)
    assert cluster.health().converged
    cluster.drain(2, Availability.ACTIVE)
    cluster.until(lambda: len(cluster.running()) == 1)
    cluster.report(cluster.running()[0], TaskState.COMPLETE)
    assert {task.node_id for task in completed(cluster)} == {"node1", "node2"}


def test_attempts_are_counted_for_global_jobs_as_well() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(FLAPPING, restart=RestartPolicy(delay_ns=0, max_attempts=1)), EVERYWHERE)
    cluster.rounds(30)
    assert len(cluster.tasks()) == 4
    assert cluster.health().health == "failed"


def test_a_run_that_has_to_leave_its_node_when_the_job_is_started_anew_has_no_successor() -> None:
    """The new iteration begins its runs from the first slot, one at a time (`ToyCluster` checks that)."""
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec("v1"), a_job(2, 2))
    cluster.until(lambda: len(cluster.running()) == 2)
    anew = a_spec("v2")
    cluster.submit(
        StageContent(specs=(SpecRow(digest=spec_digest(anew), spec=anew),)),
        SetSpec(name="shop_web", spec=spec_digest(anew), settings=a_job(2, 1), principal=SOMEBODY),
        RemoveNode(id=NodeId("node1"), principal=SOMEBODY, force=True),
        RemoveNode(id=NodeId("node2"), principal=SOMEBODY, force=True),
    )
    assert [task.slot for task in cluster.live()] == [1]


def test_a_revision_with_a_job_has_converged_when_the_job_is_done_and_failed_when_it_can_not_be() -> None:
    for image, outcome in ((ENDING, RevisionState.CONVERGED), (BAD, RevisionState.FAILED)):
        cluster = ToyCluster()
        cluster.run(a_spec(image, restart=once()), a_job(2))
        (revision,) = cluster.view.revisions.values()
        assert revision.state is RevisionState.ROLLING
        cluster.until(lambda cluster=cluster: not cluster.view.revisions_in(RevisionState.ROLLING))
        (revision,) = cluster.view.revisions.values()
        assert revision.state is outcome


def test_a_job_tells_how_far_it_has_come() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec("v1"), a_job(3, 1))
    cluster.until(lambda: len(cluster.running()) == 1)
    cluster.report(cluster.running()[0], TaskState.COMPLETE)
    assert cluster.health() == ("progressing", False, "1 of 3 runs have completed")


def test_a_global_job_has_no_number_of_completions_to_change() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec(ENDING), EVERYWHERE)
    reply = cluster.submit(ScaleService(name="shop_web", replicas=3, principal=SOMEBODY))
    assert isinstance(reply, Rejected)
    assert reply.code == "service.scale.global"


def test_a_run_that_was_taken_back_does_not_count_even_if_it_completes() -> None:
    """Its record goes, and the slot has another run: else two would be under way by then."""
    cluster = ToyCluster()
    cluster.run(a_spec(), a_job(3, concurrent=1))
    cluster.until(lambda: bool(cluster.running()))
    (first,) = cluster.running()
    for replicas in (0, 3):
        cluster.submit(ScaleService(name="shop_web", replicas=replicas, principal=SOMEBODY))
    cluster.report(first, TaskState.COMPLETE)
    (second,) = cluster.live()
    assert (second.slot, second.id != first.id) == (1, True)
    cluster.rounds(3)
    for _ in range(3):
        (run,) = cluster.running()
        cluster.report(run, TaskState.COMPLETE)
        cluster.rounds(3)
    assert cluster.health().converged
    assert len(completed(cluster)) == 3


def test_a_slot_that_a_job_no_longer_has_loses_what_is_left_of_earlier_iterations_as_well() -> None:
    """In the same decision (`ToyCluster` asks after every entry)."""
    cluster = ToyCluster()
    cluster.run(a_spec(), a_job(2))
    cluster.until(lambda: len(cluster.running()) == 2)
    for task in cluster.running():
        cluster.report(task, TaskState.COMPLETE)
    cluster.run(a_spec("v2"), a_job(2))
    assert len(cluster.tasks()) == 4
    cluster.submit(ScaleService(name="shop_web", replicas=1, principal=SOMEBODY))
    assert {task.slot for task in cluster.live()} == {1}
    cluster.rounds(3)
    assert {task.slot for task in cluster.tasks()} == {1}
