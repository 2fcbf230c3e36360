"""Daemons come and go, tasks stay: adoption by a later daemon, exits that nobody saw, and what is swept."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stackd.agent.executor.process import ProcessExecutor
from stackd.agent.executor.process.channel import Monitor
from stackd.agent.executor.process.directory import TaskDirectory
from stackd.base.records import encode
from test_process_ports import a_free_port, a_server, answers

from process_host import Bench, drive, no_traces, output_of, sh, traces, until, until_logged

STARTER = Path(__file__).with_name("start_and_wait.py")

pytestmark = pytest.mark.needs("root", "net")


async def a_later_daemon(bench: Bench) -> ProcessExecutor:
    later = ProcessExecutor(bench.state_dir)
    await later.start()
    return later


def test_a_later_daemon_adopts_a_running_task(tmp_path: Path) -> None:
    port = a_free_port()

    async def script(bench: Bench) -> None:
        context = a_server(port)
        task = await bench.running(context)
        await until(lambda: answers(port), "the task answers")
        later = await a_later_daemon(bench)
        assert await later.known_tasks() == (context.id,)
        adopted = later.controller(context)
        found = await adopted.adopt()
        assert found is not None
        assert (found.running, found.handle.pid, found.exit) == (True, await task.pid(), None)
        assert answers(port)
        ended = await adopted.stop()
        assert ended is not None
        assert ended.code == 143
        assert not answers(port)
        assert (await task.wait()) == ended
        await adopted.remove()

    with_no_traces(tmp_path, script)


def with_no_traces(tmp_path: Path, script: object) -> None:
    (tmp_path / "tasks").mkdir(exist_ok=True)
    with no_traces(tmp_path):
        drive(tmp_path, script)  # type: ignore[arg-type]


def test_a_later_daemon_adopts_a_prepared_task_and_starts_it(tmp_path: Path) -> None:
    port = a_free_port()

    async def script(bench: Bench) -> None:
        context = a_server(port)
        await bench.controller(context).prepare()
        later = await a_later_daemon(bench)
        adopted = later.controller(context)
        found = await adopted.adopt()
        assert found is not None
        assert (found.running, found.exit) == (False, None)
        await adopted.prepare()
        await adopted.start()
        await until(lambda: answers(port), "the task answers")

    drive(tmp_path, script)


def test_an_exit_while_no_daemon_ran_is_known_with_its_code(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("echo last words; sleep 0.3; exit 42")
        await bench.running(context)
        directory = TaskDirectory(tmp_path / "tasks" / context.id)
        await until(lambda: not directory.monitor_pid(), "the task has ended")
        later = await a_later_daemon(bench)
        adopted = later.controller(context)
        found = await adopted.adopt()
        assert found is not None
        assert found.exit is not None
        assert (found.running, found.exit.code) == (False, 42)
        assert await adopted.wait() == found.exit

    drive(tmp_path, script)


def test_tasks_survive_the_death_of_the_daemon_that_started_them(tmp_path: Path) -> None:
    """With a real process that is killed, not an object that is dropped."""
    context = sh("echo alive; sleep 60")
    arguments = [str(tmp_path), encode(context.assignment).hex(), encode(context.spec).hex()]
    with subprocess.Popen([sys.executable, str(STARTER), *arguments], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"up\n"
        daemon.kill()

    async def script(bench: Bench) -> None:
        adopted = bench.controller(context)
        found = await adopted.adopt()
        assert found is not None
        assert found.running
        assert await output_of(adopted) == "alive"
        os.kill(found.handle.pid, signal.SIGTERM)
        assert (await adopted.wait()).code == 143

    drive(tmp_path, script)


def test_a_task_whose_monitor_is_killed_ends_with_it_and_is_reported_so(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("sleep 64.5")
        task = await bench.running(context)
        pid = await task.pid()
        os.kill(TaskDirectory(tmp_path / "tasks" / context.id).monitor_pid(), signal.SIGKILL)
        ended = await task.wait()
        assert (ended.code, ended.error) == (137, "task: non-zero exit (137): its monitor was killed or the host went down")
        await until(lambda: not os.path.exists(f"/proc/{pid}"), "the task has ended")

    drive(tmp_path, script)


def test_a_monitor_that_is_asked_to_terminate_stops_its_task_first(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done")
        task = await bench.running(context)
        await until_logged(task, "ready")
        os.kill(TaskDirectory(tmp_path / "tasks" / context.id).monitor_pid(), signal.SIGTERM)
        assert (await task.wait()).code == 4
        assert (await output_of(task)).endswith("bye")

    drive(tmp_path, script)


def test_what_was_half_prepared_is_prepared_anew(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("echo ran")
        await bench.controller(context).prepare()
        (tmp_path / "tasks" / context.id / "record").unlink()
        later = await a_later_daemon(bench)
        adopted = later.controller(context)
        assert await adopted.adopt() is None
        await adopted.prepare()
        await adopted.start()
        await adopted.wait()
        assert await output_of(adopted) == "ran"
        await adopted.remove()

    with_no_traces(tmp_path, script)


def test_a_cancelled_prepare_leaves_nothing_that_a_remove_does_not_find(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        for pause in (0.0, 0.005, 0.02, 0.04):
            task = bench.controller(sh("sleep 60"))
            preparing = asyncio.create_task(task.prepare())
            await asyncio.sleep(pause)
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
            await task.remove()

    with_no_traces(tmp_path, script)


def test_a_new_daemon_sweeps_the_network_of_tasks_that_are_gone(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = a_server(a_free_port())
        task = await bench.running(context)
        os.kill(TaskDirectory(tmp_path / "tasks" / context.id).monitor_pid(), signal.SIGKILL)
        await task.wait()
        assert traces(tmp_path)["links"]
        await a_later_daemon(bench)
        assert not traces(tmp_path)["links"]
        assert not traces(tmp_path)["rules"]

    drive(tmp_path, script)


def test_a_recycled_process_id_is_not_taken_for_the_monitor(tmp_path: Path) -> None:
    (tmp_path / "monitor").write_text(f"{os.getpid()} 1 some-other-boot")
    assert TaskDirectory(tmp_path).monitor_pid() == 0

    async def main() -> None:
        assert Monitor.find(TaskDirectory(tmp_path)) is None

    asyncio.run(main())
