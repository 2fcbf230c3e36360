"""Daemons that come and go, and an engine that does: nothing is started twice and no exit is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stackd.agent.executor.docker import DockerExecutor
from stackd.base.errors import Retry, StackdError, TaskFault

from docker_builders import IMAGE, a_context, shell
from dockerd import PrivateDockerd, private_dockerd
from images import busybox_archive

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = [pytest.mark.needs("root", "docker")]
Run = Callable[..., None]


async def until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not predicate():
            await asyncio.sleep(0.02)


def test_a_new_daemon_adopts_a_running_task_and_learns_its_exit(bench: Bench, run: Run) -> None:
    context = a_context()

    async def scenario() -> None:
        async with bench.task(context) as task:
            await task.prepare()
            handle = await task.start()
        async with bench.executor() as executor:
            assert await executor.known_tasks() == (context.id,)
            task = executor.controller(context)
            found = await task.adopt()
            assert found is not None
            assert (found.running, found.handle, found.exit) == (True, handle, None)
            waiting = asyncio.ensure_future(task.wait())
            await asyncio.to_thread(bench.dockerd.docker, "kill", "--signal", "TERM", handle.container_id)
            assert (await waiting).code == 0

    run(scenario)


def test_a_new_daemon_adopts_a_task_that_was_only_prepared(bench: Bench, run: Run) -> None:
    context = a_context()

    async def scenario() -> None:
        async with bench.task(context) as task:
            prepared = await task.prepare()
        async with bench.task(context) as task:
            found = await task.adopt()
            assert found is not None
            assert (found.running, found.exit, found.handle.pid) == (False, None, 0)
            assert (await task.start()).container_id == prepared.container_id

    run(scenario)


def test_an_exit_while_no_daemon_watched_is_known_with_its_code(bench: Bench, run: Run) -> None:
    context = a_context(shell("trap 'exit 4' TERM; sleep 1000000 & wait"))

    async def scenario() -> None:
        async with bench.task(context) as task:
            await task.prepare()
            handle = await task.start()
        await asyncio.to_thread(bench.dockerd.docker, "stop", handle.container_id)
        async with bench.task(context) as task:
            found = await task.adopt()
            assert found is not None
            assert found.exit is not None
            assert (found.exit.code, found.exit.error) == (4, "task: non-zero exit (4)")
            assert await task.wait() == found.exit

    run(scenario)


def test_a_task_that_has_ended_is_not_started_a_second_time(bench: Bench, run: Run) -> None:
    context = a_context(shell("echo once"))

    async def scenario() -> None:
        async with bench.task(context) as task:
            await task.prepare()
            await task.start()
            await task.wait()
        async with bench.task(context) as task:
            await task.start()
            assert (await task.wait()).code == 0
            lines = [line.line async for line in task.logs(follow=False, tail=-1, since=0)]  # type: ignore[arg-type]
            assert lines == [b"once"]

    run(scenario)


def test_two_daemons_on_one_engine_leave_each_others_containers_alone(
    dockerd: PrivateDockerd, tmp_path: Path, run: Run
) -> None:
    context = a_context()

    async def scenario() -> None:
        ours, theirs = (DockerExecutor(dockerd.url, tmp_path / name) for name in ("ours", "theirs"))
        await asyncio.gather(ours.start(), theirs.start())
        try:
            await ours.controller(context).prepare()
            assert await theirs.known_tasks() == ()
            assert await theirs.controller(context).adopt() is None
            with pytest.raises(TaskFault, match="already in use"):
                await theirs.controller(context).prepare()
        finally:
            await ours.controller(context).remove()
            await ours.close()
            await theirs.close()

    run(scenario)


def test_an_address_that_cannot_be_an_engines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackdError) as raised:
        DockerExecutor("gopher://nowhere", tmp_path / "docker")
    assert raised.value.code == "agent.docker.host"


def test_without_an_engine_operations_ask_to_be_repeated(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        executor = DockerExecutor(f"unix://{tmp_path}/none.sock", tmp_path / "docker")
        await executor.start()
        try:
            assert not executor.available()
            assert (await executor.describe()).executors == ("docker",)
            with pytest.raises(TaskFault, match="engine is away") as raised:
                await executor.controller(a_context()).prepare()
            assert raised.value.retry is Retry.LATER
        finally:
            await executor.close()

    run(scenario)


@pytest.fixture
def mortal() -> Iterator[PrivateDockerd]:
    """An engine of the test's own, to be killed."""
    with private_dockerd() as engine:
        engine.import_image(IMAGE, busybox_archive())
        yield engine


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_wait_outlives_the_engine_and_everything_goes_on_when_it_is_back(
    mortal: PrivateDockerd, tmp_path: Path, run: Run, how: str
) -> None:
    async def scenario() -> None:
        executor = DockerExecutor(mortal.url, tmp_path / "docker")
        await executor.start()
        try:
            running, prepared = executor.controller(a_context()), executor.controller(a_context())
            await asyncio.gather(running.prepare(), prepared.prepare())
            await running.start()
            waiting = asyncio.ensure_future(running.wait())
            await asyncio.to_thread(getattr(mortal, how))
            await until(lambda: not executor.available())
            with pytest.raises(TaskFault) as raised:
                await prepared.start()
            assert raised.value.retry is Retry.LATER
            if how == "kill":  # a stopped engine ends its containers first, and says so
                assert not waiting.done()
            await asyncio.to_thread(mortal.start)
            ended = await waiting
            await until(executor.available)
            assert mortal.inspect((await running.prepare()).container_id)["State"]["ExitCode"] == ended.code
            await prepared.start()
            assert await prepared.pid() > 0
        finally:
            await executor.close()

    run(scenario)
