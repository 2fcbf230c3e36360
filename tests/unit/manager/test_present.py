"""Stored records as people see them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from stackd.api.control import Empty, ListRequest, NameRequest
from stackd.api.views import rfc3339
from stackd.base.time import SECOND, Instant
from stackd.cli.filekeys import file_key
from stackd.engine.inputs import PutSource, ReportSource, ReportTasks
from stackd.engine.model import Event, Source
from stackd.engine.parts import SYSTEM, SourceKind
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.manager import present
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.stack import (
    ContainerSpec,
    FileRef,
    Healthcheck,
    Mount,
    MountType,
    Port,
    RestartCondition,
    ServiceMode,
    ServiceSettings,
    TaskSpec,
)

from control_builders import ANN, NODE, LiveManager, play
from engine_builders import ENDING, ToyCluster, a_spec, settings

SECRET = b"correct horse battery staple"


def a_task_spec(**container: Any) -> TaskSpec:
    return TaskSpec(container=ContainerSpec(image="web:v1", **container))


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, None),
        (1_767_225_600 * SECOND, "2026-01-01T00:00:00.000Z"),
        (1_767_225_600_001_000_000, "2026-01-01T00:00:00.001Z"),
        (1_767_225_599_999_000_000, "2025-12-31T23:59:59.999Z"),
    ],
)
def test_instants_are_in_utc_to_the_millisecond(at: int, text: str | None) -> None:
    assert rfc3339(Instant(at)) == text


def test_mappings_are_objects_also_when_they_are_empty() -> None:
    mount = Mount(type=MountType.VOLUME, target="/data", labels=(("keep", "yes"),))
    shown = present.as_json(a_task_spec(labels=(("a.b", "1"),), mounts=(mount,)))
    assert shown["container"]["labels"] == {"a.b": "1"}
    assert shown["container"]["mounts"][0]["labels"] == {"keep": "yes"}
    assert shown["container"]["mounts"][0]["driver_options"] == {}
    assert present.as_json(a_task_spec())["container"]["labels"] == {}
    assert present.as_json(ServiceSettings())["labels"] == {}


def test_lists_stay_lists_whatever_is_in_them() -> None:
    shown = present.as_json(a_task_spec(command=("echo", "hi"), env=("A=1", "B=2")))
    assert shown["container"]["command"] == ["echo", "hi"]
    assert shown["container"]["env"] == ["A=1", "B=2"]
    assert shown["container"]["entrypoint"] is None
    assert shown["ports"] == []


@pytest.mark.parametrize(
    ("before", "after", "key", "values"),
    [
        (a_task_spec(), a_task_spec(user="www"), "user", ("", "www")),
        (a_task_spec(), a_task_spec(command=("a", "b")), "command", ("", '["a","b"]')),
        (a_task_spec(env=("A=1",)), a_task_spec(env=("A=2",)), "environment", ('["A=1"]', '["A=2"]')),
        (a_task_spec(), a_task_spec(labels=(("a.b", "1"),)), "labels.a.b", ("", "1")),
        (a_task_spec(labels=(("a", "1"), ("b", "1"))), a_task_spec(labels=(("b", "1"),)), "labels.a", ("1", "")),
        (
            a_task_spec(healthcheck=Healthcheck(test=("CMD", "x"), retries=1)),
            a_task_spec(healthcheck=Healthcheck(test=("CMD", "x"), retries=2)),
            "healthcheck.retries",
            ("1", "2"),
        ),
        (ServiceSettings(replicas=1), ServiceSettings(replicas=3), "deploy.replicas", ("1", "3")),
        (ServiceSettings(), ServiceSettings(labels=(("tier", "front"),)), "deploy.labels.tier", ("", "front")),
    ],
)
def test_a_changed_field_leads_to_the_key_of_the_file(
    before: msgspec.Struct, after: msgspec.Struct, key: str, values: tuple[str, str]
) -> None:
    ((field, was, will),) = present.changed_fields(before, after)
    assert (file_key(field), (was, will)) == (key, values)


def test_equal_records_have_no_changed_fields() -> None:
    port = Port(target=80, published=8080)
    one, other = (TaskSpec(container=ContainerSpec(image="a"), ports=(port,)) for _ in range(2))
    assert present.changed_fields(one, other) == []
    assert present.changed_fields(None, None) == []


def test_something_that_was_not_there_is_changed_from_nothing() -> None:
    fields = present.changed_fields(None, FileRef(source="a", target="/a"))
    assert ("source", "", "a") in fields


def test_the_health_of_many_is_the_worst() -> None:
    assert present.worst([]) == "healthy"
    assert present.worst(["healthy", "failed", "degraded"]) == "failed"


def test_no_secret_is_in_anything_that_is_shown() -> None:
    async def story(manager: LiveManager) -> None:
        stack = a_stack("shop", a_service(secret="password"), secrets={"password": SECRET})
        control = manager.control
        plan = await manager.plan(stack)
        await manager.apply(stack)
        await manager.settle()
        changed = a_stack("shop", a_service(secret="password"), secrets={"password": SECRET[::-1]})
        shown = [
            plan,
            await manager.plan(changed),
            await control.status(Empty(), ANN),
            await control.services(ListRequest(), ANN),
            await control.tasks(ListRequest(), ANN),
            await control.inspect(NameRequest(name="shop_web"), ANN),
        ]
        text = msgspec.json.encode(shown)
        assert b"password" in text
        assert SECRET not in text
        assert SECRET[::-1] not in text

    play(story)


def test_a_task_shows_how_it_ended() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(restart=RestartCondition.NONE)))
        await manager.settle()
        (task,) = manager.tasks()
        manager.node_works = False
        status = TaskStatus(id=task.id, state=TaskState.FAILED, at=manager.view.now, error="it broke", exit_code=3)
        await manager.submit(ReportTasks(node_id=NODE, statuses=(status,)))
        shown = present.task_view(manager.view, task)
        assert (shown.name, shown.stack, shown.node) == ("shop_web.1", "shop", "host1")
        assert (shown.state, shown.error, shown.exit_code, shown.desired_state) == ("failed", "it broke", 3, "running")

    play(story)


def test_a_global_service_wants_as_many_tasks_as_it_has_nodes() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(everywhere=True)))
        await manager.settle()
        shown = present.service_view(manager.view, manager.service())
        assert (shown.mode, shown.replicas, shown.running, shown.updated) == ("global", 1, 1, 1)
        (task,) = manager.tasks()
        assert present.task_view(manager.view, task).name == "shop_web.host1"

    play(story)


def test_of_a_job_what_has_completed_is_counted_of_what_has_to() -> None:
    cluster = ToyCluster()
    cluster.run(a_spec("v1"), settings(3, mode=ServiceMode.REPLICATED_JOB, max_concurrent=2))
    cluster.until(lambda: len(cluster.running()) == 2)
    cluster.report(cluster.running()[0], TaskState.COMPLETE)
    cluster.until(lambda: len(cluster.running()) == 2)
    shown = present.service_view(cluster.view, cluster.service())
    assert (shown.mode, shown.replicas, shown.running, shown.completed, shown.iteration) == ("replicated-job", 3, 2, 1, 1)
    assert (shown.converged, shown.message) == (False, "1 of 3 runs have completed")


def test_a_completed_global_job_wants_what_it_has_done() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec(ENDING), settings(mode=ServiceMode.GLOBAL_JOB))
    cluster.settle()
    shown = present.service_view(cluster.view, cluster.service())
    assert (shown.replicas, shown.running, shown.completed, shown.converged) == (2, 0, 2, True)


def test_status_follows_what_is_said_of_the_source() -> None:
    async def story(manager: LiveManager) -> None:
        source = Source(name="main", kind=SourceKind.GIT, location="https://git.test/x", ref="main")
        await manager.submit(PutSource(source=source, principal=SYSTEM))

        async def sync() -> str:
            return (await manager.control.status(Empty(), ANN)).sync

        assert await sync() == "unknown"
        await manager.deploy_from_source(a_stack("shop", a_service()))
        await manager.submit(ReportSource(name="main", seen="abc"))
        assert await sync() == "synced"
        await manager.submit(ReportSource(name="main", seen="abc", held_prune=("blog",)))
        assert await sync() == "out-of-sync"
        await manager.submit(ReportSource(name="main", seen="abc", error="gone", error_code="source.git.failed"))
        status = await manager.control.status(Empty(), ANN)
        assert (status.sync, status.sources[0].error, status.stacks[0].sync) == ("error", "gone", "error")

    play(story)


def test_an_event_names_who_did_it() -> None:
    event = Event(
        seq=7, at=Instant(1), kind="stack.changed", subject="shop", message="m", stack="shop", principal=ANN.principal
    )
    assert present.event_view(event).principal == "local-user:ann"


def test_a_stack_back_at_an_earlier_spec_is_out_of_sync() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(image="img:v1")))
        await manager.settle()
        await manager.apply(a_stack("shop", a_service(image="img:v2")))
        await manager.settle()
        assert [stack.sync for stack in (await manager.control.stacks(Empty(), ANN)).items] == ["synced"]
        await manager.control.rollback(NameRequest(name="shop_web"), ANN)
        await manager.settle()
        assert [stack.sync for stack in (await manager.control.stacks(Empty(), ANN)).items] == ["out-of-sync"]
        await manager.apply(a_stack("shop", a_service(image="img:v3")))
        await manager.settle()
        assert [stack.sync for stack in (await manager.control.stacks(Empty(), ANN)).items] == ["synced"]

    play(story)
