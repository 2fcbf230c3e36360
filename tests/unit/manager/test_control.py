"""What clients may ask for, against a live writer and a node that works."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from stackd.api.control import (
    DownRequest,
    Empty,
    EventsRequest,
    ListRequest,
    LogsRequest,
    NameRequest,
    ScaleRequest,
    Services,
    SyncRequest,
    UpdateRequest,
)
from stackd.api.dispatch import LogChunk
from stackd.base.errors import NotFound, Refused, StackdError
from stackd.engine.inputs import PutSource
from stackd.engine.model import Source
from stackd.engine.parts import SYSTEM, SourceKind
from stackd.engine.taskstate import TaskState
from stackd.manager.control import Control
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.stack import StackSpec, UpdateOrder

from control_builders import ANN, LiveManager, first, play

EVERYTHING = ListRequest()


def shop(image: str = "web:v1", **fields: object) -> StackSpec:
    return a_stack("shop", a_service(image=image, monitor_seconds=0.0, **fields))  # type: ignore[arg-type]


def two_services() -> StackSpec:
    return a_stack("shop", a_service("web"), a_service("db", "db:v1"))


async def watch(control: Control, request: ListRequest, pushed: list[Services]) -> None:
    async for services in control.watch(request, ANN):
        pushed.append(services)  # noqa: PERF401 (the list is looked at while it grows)


def code_of(error: pytest.ExceptionInfo[StackdError]) -> str:
    return error.value.code


def test_version_says_who_answers() -> None:
    async def story(manager: LiveManager) -> None:
        answer = await manager.control.version(Empty(), ANN)
        assert (answer.version, answer.data_dir, answer.pid) == ("1.2.3", "/var/lib/stackd", 42)

    play(story)


def test_status_is_converged_once_everything_runs() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        assert not (await manager.control.status(Empty(), ANN)).converged
        await manager.settle()
        status = await manager.control.status(Empty(), ANN)
        assert (status.converged, status.health, status.leader, status.nodes_ready) == (True, "healthy", "host1", 1)
        assert [(stack.name, stack.converged) for stack in status.stacks] == [("shop", True)]

    play(story)


# Deploying.


def test_applying_what_is_already_so_changes_nothing() -> None:
    async def story(manager: LiveManager) -> None:
        first_time = await manager.apply(shop())
        again = await manager.apply(shop())
        assert (first_time.changed, again.changed) == (True, False)
        assert again.revision == first_time.revision
        assert again.services == ("shop_web",)

    play(story)


def test_a_plan_that_is_still_true_is_applied() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        await manager.settle()
        plan = await manager.plan(shop("web:v2"))
        assert (await manager.apply(shop("web:v2"), base_version=plan.base_version)).changed

    play(story)


def test_reports_do_not_make_a_plan_stale() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        plan = await manager.plan(shop("web:v2"))
        await manager.settle()
        assert (await manager.apply(shop("web:v2"), base_version=plan.base_version)).changed

    play(story)


def test_a_plan_made_before_somebody_elses_change_is_stale() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        plan = await manager.plan(shop("web:v2"))
        await manager.control.scale(ScaleRequest(name="shop_web", replicas=2), ANN)
        with pytest.raises(Refused) as stale:
            await manager.apply(shop("web:v2"), base_version=plan.base_version)
        assert code_of(stale) == "plan.stale"

    play(story)


def test_a_plan_made_before_something_was_removed_is_stale_also_once_that_is_gone() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("blog", a_service("page")))
        await manager.apply(two_services())
        await manager.settle()
        plan = await manager.plan(shop("web:v2"))
        await manager.control.remove_stack(NameRequest(name="blog"), ANN)
        await manager.until(lambda: len(manager.view.services) == 2)
        with pytest.raises(Refused) as stale:
            await manager.apply(shop("web:v2"), base_version=plan.base_version)
        assert code_of(stale) == "plan.stale"

    play(story)


def test_a_plan_made_on_an_empty_cluster_can_become_stale() -> None:
    async def story(manager: LiveManager) -> None:
        plan = await manager.plan(shop())
        await manager.apply(shop("somebody:elses"))
        with pytest.raises(Refused) as stale:
            await manager.apply(shop(), base_version=plan.base_version)
        assert code_of(stale) == "plan.stale"

    play(story)


def test_a_stack_of_a_source_is_taken_over_only_when_asked_to() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.deploy_from_source(shop())
        with pytest.raises(Refused) as refused:
            await manager.apply(shop("web:v2"))
        assert code_of(refused) == "deploy.owner"
        assert (await manager.apply(shop("web:v2"), adopt=True)).changed
        stack = manager.view.stacks.get("shop")
        assert stack is not None
        assert stack.owner.source == ""

    play(story)


def test_a_stack_of_a_source_is_planned_as_the_sources_next_revision() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.deploy_from_source(shop())
        await manager.settle()
        plan = await manager.plan(shop("web:v2"))
        assert (plan.refused, [service.action for service in plan.services]) == ("", ["update"])

    play(story)


def test_sync_asks_the_sources() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.control.sync(SyncRequest(source="main", approve_prune=True), ANN)
        assert manager.sources.synced == [("main", True)]

    play(story)


# Reading.


def test_events_are_the_last_ones_asked_for_or_all_after_a_number() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(two_services())
        await manager.settle()
        everything = [event.seq async for event in manager.control.events(EventsRequest(limit=1000), ANN)]
        assert everything == list(range(1, manager.view.event_seq + 1))
        last = [event.seq async for event in manager.control.events(EventsRequest(limit=2), ANN)]
        assert last == everything[-2:]
        after = [event.seq async for event in manager.control.events(EventsRequest(after=2, limit=1), ANN)]
        assert after == everything[2:]

    play(story)


def test_the_limit_counts_the_events_of_the_stack_that_is_asked_for() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        await manager.apply(a_stack("blog", a_service("page")))
        found = [event.stack async for event in manager.control.events(EventsRequest(limit=2, stack="shop"), ANN)]
        assert found == ["shop", "shop"]

    play(story)


def test_the_audit_is_what_somebody_did() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        await manager.settle()
        asked = EventsRequest(limit=1000, audit=True)
        found = [event async for event in manager.control.events(asked, ANN)]
        assert found
        assert {event.principal for event in found} == {"local-user:ann"}

    play(story)


def test_following_events_gives_each_once_from_where_the_past_ends() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        await manager.settle()
        seen = manager.view.event_seq
        request = EventsRequest(limit=1, follow=True, stack="shop")
        following = asyncio.ensure_future(first(manager.control.events(request, ANN), 3))
        await asyncio.sleep(1)
        await manager.apply(a_stack("blog", a_service("page")))
        for replicas in (2, 3):
            await manager.control.scale(ScaleRequest(name="shop_web", replicas=replicas), ANN)
        events = await following
        assert [event.kind for event in events[1:]] == ["service.changed", "service.changed"]
        assert events[0].seq <= seen < events[1].seq < events[2].seq

    play(story)


def test_watching_pushes_only_what_looks_different() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(two_services())
        await manager.settle()
        pushed: list[Services] = []

        watching = asyncio.ensure_future(watch(manager.control, ListRequest(service="shop_web"), pushed))
        await asyncio.sleep(1)
        await manager.control.scale(ScaleRequest(name="shop_db", replicas=3), ANN)
        await manager.settle()
        assert len(pushed) == 1
        await manager.control.scale(ScaleRequest(name="shop_web", replicas=2), ANN)
        await manager.settle()
        await asyncio.sleep(1)
        watching.cancel()
        assert [services.items[0].running for services in pushed][-1] == 2
        assert all(one.items != other.items for one, other in pairwise(pushed))
        assert [one.index for one in pushed] == sorted(one.index for one in pushed)

    play(story)


def test_lists_are_by_name_and_can_be_narrowed() -> None:
    async def story(manager: LiveManager) -> None:
        control = manager.control
        await manager.apply(two_services(), a_stack("blog", a_service("page")))
        await manager.settle()
        assert [stack.name for stack in (await control.stacks(Empty(), ANN)).items] == ["blog", "shop"]
        names = [item.name for item in (await control.services(EVERYTHING, ANN)).items]
        assert names == ["blog_page", "shop_db", "shop_web"]
        of_shop = (await control.services(ListRequest(stack="shop"), ANN)).items
        assert [item.name for item in of_shop] == ["shop_db", "shop_web"]
        tasks = (await control.tasks(ListRequest(service="shop_db"), ANN)).items
        assert [(task.name, task.state, task.node) for task in tasks] == [("shop_db.1", "running", "host1")]
        (node,) = (await control.nodes(Empty(), ANN)).items
        assert (node.hostname, node.self_, node.manager_status, node.tasks) == ("host1", True, "leader", 3)

    play(story)


@pytest.mark.parametrize(
    ("request_", "code"),
    [(ListRequest(stack="nobody"), "stack.unknown"), (ListRequest(service="shop_nobody"), "service.unknown")],
)
def test_lists_of_something_unknown_are_errors(request_: ListRequest, code: str) -> None:
    async def story(manager: LiveManager) -> None:
        for method in (manager.control.services, manager.control.tasks):
            with pytest.raises(NotFound) as error:
                await method(request_, ANN)
            assert code_of(error) == code

    play(story)


def test_tasks_that_are_over_come_after_their_successor_and_only_with_history() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        await manager.settle()
        await manager.apply(shop("web:v2"))
        await manager.settle()
        images = [task.image for task in (await manager.control.tasks(EVERYTHING, ANN)).items]
        assert images == ["web:v2", "web:v1"]
        live = (await manager.control.tasks(ListRequest(history=False), ANN)).items
        assert [task.image for task in live] == ["web:v2"]

    play(story)


def test_inspecting_shows_the_spec_and_the_one_before() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        assert (await manager.control.inspect(NameRequest(name="shop_web"), ANN)).previous_spec is None
        await manager.apply(shop("web:v2"))
        detail = await manager.control.inspect(NameRequest(name=manager.service().id), ANN)
        assert detail.spec["container"]["image"] == "web:v2"
        assert detail.previous_spec["container"]["image"] == "web:v1"

    play(story)


def test_logs_are_those_of_a_service_or_of_the_one_task_that_a_prefix_names() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop(replicas=2))
        await manager.settle()
        one, two = manager.tasks()
        manager.logs.chunks = {
            one.id: [LogChunk(request=1, at_ns=2, line=b"b")],
            two.id: [LogChunk(request=2, at_ns=1, line=b"a")],
        }
        lines = [line.line async for line in manager.control.logs(LogsRequest(name="shop_web"), ANN)]
        assert lines == ["a", "b"]
        assert [line.line async for line in manager.control.logs(LogsRequest(name=one.id[:12]), ANN)] == ["b"]
        for name in ("nobody", one.id[:3]):
            with pytest.raises(NotFound):
                await anext(manager.control.logs(LogsRequest(name=name), ANN))

    play(story)


# Changing one service by hand.


def test_tasks_of_one_node_are_asked_for_by_its_name() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        await manager.settle()
        everywhere = await manager.control.tasks(ListRequest(), ANN)
        assert (await manager.control.tasks(ListRequest(node="host1"), ANN)).items == everywhere.items
        with pytest.raises(NotFound):
            await manager.control.tasks(ListRequest(node="stranger"), ANN)

    play(story)


def test_scaling_by_name_or_id_changes_the_number_of_tasks() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        view = await manager.control.scale(ScaleRequest(name="shop_web", replicas=3), ANN)
        assert view.replicas == 3
        await manager.settle()
        assert manager.running_tasks() == 3
        assert (await manager.control.scale(ScaleRequest(name=view.id, replicas=1), ANN)).replicas == 1

    play(story)


def test_an_update_by_hand_changes_what_it_names_and_nothing_else() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        request = UpdateRequest(
            name="shop_web", image="web:v2", env_add=("B=2", "A=1"), parallelism=2, order="start-first", override=False
        )
        view = await manager.control.update(request, ANN)
        assert view.image == "web:v2"
        service = manager.service()
        row = manager.view.specs.get(service.spec)
        assert row is not None
        assert row.spec.container.env == ("A=1", "B=2")
        assert (service.settings.update.parallelism, service.settings.update.order) == (2, UpdateOrder.START_FIRST)
        await manager.control.update(UpdateRequest(name="shop_web", env_remove=("A", "Z")), ANN)
        row = manager.view.specs.get(manager.service().spec)
        assert row is not None
        assert row.spec.container.env == ("B=2",)
        assert row.spec.container.image == "web:v2"

    play(story)


def test_an_update_that_says_what_is_so_changes_nothing() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        version = manager.service().version
        await manager.control.update(UpdateRequest(name="shop_web", image="web:v1", env_remove=("NOTHING",)), ANN)
        assert manager.service().version == version

    play(story)


def test_a_forced_update_replaces_every_task_and_is_no_override() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.deploy_from_source(shop())
        await manager.settle()
        before = {task.id for task in manager.tasks()}
        await manager.control.update(UpdateRequest(name="shop_web", force=True), ANN)
        await manager.settle()
        live = {task.id for task in manager.tasks() if task.desired <= TaskState.RUNNING}
        assert live
        assert not live & before
        assert not manager.service().override

    play(story)


def test_a_forced_update_with_other_settings_is_a_change_like_any_other() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.deploy_from_source(shop())
        request = UpdateRequest(name="shop_web", image="web:v2", force=True)
        with pytest.raises(Refused) as refused:
            await manager.control.update(request, ANN)
        assert code_of(refused) == "deploy.owned"
        allowed = UpdateRequest(name="shop_web", image="web:v2", force=True, override=True)
        assert (await manager.control.update(allowed, ANN)).override

    play(story)


def test_what_a_source_owns_is_changed_by_hand_only_with_override() -> None:
    async def story(manager: LiveManager) -> None:
        control = manager.control
        await manager.deploy_from_source(shop())
        await manager.deploy_from_source(shop("web:v2"))
        for change in (
            control.scale(ScaleRequest(name="shop_web", replicas=2), ANN),
            control.update(UpdateRequest(name="shop_web", image="web:v3"), ANN),
            control.rollback(NameRequest(name="shop_web"), ANN),
            control.remove_service(NameRequest(name="shop_web"), ANN),
            control.remove_stack(NameRequest(name="shop"), ANN),
        ):
            with pytest.raises(Refused) as refused:
                await change
            assert code_of(refused) == "deploy.owned"
        assert (await control.scale(ScaleRequest(name="shop_web", replicas=2, override=True), ANN)).override
        assert (await control.status(Empty(), ANN)).stacks[0].sync == "out-of-sync"
        assert (await control.rollback(NameRequest(name="shop_web", override=True), ANN)).override
        await control.remove_stack(NameRequest(name="shop", override=True), ANN)
        assert len(manager.view.stacks) == 0

    play(story)


def test_a_rollback_goes_back_to_what_was_before() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        with pytest.raises(Refused) as refused:
            await manager.control.rollback(NameRequest(name="shop_web"), ANN)
        assert code_of(refused) == "service.rollback.none"
        await manager.apply(shop("web:v2"))
        await manager.settle()
        assert (await manager.control.rollback(NameRequest(name="shop_web"), ANN)).image == "web:v1"

    play(story)


def test_two_updates_at_one_moment_do_not_undo_each_other() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        results = await asyncio.gather(
            manager.control.update(UpdateRequest(name="shop_web", env_add=("A=1",)), ANN),
            manager.control.update(UpdateRequest(name="shop_web", env_add=("B=2",)), ANN),
            return_exceptions=True,
        )
        assert [result.code for result in results if isinstance(result, StackdError)] == ["service.stale"]

    play(story)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (ScaleRequest(name="shop_nobody", replicas=1), "service.unknown"),
        (ScaleRequest(name="shop_web", replicas=-1), "service.scale.range"),
        (UpdateRequest(name="shop_nobody", image="x"), "service.unknown"),
        (UpdateRequest(name="shop_web", order="sideways"), "service.order.bad"),
    ],
)
def test_changes_that_make_no_sense_are_refused(change: ScaleRequest | UpdateRequest, code: str) -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        control = manager.control
        changing = control.scale(change, ANN) if isinstance(change, ScaleRequest) else control.update(change, ANN)
        with pytest.raises(StackdError) as error:
            await changing
        assert code_of(error) == code

    play(story)


def test_removing_takes_the_tasks_away() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(two_services())
        await manager.settle()
        await manager.control.remove_service(NameRequest(name="shop_db"), ANN)
        with pytest.raises(NotFound):
            await manager.control.remove_service(NameRequest(name="shop_db"), ANN)
        await manager.until(lambda: len(manager.view.tasks) == 1)
        await manager.control.remove_stack(NameRequest(name="shop"), ANN)
        await manager.until(lambda: len(manager.view.tasks) == len(manager.view.services) == 0)
        with pytest.raises(NotFound):
            await manager.control.remove_stack(NameRequest(name="shop"), ANN)

    play(story)


# Taking everything down.


def test_down_stops_the_sources_removes_everything_and_only_then_ends_the_daemon() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.submit(PutSource(source=Source(name="main", kind=SourceKind.DIRECTORY, location="/s"), principal=SYSTEM))
        await manager.deploy_from_source(shop(replicas=3))
        await manager.apply(a_stack("blog", a_service("page")))
        await manager.settle()
        seen = [(progress.remaining, manager.stops) async for progress in manager.control.down(DownRequest(), ANN)]
        assert manager.sources.stopped
        assert seen[0] == (4, 0)
        assert seen[-1] == (0, 0)
        assert manager.stops == 1
        assert len(manager.view.services) == len(manager.view.stacks) == 0

    play(story)


def test_down_waits_for_a_task_that_does_not_stop() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        await manager.settle()
        manager.node_works = False
        with pytest.raises(TimeoutError):
            await first(manager.control.down(DownRequest(), ANN), 2)
        assert manager.stops == 0

    play(story)


def test_down_without_removing_only_ends_the_daemon() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(shop())
        await manager.settle()
        progress = [one async for one in manager.control.down(DownRequest(remove=False), ANN)]
        assert [(one.remaining, one.done) for one in progress] == [(1, True)]
        assert (manager.stops, manager.running_tasks()) == (1, 1)

    play(story)
