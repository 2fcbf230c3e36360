"""Another spec in the middle of an update: whatever mixture of old and new it meets, it keeps what already matches.

`ToyCluster` checks every step: the update's floor, that looking at the whole service adds nothing to a look at a few slots,
and all else of `engine/check`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, assume, given
from hypothesis import settings as options
from hypothesis import strategies as st
from stackd.base.time import SECOND, Duration
from stackd.engine.inputs import RollbackService, ScaleService
from stackd.engine.model import Task
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import FailureAction, UpdateConfig, UpdateOrder

from engine_builders import BAD, FLAPPING, SOMEBODY, ToyCluster, a_spec, settings

LIMITS = options(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

configs = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 3),
    delay_ns=st.sampled_from([0, Duration(SECOND // 2)]),
    failure_action=st.sampled_from(FailureAction),
    monitor_ns=st.sampled_from([1, SECOND]),
    max_failure_ratio=st.sampled_from([0.0, 0.5]),
    order=st.sampled_from(UpdateOrder),
)
images = st.sampled_from(["v1", "v2", "v3", BAD, FLAPPING])


@dataclass(frozen=True)
class Change:
    """A submission, the rounds that pass after it, and a running task that fails then (its number, or none)."""

    image: str
    update: UpdateConfig
    rounds: int
    failing: int | None


changes = st.builds(Change, images, configs, st.integers(0, 9), st.none() | st.integers(0, 5))


def submit(cluster: ToyCluster, change: Change, replicas: int) -> None:
    cluster.run(a_spec(change.image), settings(replicas, update=change.update, rollback=change.update))
    cluster.rounds(change.rounds)
    if change.failing is not None and (running := cluster.running()):
        cluster.report(running[change.failing % len(running)], TaskState.FAILED, error="killed")


def a_mixture(history: list[Change], replicas: int, nodes: int) -> ToyCluster:
    cluster = ToyCluster(nodes=nodes)
    for change in history:
        submit(cluster, change, replicas)
    return cluster


def as_wanted(cluster: ToyCluster) -> list[Task]:
    """The tasks that run, are to run on, and have the wanted spec: one per slot."""
    wanted = cluster.service().spec
    found = [task for task in cluster.running() if task.spec == wanted and task.desired is TaskState.RUNNING]
    return list({task.slot: task for task in found}.values())


@LIMITS
@given(
    st.lists(changes, min_size=1, max_size=4),
    st.sampled_from(["v1", "v2", "v3"]),
    configs,
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_a_new_spec_in_the_middle_of_an_update_keeps_every_task_that_already_matches(
    history: list[Change], image: str, update: UpdateConfig, replicas: int, nodes: int
) -> None:
    cluster = a_mixture(history, replicas, nodes)
    before = cluster.service().version
    cluster.run(a_spec(image), settings(replicas, update=update, rollback=update))
    assume(cluster.service().version != before)  # else nothing was submitted, and a paused update stays paused
    kept = {task.id for task in as_wanted(cluster)}
    cluster.settle()
    assert kept <= {task.id for task in cluster.running()}
    assert cluster.images() == [image] * replicas


@LIMITS
@given(st.lists(changes, min_size=2, max_size=4), st.integers(1, 5), st.integers(0, 6))
def test_from_any_mixture_a_rollback_by_hand_or_a_change_of_scale_comes_to_an_end(
    history: list[Change], replicas: int, scaled: int
) -> None:
    cluster = a_mixture(history, replicas, 2)
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY))
    cluster.submit(ScaleService(name="shop_web", replicas=scaled, principal=SOMEBODY))
    cluster.rounds(3)
    cluster.new_leader()
    cluster.run(a_spec("v9"), settings(scaled))
    cluster.settle()
    assert cluster.images() == ["v9"] * scaled


@LIMITS
@given(st.lists(changes, min_size=1, max_size=4), st.integers(1, 4))
def test_the_last_submission_wins_whatever_came_before(history: list[Change], replicas: int) -> None:
    cluster = a_mixture(history, replicas, 2)
    wanted = cluster.service().spec
    cluster.run(a_spec("v7"), settings(replicas))
    cluster.run(a_spec("v8"), settings(replicas))
    assert cluster.service().spec != wanted
    cluster.settle()
    assert cluster.images() == ["v8"] * replicas
    assert len(cluster.live()) == replicas
