"""The cluster's networks on one engine: who finds whom, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from stackd.agent.executor.base import Controller, TaskContext
from stackd.agent.executor.docker import DockerExecutor
from stackd.base.errors import TaskFault
from stackd.spec.stack import NetworkAttachment, NetworkSpec, Port

from docker_builders import SERVING, a_context

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = [pytest.mark.needs("root", "docker")]
Run = Callable[..., None]

FRONT = NetworkSpec(name="shop_front")
BACK = NetworkSpec(name="shop_back", internal=True)


def on(*networks: NetworkSpec, alias: str = "web", **more: Any) -> TaskContext:
    """A task that joins `networks` under `alias`. Other names are asked for where nobody answers, which is quick."""
    attachments = tuple(NetworkAttachment(network=network.name, aliases=(alias,)) for network in networks)
    context = a_context(
        SERVING, task={"networks": attachments, **more}, dns_servers=("127.0.0.1",), dns_options=("timeout:1", "attempts:1")
    )
    return TaskContext(context.assignment, context.spec, context.files, {network.name: network for network in networks})


def on_predefined(name: str) -> TaskContext:
    return a_context(SERVING, task={"networks": (NetworkAttachment(network=name),)})


async def running(executor: DockerExecutor, context: TaskContext) -> tuple[Controller, str]:
    task = executor.controller(context)
    await task.prepare()
    return task, (await task.start()).container_id


def networks_of(bench: Bench) -> list[str]:
    told = bench.dockerd.docker("network", "ls", "--filter", f"label=stackd.data={bench.data_id}", "--format", "{{.Name}}")
    return sorted(name.removeprefix(f"stackd-{bench.data_id[:8]}-") for name in told.split())


def reaches(bench: Bench, container: str, name: str) -> bool:
    try:
        bench.dockerd.docker("exec", container, "ping", "-c", "1", "-W", "2", name)
    except RuntimeError:
        return False
    return True


def test_tasks_of_a_network_find_each_other_by_every_name_and_others_do_not(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.executor() as executor:
            _, web = await running(executor, on(FRONT, alias="web"))
            db = on(FRONT, BACK, alias="db")
            await running(executor, db)
            _, stranger = await running(executor, on(BACK, alias="stranger"))
            for name in ("db", "tasks.db", "shop_web", "tasks.shop_web", db.assignment.name):
                assert reaches(bench, web, name), name
            assert reaches(bench, stranger, "db")
            assert not reaches(bench, web, "stranger")
            assert not reaches(bench, stranger, "web")

    run(scenario)


def test_a_network_is_made_with_its_first_task_and_goes_with_its_last(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.executor() as executor:
            first, _ = await running(executor, on(FRONT))
            second, _ = await running(executor, on(FRONT, BACK))
            assert networks_of(bench) == ["shop_back", "shop_front"]
            await first.remove()
            assert networks_of(bench) == ["shop_back", "shop_front"]
            await second.remove()
            assert networks_of(bench) == []

    run(scenario)


def test_a_new_daemon_knows_who_uses_which_network(bench: Bench, run: Run) -> None:
    kept, lost = on(FRONT), on(BACK)

    async def scenario() -> None:
        async with bench.executor() as executor:
            await running(executor, kept)
            _, gone = await running(executor, lost)
        bench.dockerd.docker("rm", "--force", gone)
        async with bench.executor() as executor:
            third, _ = await running(executor, on(FRONT))
            assert networks_of(bench) == ["shop_front"]
            await third.remove()
            assert networks_of(bench) == ["shop_front"]
            await executor.controller(kept).remove()
            assert networks_of(bench) == []

    run(scenario)


def test_preparing_again_after_an_interruption_joins_what_is_missing(bench: Bench, run: Run) -> None:
    context = on(FRONT, BACK)

    async def scenario() -> None:
        async with bench.executor() as executor:
            prepared = await executor.controller(context).prepare()
            bench.dockerd.docker("network", "disconnect", f"stackd-{bench.data_id[:8]}-shop_back", prepared.container_id)
            _, container = await running(executor, context)
            assert len(bench.dockerd.inspect(container)["NetworkSettings"]["Networks"]) == 2

    run(scenario)


def test_the_engines_own_networks_mean_what_docker_means(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.executor() as executor:
            for name in ("host", "none", "bridge"):
                _, container = await running(executor, on_predefined(name))
                assert bench.dockerd.inspect(container)["HostConfig"]["NetworkMode"] == name
                assert list(bench.dockerd.inspect(container)["NetworkSettings"]["Networks"]) == [name]

    run(scenario)


def test_a_published_port_is_a_way_into_internal_networks(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.executor() as executor:
            _, container = await running(executor, on(BACK, ports=(Port(target=80),)))
            seen = bench.dockerd.inspect(container)["NetworkSettings"]
            assert "bridge" in seen["Networks"]
            assert seen["Ports"]["80/tcp"][0]["HostPort"]

    run(scenario)


def test_a_network_of_the_user_is_never_taken_for_one_of_ours(bench: Bench, run: Run) -> None:
    bench.dockerd.docker("network", "create", "shop_front")

    async def scenario() -> None:
        async with bench.executor() as executor:
            task, container = await running(executor, on(FRONT))
            assert "shop_front" not in bench.dockerd.inspect(container)["NetworkSettings"]["Networks"]
            await task.remove()

    try:
        run(scenario)
        assert json.loads(bench.dockerd.docker("network", "inspect", "shop_front"))
    finally:
        bench.dockerd.docker("network", "rm", "shop_front")


def test_an_ipv6_network_gets_a_subnet_of_its_own_where_the_engine_has_none(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.executor() as executor:
            _, container = await running(executor, on(NetworkSpec(name="six", ipv6=True)))
            (network,) = bench.dockerd.inspect(container)["NetworkSettings"]["Networks"].values()
            assert network["GlobalIPv6Address"].startswith("fd")

    run(scenario)


def test_a_network_that_somebody_has_removed_is_made_again_for_the_next_task(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.executor() as executor:
            first = executor.controller(on(FRONT))
            await first.prepare()
            bench.dockerd.docker("network", "rm", f"stackd-{bench.data_id[:8]}-shop_front")
            with pytest.raises(TaskFault, match="not found"):
                await first.start()
            await running(executor, on(FRONT))

    run(scenario)
