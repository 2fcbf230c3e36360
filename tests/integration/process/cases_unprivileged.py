"""What a normal user gets from the process executor. Run by test_process_unprivileged.py as such a user."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from stackd.agent.executor.process import ProcessExecutor
from stackd.agent.executor.process.directory import TaskDirectory
from stackd.base.errors import TaskFault
from stackd.base.ids import BlobDigest
from stackd.base.time import SECOND, Duration
from stackd.spec.stack import FileRef, Mount, MountType, Port, Resources

from process_host import Bench, a_task, drive, sh, until, until_logged


def test_a_task_runs_as_a_plain_process_with_a_directory_of_its_own(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("id -u; pwd; echo x > mark; grep NoNewPrivs /proc/self/status; exit 3")
        ended, output = await bench.ended(context)
        assert ended.code == 3
        assert output.split() == [str(os.getuid()), str(tmp_path / "tasks" / context.id / "home"), "NoNewPrivs:", "1"]
        await bench.controllers[0].remove()
        assert not list((tmp_path / "tasks").iterdir())

    drive(tmp_path, script)


def test_everything_a_task_started_ends_with_it(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = await bench.running(sh('setsid sleep 65.5 & (setsid sh -c "sleep 66.5; :" &); echo up; sleep 60'))
        await until_logged(task, "up")
        ended = await task.stop()
        assert ended is not None
        assert ended.code == 128 + signal.SIGTERM
        await until(lambda: not running("65.5") and not running("66.5"), "its descendants are gone")

    drive(tmp_path, script)


def test_a_task_ends_when_its_monitor_is_killed(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("sleep 67.5; :")
        task = await bench.running(context)
        os.kill(TaskDirectory(tmp_path / "tasks" / context.id).monitor_pid(), signal.SIGKILL)
        assert (await task.wait()).code == 137
        await until(lambda: not running("67.5"), "the task is gone")

    drive(tmp_path, script)


def test_a_stubborn_task_is_killed_after_its_grace_period(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done"
        task = await bench.running(sh(stubborn, stop_grace_ns=Duration(SECOND // 5)))
        await until_logged(task, "up")
        ended = await task.stop()
        assert ended is not None
        assert ended.code == 137

    drive(tmp_path, script)


def test_a_later_daemon_adopts_the_task(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("sleep 60")
        task = await bench.running(context)
        later = ProcessExecutor(tmp_path)
        await later.start()
        found = await later.controller(context).adopt()
        assert found is not None
        assert (found.running, found.handle.pid) == (True, await task.pid())

    drive(tmp_path, script)


def test_a_published_port_that_is_the_tasks_own_is_fine(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        await bench.running(a_task("sleep", "60", ports=(Port(target=18080, published=18080),)))

    drive(tmp_path, script)


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("agent.process.port_map", {"ports": (Port(target=80, published=8080),)}),
        ("agent.process.needs_root", {"configs": (FileRef(source="c", target="/c", digest=BlobDigest("c")),)}),
        ("agent.process.needs_root", {"secrets": (FileRef(source="s", target="s", digest=BlobDigest("c")),)}),
        ("agent.process.needs_root", {"mounts": (Mount(type=MountType.TMPFS, target="/data"),)}),
        ("agent.process.needs_root", {"user": "root"}),
        ("agent.process.needs_root", {"hostname": "box"}),
        ("agent.process.limits", {"limits": Resources(pids=10)}),
    ],
)
def test_what_needs_root_is_refused_and_says_so(tmp_path: Path, code: str, more: dict[str, object]) -> None:
    async def script(bench: Bench) -> None:
        with pytest.raises(TaskFault) as fault:
            await bench.controller(sh("true", files={"c": b""}, **more)).prepare()
        assert fault.value.code == code
        assert fault.value.hint

    drive(tmp_path, script)


def test_a_port_that_is_taken_is_a_fault(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        number = taken.getsockname()[1]

        async def script(bench: Bench) -> None:
            task = bench.controller(a_task("sleep", "60", ports=(Port(target=number, published=number),)))
            await task.prepare()
            with pytest.raises(TaskFault, match=f"port {number}/tcp is already in use on this host"):
                await task.start()

        drive(tmp_path, script)


@pytest.mark.skipif(
    os.geteuid() == 0 or int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80, reason="may bind port 80"
)
def test_a_port_that_only_root_may_bind_is_not_called_taken(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = bench.controller(a_task("sleep", "60", ports=(Port(target=80, published=80),)))
        await task.prepare()
        with pytest.raises(TaskFault, match="port 80/tcp can't be used: permission denied"):
            await task.start()

    drive(tmp_path, script)


def test_the_node_does_not_claim_what_it_can_not_do(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        assert not {"ports-map", "namespaces", "limits"} & set((await bench.executor.describe()).features)

    drive(tmp_path, script)


def running(argument: str) -> bool:
    """Whether a process of this host has `argument` on its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in path.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False
