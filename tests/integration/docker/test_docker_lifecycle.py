"""A task's whole life on a real engine: prepare, start, wait, stop, remove."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stackd.agent.executor.base import TaskEnded
from stackd.base.errors import Retry, TaskFault
from stackd.base.ids import BlobDigest
from stackd.base.time import SECOND, Duration
from stackd.spec.stack import FileRef, Healthcheck, Mount, MountType, Port, Resources

from docker_builders import SERVING, a_context, shell

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = [pytest.mark.needs("root", "docker")]
Run = Callable[..., None]


def a_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def read_log(controller: object) -> list[tuple[str, bytes]]:
    return [(line.stream, line.line) async for line in controller.logs(follow=False, tail=-1, since=0)]  # type: ignore[attr-defined]


def test_a_task_is_created_ahead_started_stopped_and_removed_without_a_trace(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context()) as task:
            assert await task.adopt() is None
            prepared = await task.prepare()
            assert bench.dockerd.inspect(prepared.container_id)["State"]["Status"] == "created"
            assert await task.pid() == 0
            running = await task.start()
            assert running.container_id == prepared.container_id
            assert running.pid == await task.pid() > 0
            assert Path(f"/proc/{running.pid}").exists()
            waiting = asyncio.ensure_future(task.wait())
            stopped = await task.stop()
            assert stopped is not None
            assert (stopped.code, stopped.error) == (0, "")
            assert (await waiting).code == 0
            await task.remove()
            await task.remove()
            assert bench.containers() == []

    run(scenario)


def test_the_container_carries_the_tasks_name_and_labels(bench: Bench, run: Run) -> None:
    context = a_context(labels=(("team", "shop"),))

    async def scenario() -> None:
        async with bench.task(context) as task:
            handle = await task.prepare()
            seen = bench.dockerd.inspect(handle.container_id)
            assert seen["Name"] == f"/shop_web.{context.assignment.slot}.{context.id}"
            assert seen["Config"]["Labels"]["stackd.task"] == context.id
            assert seen["Config"]["Labels"]["team"] == "shop"
            assert seen["HostConfig"]["RestartPolicy"]["Name"] in ("no", "")

    run(scenario)


def test_preparing_and_starting_twice_is_the_same_as_once(bench: Bench, run: Run) -> None:
    context = a_context()

    async def scenario() -> None:
        async with bench.executor() as executor:
            first, second = executor.controller(context), executor.controller(context)
            assert await first.prepare() == await second.prepare()
            assert await first.start() == await second.start() == await first.start()
            assert len(bench.containers()) == 1

    run(scenario)


@pytest.mark.parametrize(("line", "code", "error"), [("exit 0", 0, ""), ("exit 7", 7, "task: non-zero exit (7)")])
def test_an_exit_is_reported_with_its_code(bench: Bench, run: Run, line: str, code: int, error: str) -> None:
    async def scenario() -> None:
        before = time.time_ns()
        async with bench.task(a_context(shell(line))) as task:
            await task.prepare()
            await task.start()
            ended = await task.wait()
            assert (ended.code, ended.error, ended.oom) == (code, error, False)
            assert before < ended.at < time.time_ns()
            assert await task.stop() == ended

    run(scenario)


def test_a_container_killed_by_hand_is_noticed_at_once(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context()) as task:
            handle = await task.prepare()
            await task.start()
            waiting = asyncio.ensure_future(task.wait())
            await asyncio.to_thread(bench.dockerd.docker, "kill", handle.container_id)
            assert (await waiting).code == 137

    run(scenario)


def test_a_container_removed_by_hand_has_ended(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context()) as task:
            handle = await task.prepare()
            await task.start()
            await asyncio.to_thread(bench.dockerd.docker, "rm", "--force", handle.container_id)
            ended = await task.wait()
            assert ended.code != 0
            assert ended.error
            assert await task.adopt() is None
            await task.remove()

    run(scenario)


def test_a_command_that_does_not_exist_fails_in_the_engines_words(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context(("no-such-command",))) as task:
            await task.prepare()
            with pytest.raises(TaskFault, match=r"no-such-command.*not found") as raised:
                await task.start()
            assert (raised.value.code, raised.value.retry) == ("agent.docker.start", Retry.NEVER)
            await task.remove()

    run(scenario)


@pytest.mark.parametrize("image", ["nowhere.invalid/shop:1", "Not A Name", "sha256:" + "0" * 64])
def test_an_image_that_cannot_be_had_is_a_final_fault(bench: Bench, run: Run, image: str) -> None:
    async def scenario() -> None:
        async with bench.task(a_context(image=image)) as task:
            with pytest.raises(TaskFault) as raised:
                await task.prepare()
            assert raised.value.retry is Retry.NEVER
            assert raised.value.code in ("agent.docker.image", "agent.docker.create")
            assert raised.value.message

    run(scenario)


def test_an_image_named_by_its_id_needs_no_registry(bench: Bench, run: Run) -> None:
    image = bench.dockerd.docker("images", "--quiet", "--no-trunc", "busybox:1").split()[0]

    async def scenario() -> None:
        async with bench.task(a_context(image=image)) as task:
            await task.prepare()

    run(scenario)


def test_a_mount_of_a_missing_path_is_refused_before_the_start(bench: Bench, run: Run) -> None:
    mount = Mount(type=MountType.BIND, source="/no/such/path", target="/data")

    async def scenario() -> None:
        async with bench.task(a_context(mounts=(mount,))) as task:
            with pytest.raises(TaskFault, match="/no/such/path") as raised:
                await task.prepare()
            assert raised.value.code == "agent.docker.create"

    run(scenario)


def test_a_published_port_answers_and_a_second_task_on_it_fails(bench: Bench, run: Run) -> None:
    ports = {"ports": (Port(target=8080, published=a_port()),)}
    serve = shell("while true; do echo hello | nc -l -p 8080; done")

    def answer() -> bytes:
        with socket.create_connection(("127.0.0.1", ports["ports"][0].published), 5) as connection:
            return connection.recv(100)

    async def scenario() -> None:
        async with bench.executor() as executor:
            first, second = (executor.controller(a_context(serve, task=ports)) for _ in range(2))
            await first.prepare()
            await first.start()
            assert await asyncio.to_thread(eventually, answer) == b"hello\n"
            await second.prepare()
            with pytest.raises(TaskFault, match=r"already (allocated|in use)") as raised:
                await second.start()
            assert (raised.value.code, raised.value.retry) == ("agent.docker.port_in_use", Retry.NEVER)

    run(scenario)


def test_a_port_is_free_again_when_the_exit_is_reported(bench: Bench, run: Run) -> None:
    ports = {"ports": (Port(target=8080, published=a_port()),)}

    async def scenario() -> None:
        async with bench.executor() as executor:
            for _ in range(3):
                task = executor.controller(a_context(task=ports))
                await task.prepare()
                await task.start()
                await task.stop()

    run(scenario)


def test_a_task_that_outgrows_its_memory_is_reported_as_such(bench: Bench, run: Run) -> None:
    grow = shell("x=x; while true; do x=$x$x; done")

    async def scenario() -> None:
        async with bench.task(a_context(grow, task={"limits": Resources(memory_bytes=16 << 20)})) as task:
            await task.prepare()
            await task.start()
            ended = await task.wait()
            assert (ended.code, ended.oom) == (137, True)
            assert "out of memory" in ended.error

    run(scenario)


def check(line: str, **settings: int) -> Healthcheck:
    return Healthcheck(test=("CMD-SHELL", line), interval_ns=Duration(SECOND // 10), **settings)  # type: ignore[arg-type]


def test_a_task_with_a_healthcheck_has_started_when_it_is_healthy(bench: Bench, run: Run) -> None:
    command = shell("usleep 300000; touch /tmp/up; sleep 1000")

    async def scenario() -> None:
        async with bench.task(a_context(command, healthcheck=check("test -e /tmp/up", retries=50))) as task:
            handle = await task.prepare()
            await task.start()
            assert bench.dockerd.inspect(handle.container_id)["State"]["Health"]["Status"] == "healthy"

    run(scenario)


def test_a_task_that_never_gets_healthy_ends_with_the_probes_last_words(bench: Bench, run: Run) -> None:
    never = check("echo connection refused; exit 1", retries=2)

    async def scenario() -> None:
        async with bench.task(a_context(healthcheck=never)) as task:
            await task.prepare()
            with pytest.raises(TaskEnded, match="unhealthy container: connection refused"):
                await task.start()
            assert await task.pid() == 0

    run(scenario)


def test_a_task_that_ends_before_it_is_healthy_has_not_started(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context(shell("exit 5"), healthcheck=check("true", start_period_ns=SECOND))) as task:
            await task.prepare()
            with pytest.raises(TaskEnded, match=r"non-zero exit \(5\)") as raised:
                await task.start()
            assert raised.value.exit.code == 5

    run(scenario)


def test_a_running_task_that_turns_unhealthy_is_stopped_and_says_why(bench: Bench, run: Run) -> None:
    turning = check("test -e /tmp/up || { echo lost it; exit 1; }", retries=1)

    async def scenario() -> None:
        command = shell("trap 'exit 3' TERM; touch /tmp/up; sleep 1000000 & wait")
        async with bench.task(a_context(command, healthcheck=turning)) as task:
            handle = await task.prepare()
            await task.start()
            waiting = asyncio.ensure_future(task.wait())
            await asyncio.to_thread(bench.dockerd.docker, "exec", handle.container_id, "rm", "/tmp/up")
            assert (await waiting).error == "task: non-zero exit (3): unhealthy container: lost it"

    run(scenario)


def test_stopping_sends_the_tasks_own_signal(bench: Bench, run: Run) -> None:
    command = shell("trap 'exit 9' USR1; touch /tmp/up; sleep 1000000 & wait")
    context = a_context(command, stop_signal="SIGUSR1", healthcheck=check("test -e /tmp/up", retries=50))

    async def scenario() -> None:
        async with bench.task(context) as task:
            await task.prepare()
            await task.start()
            stopped = await task.stop()
            assert stopped is not None
            assert stopped.code == 9

    run(scenario)


def test_a_task_that_ignores_its_signal_is_killed_after_the_grace_period(bench: Bench, run: Run) -> None:
    context = a_context(shell("trap '' TERM; sleep 1000"), stop_grace_ns=Duration(SECOND // 2))

    async def scenario() -> None:
        async with bench.task(context) as task:
            await task.prepare()
            await task.start()
            began = time.monotonic()
            stopped = await task.stop()
            assert stopped is not None
            assert stopped.code == 137
            assert time.monotonic() - began >= 0.5

    run(scenario)


def test_a_stop_may_be_cancelled_and_asked_for_again(bench: Bench, run: Run) -> None:
    context = a_context(shell("trap '' TERM; sleep 1000"), stop_grace_ns=Duration(SECOND))

    async def scenario() -> None:
        async with bench.task(context) as task:
            await task.prepare()
            await task.start()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task.stop(), 0.2)
            stopped = await task.stop()
            assert stopped is not None
            assert stopped.code == 137

    run(scenario)


def test_a_start_that_is_cancelled_is_finished_before_the_task_is_stopped(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        for pause in (0.0, 0.01, 0.05):
            async with bench.task(a_context()) as task:
                await task.prepare()
                starting = asyncio.ensure_future(task.start())
                await asyncio.sleep(pause)
                starting.cancel()
                await asyncio.wait([starting])
                await task.stop()
                await task.remove()
        assert bench.containers() == []

    run(scenario)


def test_a_task_that_was_only_prepared_stops_without_an_exit(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context()) as task:
            await task.prepare()
            assert await task.stop() is None

    run(scenario)


def test_configs_and_secrets_are_there_at_the_start_and_secrets_never_touch_the_disk(bench: Bench, run: Run) -> None:
    def ref(target: str, digest: str, mode: int) -> FileRef:
        return FileRef(source="s", target=target, uid="65534", gid="65534", mode=mode, digest=BlobDigest(digest))

    context = a_context(
        shell("cat /run/secrets/key /etc/app.ini; stat -c '%a %u:%g' /run/secrets/key /etc/app.ini; echo x > /etc/app.ini"),
        user="65534:65534",
        files={"s1": b"swordfish\n", "c1": b"[app]\n"},
        secrets=(ref("key", "s1", 0o400),),
        configs=(ref("/etc/app.ini", "c1", 0o444),),
    )

    async def scenario() -> None:
        async with bench.task(context) as task:
            await task.prepare()
            await task.start()
            assert (await task.wait()).code == 1  # a read-only file
            lines = [line for stream, line in await read_log(task) if stream == "stdout"]
            assert lines == [b"swordfish", b"[app]", b"400 65534:65534", b"444 65534:65534"]
            assert not any(b"swordfish" in file.read_bytes() for file in bench.state_dir.rglob("*") if file.is_file())
            await task.remove()
            assert not bench.memory.exists()

    run(scenario)


def test_a_named_volume_outlives_its_task_and_an_anonymous_one_does_not(bench: Bench, run: Run) -> None:
    name = f"shop_{bench.state_dir.parent.name}"
    mounts = (Mount(type=MountType.VOLUME, source=name, target="/data"), Mount(type=MountType.VOLUME, target="/scratch"))

    async def scenario() -> None:
        async with bench.task(a_context(shell("cat /data/x; echo kept > /data/x"), mounts=mounts)) as task:
            await task.prepare()
            await task.start()
            await task.wait()
            await task.remove()
        async with bench.task(a_context(shell("cat /data/x"), mounts=mounts)) as task:
            await task.prepare()
            await task.start()
            await task.wait()
            assert await read_log(task) == [("stdout", b"kept")]
            await task.remove()
        assert bench.dockerd.docker("volume", "ls", "--quiet").split() == [name]

    try:
        run(scenario)
    finally:
        bench.dockerd.docker("volume", "rm", "--force", name)


def test_logs_tell_the_two_outputs_apart_and_can_be_cut(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context(shell("echo one; echo two >&2; head -c 40000 /dev/zero | tr '\\0' x; echo"))) as task:
            await task.prepare()
            await task.start()
            await task.wait()
            lines = await read_log(task)
            assert [line for stream, line in lines if stream == "stdout"] == [b"one", b"x" * 40000]
            assert [line for stream, line in lines if stream == "stderr"] == [b"two"]
            assert len([line async for line in task.logs(follow=False, tail=1, since=0)]) == 1  # type: ignore[arg-type]

    run(scenario)


def test_a_followed_log_goes_on_until_the_task_ends(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        command = shell("echo first; trap 'echo last; exit 0' TERM; sleep 1000000 & wait")
        async with bench.task(a_context(command)) as task:
            await task.prepare()
            following = task.logs(follow=True, tail=-1, since=0)  # type: ignore[arg-type]
            first = asyncio.ensure_future(anext(following))
            await task.start()
            assert (await first).line == b"first"
            await task.stop()
            assert [line.line async for line in following] == [b"last"]

    run(scenario)


def test_a_reader_that_leaves_a_followed_log_sets_its_thread_free(bench: Bench, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context(shell("while true; do echo line; done"))) as task:
            await task.prepare()
            await task.start()
            for _ in range(20):  # more than there are threads for logs
                following = task.logs(follow=True, tail=-1, since=0)  # type: ignore[arg-type]
                assert (await anext(following)).line == b"line"
                await following.aclose()  # type: ignore[attr-defined]

    run(scenario)


def test_starting_many_tasks_at_once_starts_them_all(bench: Bench, run: Run) -> None:
    async def life(executor: object, context: object) -> int:
        task = executor.controller(context)  # type: ignore[attr-defined]
        await task.prepare()
        await task.start()
        ended = await task.stop()
        await task.remove()
        return int(ended.code)

    async def scenario() -> None:
        async with bench.executor() as executor:
            codes = await asyncio.gather(*(life(executor, a_context(SERVING)) for _ in range(12)))
            assert set(codes) <= {0, 143}
            assert await executor.known_tasks() == ()

    run(scenario)


def eventually(answer: Callable[[], bytes]) -> bytes:
    """The first answer that is not a refused connection or nothing, within five seconds."""
    deadline = time.monotonic() + 5
    while True:
        try:
            if said := answer():
                return said
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < deadline, "no answer"
        time.sleep(0.05)
