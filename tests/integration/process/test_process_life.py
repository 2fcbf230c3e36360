"""Life of a process task on a real kernel: prepare, gate, start, exit codes, signals, stop, remove."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from stackd.agent.executor.base import TaskEnded
from stackd.base.errors import TaskFault
from stackd.base.time import SECOND, Duration
from stackd.spec.stack import Healthcheck

from process_host import Bench, a_task, drive, lines_of, no_traces, output_of, sh, until, until_logged

pytestmark = pytest.mark.needs("root", "net")


def test_a_task_runs_ends_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        with no_traces(tmp_path):
            task = await bench.running(sh("echo out; echo err >&2; exit 3"))
            ended = await task.wait()
            assert (ended.code, ended.error, ended.oom) == (3, "task: non-zero exit (3)", False)
            assert ended.at > 0
            assert [(line.stream, line.line) for line in await lines_of(task)] == [("stdout", b"out"), ("stderr", b"err")]
            assert await task.stop() == ended
            assert await bench.executor.known_tasks() != ()
            await task.remove()
            await task.remove()
            assert await bench.executor.known_tasks() == ()

    drive(tmp_path, script)


def test_exit_code_zero_has_no_error(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        ended, _ = await bench.ended(sh("exit 0"))
        assert (ended.code, ended.error) == (0, "")

    drive(tmp_path, script)


def test_a_prepared_task_does_not_run_before_its_gate_is_opened(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = bench.controller(sh("echo ran"))
        await task.prepare()
        await task.prepare()
        assert await task.pid() == 0
        found = await task.adopt()
        assert found is not None
        assert (found.running, found.exit, found.handle.pid) == (False, None, 0)
        assert await output_of(task) == ""
        await task.start()
        await task.wait()
        assert await output_of(task) == "ran"

    drive(tmp_path, script)


def test_a_prepared_task_that_is_stopped_never_ran(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = bench.controller(sh("echo ran"))
        await task.prepare()
        assert await task.stop() is None
        assert await output_of(task) == ""

    drive(tmp_path, script)


def test_starting_twice_starts_once(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = await bench.running(sh("echo once; sleep 60"))
        first = await task.pid()
        assert (await task.start()).pid == first
        assert Path(f"/proc/{first}/comm").read_text() == "sh\n"
        await until_logged(task, "once")
        await task.stop()
        assert await output_of(task) == "once"

    drive(tmp_path, script)


def test_sigterm_ends_a_program_that_does_not_care_for_it(tmp_path: Path) -> None:
    """As process 1 of a namespace it would be immune; here it has an init above it."""

    async def script(bench: Bench) -> None:
        task = await bench.running(a_task("sleep", "60"))
        began = time.monotonic()
        ended = await task.stop()
        assert ended is not None
        assert ended.code == 128 + signal.SIGTERM
        assert time.monotonic() - began < 5, "it took the grace period, as if the signal had been ignored"

    drive(tmp_path, script)


def test_the_stop_signal_of_the_spec_is_sent_and_may_be_handled(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        trap = "trap 'echo got usr1; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
        task = await bench.running(sh(trap, stop_signal="SIGUSR1"))
        await until_logged(task, "ready")
        ended = await task.stop()
        assert ended is not None
        assert ended.code == 5
        assert "got usr1" in await output_of(task)

    drive(tmp_path, script)


def test_after_the_grace_period_everything_in_the_task_is_killed(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        stubborn = "trap '' TERM; (trap '' TERM; setsid sleep 61.5) & echo ready; while :; do sleep 0.05; done"
        task = await bench.running(sh(stubborn, stop_grace_ns=Duration(SECOND // 5)))
        await until_logged(task, "ready")
        ended = await task.stop()
        assert ended is not None
        assert ended.code == 137
        await until(lambda: not _running("61.5"), "the task's grandchild is gone")

    drive(tmp_path, script)


def test_what_a_task_leaves_running_ends_with_it(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        ended, _ = await bench.ended(sh("setsid sleep 62.5 & exit 0"))
        assert ended.code == 0
        await until(lambda: not _running("62.5"), "the orphan is gone")

    drive(tmp_path, script)


def test_a_signal_from_outside_ends_the_task_with_its_code(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = await bench.running(a_task("sleep", "60"))
        os.kill(await task.pid(), signal.SIGKILL)
        ended = await task.wait()
        assert (ended.code, ended.error) == (137, "task: non-zero exit (137)")

    drive(tmp_path, script)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program",), 'exec: "no-such-program": executable file not found in $PATH'),
        (("/no/such/program",), 'exec: "/no/such/program": no such file or directory'),
        (("/etc/hostname",), 'exec: "/etc/hostname": permission denied'),
    ],
)
def test_a_program_that_can_not_be_started_is_a_fault_in_plain_words(
    tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    async def script(bench: Bench) -> None:
        task = bench.controller(a_task(*command))
        await task.prepare()
        with pytest.raises(TaskFault) as fault:
            await task.start()
        assert (fault.value.code, fault.value.message) == ("agent.process.exec", words)

    drive(tmp_path, script)


def test_a_task_without_a_command_is_refused_with_a_hint(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        with pytest.raises(TaskFault) as fault:
            await bench.controller(a_task()).prepare()
        assert fault.value.code == "agent.process.no_command"
        assert fault.value.hint

    drive(tmp_path, script)


def test_preparing_again_after_a_fault_starts_clean(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("exit 0", user="nobody-of-that-name")
        task = bench.controller(context)
        with no_traces(tmp_path):
            with pytest.raises(TaskFault) as fault:
                await task.prepare()
            assert fault.value.message == "unable to find user nobody-of-that-name: no matching entries in passwd file"

    drive(tmp_path, script)


def test_a_start_waits_until_the_task_is_healthy(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        tenth = Duration(SECOND // 10)
        check = Healthcheck(test=("CMD-SHELL", "test -e /tmp/up"), interval_ns=tenth, start_period_ns=Duration(5 * SECOND))
        task = bench.controller(sh("sleep 0.5; touch /tmp/up; sleep 60", healthcheck=check))
        await task.prepare()
        began = time.monotonic()
        await task.start()
        assert time.monotonic() - began > 0.4

    drive(tmp_path, script)


def test_a_task_that_ends_before_it_is_healthy_tells_its_exit_code(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = bench.controller(sh("sleep 0.2; exit 9", healthcheck=Healthcheck(test=("CMD", "false"))))
        await task.prepare()
        with pytest.raises(TaskEnded) as fault:
            await task.start()
        assert fault.value.exit.code == 9

    drive(tmp_path, script)


def test_an_unhealthy_task_is_ended_and_the_exit_says_why(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        check = Healthcheck(
            test=("CMD-SHELL", "test -e /tmp/up || { echo no longer up; exit 1; }"),
            interval_ns=Duration(SECOND // 10),
            retries=2,
        )
        task = await bench.running(sh("touch /tmp/up; sleep 0.6; rm /tmp/up; sleep 60", healthcheck=check))
        ended = await task.wait()
        assert ended.error == "task: non-zero exit (143): unhealthy container: no longer up"

    drive(tmp_path, script)


def test_a_check_that_hangs_is_killed_and_counts_as_failed(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        quick = Duration(SECOND // 10)
        check = Healthcheck(test=("CMD", "sleep", "63.5"), interval_ns=quick, timeout_ns=quick, retries=1)
        task = bench.controller(a_task("sleep", "60", healthcheck=check))
        await task.prepare()
        with pytest.raises(TaskEnded, match="no answer within"):
            await task.start()
        assert not _running("63.5")

    drive(tmp_path, script)


def _running(argument: str) -> list[str]:
    """Processes of the host whose command line ends with an argument of its own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().endswith(b"\0" + argument.encode() + b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found
