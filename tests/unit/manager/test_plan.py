"""What a plan says, and that it is what then happens."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import msgspec
import pytest
from stackd.api.control import PlanRequest
from stackd.api.views import PlanView, ServicePlanView
from stackd.engine import forecast
from stackd.engine.inputs import DeployRevision
from stackd.engine.parts import SYSTEM, Owner, Principal, PrincipalKind
from stackd.engine.store import Store
from stackd.manager.intake import prepare
from stackd.manager.plan import base_version, make_plan
from stackd.security.keys import KEY_BYTES, RootKey
from stackd.simulation.cluster import SimulatedCluster
from stackd.simulation.loop import run
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.stack import Placement, Resources, ServiceSpec, StackSpec, UpdateOrder

from control_builders import ANN, LiveManager, play

KEY = RootKey(bytes(KEY_BYTES))


def plan_of(store: Store, *stacks: StackSpec, prune: tuple[str, ...] = (), source: str = "") -> PlanView:
    content = prepare([(stack, Owner(source=source)) for stack in stacks], KEY)
    principal = Principal(kind=PrincipalKind.SOURCE, name=source) if source else SYSTEM
    command = DeployRevision(label="next", source=source, stacks=content.manifests, principal=principal, prune=prune)
    return make_plan(store.freeze().view, store.fork(), content, command)


def planned(plan: PlanView, name: str = "shop_web") -> ServicePlanView:
    return next(service for service in plan.services if service.name == name)


def numbers(service: ServicePlanView) -> tuple[str, int, int, int, int]:
    return service.action, service.created, service.removed, service.replaced, service.lowest_running


def test_a_new_stack_creates_everything() -> None:
    async def story(manager: LiveManager) -> None:
        plan = await manager.plan(a_stack("shop", a_service(replicas=3)))
        assert plan.changes
        service = planned(plan)
        assert numbers(service) == ("create", 3, 0, 0, 0)
        assert (service.wanted, service.placement, service.blocked) == (3, {"host1": 3}, "")
        assert [step.action for step in service.steps] == ["created"] * 3 + ["running"] * 3
        assert {step.task for step in service.steps} == {"shop_web.1", "shop_web.2", "shop_web.3"}
        assert service.duration_seconds == 0.7

    play(story)


def test_what_is_so_already_is_unchanged() -> None:
    async def story(manager: LiveManager) -> None:
        stack = a_stack("shop", a_service(replicas=3))
        await manager.apply(stack)
        await manager.settle()
        plan = await manager.plan(stack)
        assert not plan.changes
        assert numbers(planned(plan)) == ("unchanged", 0, 0, 0, 3)

    play(story)


def test_another_image_replaces_every_task() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(replicas=3), a_service("db")))
        await manager.settle()
        plan = await manager.plan(a_stack("shop", a_service(image="img:v2", replicas=3), a_service("db")))
        service = planned(plan)
        assert numbers(service) == ("update", 3, 3, 3, 2)
        assert [(change.field, change.before, change.after) for change in service.changes] == [
            ("container.image", "img:v1", "img:v2")
        ]
        assert planned(plan, "shop_db").action == "unchanged"

    play(story)


def test_another_number_scales() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(replicas=3)))
        await manager.settle()
        up = await manager.plan(a_stack("shop", a_service(replicas=5)))
        assert numbers(planned(up)) == ("scale", 2, 0, 0, 3)
        down = await manager.plan(a_stack("shop", a_service(replicas=1)))
        assert numbers(planned(down)) == ("scale", 0, 2, 0, 1)

    play(story)


def test_a_service_that_is_no_longer_in_the_file_is_removed() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(), a_service("db", replicas=2)))
        await manager.settle()
        plan = await manager.plan(a_stack("shop", a_service()))
        service = planned(plan, "shop_db")
        assert numbers(service) == ("remove", 0, 2, 0, 0)
        assert (service.wanted, service.placement, service.changes) == (0, {}, ())

    play(story)


def test_a_service_that_is_still_being_removed_is_none_of_the_plans_business() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(), a_service("db")))
        await manager.settle()
        manager.node_works = False
        await manager.apply(a_stack("shop", a_service()))
        again = await manager.plan(a_stack("shop", a_service(), a_service("db")))
        assert planned(again, "shop_db").action == "create"
        assert [service.name for service in (await manager.plan(a_stack("shop", a_service()))).services] == ["shop_web"]

    play(story)


def test_a_mode_that_changes_counts_what_goes_and_what_comes() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(replicas=2)))
        await manager.settle()
        service = planned(await manager.plan(a_stack("shop", a_service(everywhere=True))))
        assert numbers(service)[:3] == ("update", 1, 2)
        assert "mode" in {change.field for change in service.changes}

    play(story)


def test_pruned_stacks_are_in_the_plan() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.deploy_from_source(a_stack("shop", a_service()), a_stack("blog", a_service("page", replicas=2)))
        await manager.settle()
        plan = plan_of(manager.writer.store, a_stack("shop", a_service()), prune=("blog",), source="main")
        assert plan.prune == ("blog",)
        assert numbers(planned(plan, "blog_page")) == ("remove", 0, 2, 0, 0)

    play(story)


def test_a_deployment_that_would_be_refused_says_so() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.deploy_from_source(a_stack("shop", a_service()))
        plan = plan_of(manager.writer.store, a_stack("shop", a_service(image="img:v2")))
        assert not plan.changes
        assert "belongs to" in plan.refused
        assert "--adopt" in plan.refused_hint

    play(story)


def test_content_that_would_be_refused_says_so() -> None:
    store = Store()
    content = prepare([(a_stack("shop", a_service(config=b"a"), config=b"a"), Owner())], KEY)
    forged = msgspec.structs.replace(content, blobs=tuple(msgspec.structs.replace(blob, data=b"b") for blob in content.blobs))
    command = DeployRevision(label="next", source="", stacks=content.manifests, principal=SYSTEM)
    assert "digest" in make_plan(store.freeze().view, store.fork(), forged, command).refused


def test_a_stack_that_cannot_be_placed_says_why() -> None:
    async def story(manager: LiveManager) -> None:
        service = a_service()
        greedy = msgspec.structs.replace(
            service, task=msgspec.structs.replace(service.task, reservations=Resources(nano_cpus=99 * 10**9))
        )
        choosy = msgspec.structs.replace(
            service,
            name="choosy",
            task=msgspec.structs.replace(service.task, placement=Placement(constraints=("node.labels.disk == ssd",))),
        )
        plan = await manager.plan(a_stack("shop", greedy, choosy))
        assert "insufficient resources" in planned(plan).blocked
        assert "constraints not satisfied" in planned(plan, "shop_choosy").blocked
        assert planned(plan).placement == {}

    play(story)


def test_a_plan_that_is_cut_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(replicas=3)))
        await manager.settle()
        monkeypatch.setattr(forecast, "EVENTS_MAX", 6)
        service = planned(await manager.plan(a_stack("shop", a_service(image="img:v2", replicas=3))))
        assert service.blocked.startswith("not over where the forecast ends: ")

    play(story)


def test_planning_changes_nothing() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(a_stack("shop", a_service(replicas=3)))
        await manager.settle()
        before = b"".join(manager.writer.store.freeze().chunks())
        index = manager.log.last_index
        for stack in (a_stack("shop", a_service(image="img:v2")), a_stack("shop"), a_stack("blog", a_service())):
            await manager.plan(stack)
        assert b"".join(manager.writer.store.freeze().chunks()) == before
        assert manager.log.last_index == index

    play(story)


def test_the_base_version_is_never_nothing() -> None:
    assert base_version(Store().view) != 0


def test_a_plan_runs_beside_the_loop_and_ends_when_its_client_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In real time: a plan that would take for ever must neither hold up the loop nor the end of the program."""
    monkeypatch.setattr(forecast, "EVENTS_MAX", 10**9)
    monkeypatch.setattr(forecast, "LOOKS_MAX", 10**9)

    async def story() -> None:
        manager = LiveManager(threads=True)
        async with manager.running():
            request = PlanRequest(stacks=(a_stack("shop", a_service(replicas=20_000)),), files=("shop.yaml",))
            planning = asyncio.ensure_future(manager.control.plan(request, ANN))
            await asyncio.sleep(0.1)
            assert not planning.done()
            planning.cancel()
            await asyncio.gather(planning, return_exceptions=True)
            assert planning.cancelled()

    asyncio.run(asyncio.wait_for(story(), 60))


