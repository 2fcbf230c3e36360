"""Process tasks on networks: who finds whom by name, who reaches what."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.process.task import ProcessController
from stackd.spec.stack import ContainerSpec, NetworkAttachment, NetworkSpec, Port, TaskSpec

from process_host import Bench, drive, no_traces, output_of, sh, until_logged

pytestmark = pytest.mark.needs("root", "net")

STAY = "echo up; sleep 100 & wait"
LOOK = "cat /etc/hosts; echo; ip -o address show; ip route; echo seen"


def on(script: str, *networks: str, alias: str = "web", internal: bool = False, **more: Any) -> TaskContext:
    context = sh(script, **more)
    spec = TaskSpec(
        container=ContainerSpec(image="x", command=context.spec.container.command),
        networks=tuple(NetworkAttachment(network=name, aliases=(alias,)) for name in networks),
        ports=context.spec.ports,
    )
    known = {name: NetworkSpec(name=name, internal=internal) for name in networks}
    return TaskContext(context.assignment, spec, {}, known)


def hosts_of(bench: Bench, context: TaskContext) -> str:
    return (bench.state_dir / "tasks" / context.id / "hosts").read_text()


def test_running_tasks_are_in_the_hosts_files_of_their_networks(tmp_path: Path) -> None:
    web, db, stranger = on(STAY, "front"), on(STAY, "front", "back", alias="db"), on(STAY, "other", alias="stranger")

    async def script(bench: Bench) -> None:
        await bench.running(web)
        task = await bench.running(db)
        await bench.running(stranger)
        (line,) = [line for line in hosts_of(bench, web).splitlines() if " tasks.db " in line]
        assert line.split()[1:] == ["db", "shop_web", "tasks.db", "tasks.shop_web", db.assignment.name]
        assert "stranger" not in hosts_of(bench, web)
        assert hosts_of(bench, stranger).count("tasks.") == 2  # itself
        await task.stop()
        assert " tasks.db " not in hosts_of(bench, web)

    with no_traces(tmp_path):
        drive(tmp_path, script)


def test_a_task_that_runs_already_finds_one_that_comes_later(tmp_path: Path) -> None:
    wait = "until grep -q tasks.db /etc/hosts; do sleep 0.05; done; getent hosts db >/dev/null && echo found; sleep 100 & wait"

    async def script(bench: Bench) -> None:
        early = await bench.running(on(wait, "front"))
        await bench.running(on(STAY, "front", alias="db"))
        await until_logged(early, "found")

    drive(tmp_path, script)


def test_a_task_is_not_found_before_it_is_started(tmp_path: Path) -> None:
    web, db = on(STAY, "front"), on(STAY, "front", alias="db")

    async def script(bench: Bench) -> None:
        await bench.running(web)
        task = bench.controller(db)
        await task.prepare()
        assert "tasks.db" not in hosts_of(bench, web)
        await task.start()
        assert "tasks.db" in hosts_of(bench, web)

    drive(tmp_path, script)


def test_a_new_daemon_keeps_the_hosts_files_up_to_date(tmp_path: Path) -> None:
    web, db = on(STAY, "front"), on(STAY, "front", alias="db")

    async def script(bench: Bench) -> None:
        await bench.running(web)
        await bench.running(db)
        second = Bench(bench.state_dir)
        await second.executor.start()
        found = second.controller(db)
        await found.adopt()
        await found.stop()
        assert "tasks.db" not in hosts_of(bench, web)
        assert "tasks.web" in hosts_of(bench, web)
        await second.executor.close()

    drive(tmp_path, script)


async def seen_by(bench: Bench, context: TaskContext) -> str:
    task: ProcessController = await bench.running(context)
    await task.wait()
    return await output_of(task)


def test_internal_networks_have_no_way_out_unless_ports_are_published(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        assert "default via" not in await seen_by(bench, on(LOOK, "back", internal=True))
        assert "default via" in await seen_by(bench, on(LOOK, "back", internal=True, ports=(Port(target=9, published=39),)))
        assert "default via" in await seen_by(bench, on(LOOK, "front"))

    drive(tmp_path, script)


def test_none_is_a_network_with_nothing_but_its_loopback(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        seen = await seen_by(bench, on(LOOK, "none"))
        assert "127.0.0.1/8" in seen
        assert "eth0" not in seen

    drive(tmp_path, script)


def test_host_is_the_hosts_own_network(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        said = await seen_by(bench, on("readlink /proc/self/ns/net; echo; hostname", "host"))
        assert said.split() == [await asyncio.to_thread(os.readlink, "/proc/self/ns/net"), os.uname().nodename]

    drive(tmp_path, script)