# What is planned is what happens.


def running_now(cluster: SimulatedCluster) -> Counter[str]:
    """Running containers by service."""
    counts: Counter[str] = Counter()
    for node in cluster.nodes:
        for container in node.host.containers.values():
            task = cluster.view.tasks.get(container.task_id)
            service = cluster.view.services.get(task.service_id) if task else None
            if service is not None and container.running:
                counts[service.name] += 1
    return counts


def started_ever(cluster: SimulatedCluster) -> int:
    return sum(sum(node.host.starts.values()) for node in cluster.nodes)


async def watch_lowest(cluster: SimulatedCluster, lowest: Counter[str]) -> None:
    while True:
        now = running_now(cluster)
        for name in lowest:
            lowest[name] = min(lowest[name], now[name])
        await asyncio.sleep(0.005)


def random_service(chance: random.Random, name: str) -> ServiceSpec:
    return a_service(
        name,
        f"img:v{chance.randint(1, 2)}",
        replicas=chance.randint(1, 5),
        everywhere=chance.random() < 0.2,
        order=chance.choice(list(UpdateOrder)),
        monitor_seconds=chance.choice([0.0, 2.0]),
    )


def random_change(chance: random.Random, service: ServiceSpec) -> ServiceSpec:
    image, replicas = f"img:v{chance.randint(1, 3)}", chance.randint(1, 6)
    settings = (
        service.settings if not service.settings.replicas else msgspec.structs.replace(service.settings, replicas=replicas)
    )
    container = msgspec.structs.replace(service.task.container, image=image)
    return msgspec.structs.replace(service, task=msgspec.structs.replace(service.task, container=container), settings=settings)


@pytest.mark.parametrize("seed", range(12))
def test_a_plan_counts_what_then_happens_on_simulated_nodes(seed: int) -> None:
    async def story() -> None:
        chance = random.Random(seed)
        names = ["api", "db", "web"]
        first = [random_service(chance, name) for name in names if chance.random() < 0.8]
        second = [random_change(chance, service) for service in first if chance.random() < 0.8]
        second += [random_service(chance, name) for name in names if name not in {service.name for service in first}]
        async with SimulatedCluster(seed).running() as cluster:
            await cluster.deploy(a_stack("shop", *first))
            await cluster.settle()
            before, started = running_now(cluster), started_ever(cluster)
            plan = plan_of(cluster.leader.writer.store.fork(), a_stack("shop", *second))
            lowest = Counter({service.name: before[service.name] for service in plan.services})
            watching = asyncio.ensure_future(watch_lowest(cluster, lowest))
            await cluster.deploy(a_stack("shop", *second))
            await cluster.settle()
            watching.cancel()
            after = running_now(cluster)
            created = started_ever(cluster) - started
            assert created == sum(service.created for service in plan.services)
            removed = before.total() + created - after.total()
            assert removed == sum(service.removed for service in plan.services)
            assert {name: after[name] for name in lowest} == {service.name: service.wanted for service in plan.services}
            for service in plan.services:
                assert lowest[service.name] >= service.lowest_running
                # Whether what scaling adds runs before the first old task stops is a matter of luck.
                if service.wanted <= before[service.name]:
                    assert lowest[service.name] == service.lowest_running

    run(story())
