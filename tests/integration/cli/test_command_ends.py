"""How a command ends as a process: its exit code, promptly, whatever the daemon says or doesn't say."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from stackd.api.control import ApplyRequest, ApplyResponse, Caller, EventsRequest, ListRequest, PlanRequest, Services
from stackd.api.views import EventView, PlanView, ServiceView

from cli_control import a_plan, a_rollout, a_service, a_service_plan
from control_server import WAIT_SECONDS, Daemon

STACKD = str(Path(sys.executable).with_name("stackd"))

PROMPTLY_SECONDS = 5.0
"""For what takes a tenth of a second on a quiet machine."""

SHOP = "name: shop\nservices:\n  web:\n    image: nginx:1.25\n"


class Handler:
    """Takes any stack. Of its service it says `pushed`, and then nothing more for as long as somebody listens."""

    def __init__(self) -> None:
        self.pushed: ServiceView = a_service()
        self.left = threading.Semaphore(0)

    async def plan(self, request: PlanRequest, caller: Caller) -> PlanView:
        return a_plan(a_service_plan(action="create"))

    async def services(self, request: ListRequest, caller: Caller) -> Services:
        return Services(items=())

    async def apply(self, request: ApplyRequest, caller: Caller) -> ApplyResponse:
        return ApplyResponse(revision="r2", changed=True, services=("shop_web",))

    async def watch(self, request: ListRequest, caller: Caller) -> AsyncIterator[Services]:
        yield Services(items=(self.pushed,))
        await self._silence()

    async def events(self, request: EventsRequest, caller: Caller) -> AsyncIterator[EventView]:
        yield EventView(seq=1, at=None, kind="k", subject="shop_web", stack="", message="m", principal="p")
        await self._silence()

    async def _silence(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.release()

    def __getattr__(self, name: str) -> Any:
        async def uncalled(request: Any, caller: Caller) -> Any:
            raise AssertionError(f"{name} is not called here")

        return uncalled


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def host(tmp_path: Path, handler: Handler) -> Iterator[str]:
    with Daemon(tmp_path / "stackd.sock", handler) as daemon:
        assert daemon.error is None
        yield f"unix://{daemon.path}"


@pytest.fixture
def shop(tmp_path: Path) -> str:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    return str(path)


def stackd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([STACKD, *arguments], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)


def interrupted(*arguments: str, once_said: str, stream: str) -> tuple[int, str]:
    """Run a command, interrupt it once it has said something; its exit code and what it wrote to stderr."""
    command = subprocess.Popen([STACKD, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = getattr(command, stream)
        while once_said not in (line := said.readline()):
            assert line, f"{arguments} never said {once_said!r}"
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=PROMPTLY_SECONDS)
        return command.returncode, err
    finally:
        command.kill()
        command.communicate()


@pytest.mark.parametrize(
    ("service", "code"),
    [
        (a_service(), 0),
        (a_service(rollout=a_rollout("paused")), 5),
        (a_service(rollout=a_rollout("rollback_completed")), 6),
    ],
)
def test_apply_ends_with_what_became_of_the_rollout_though_the_daemon_goes_on(
    host: str, handler: Handler, shop: str, service: ServiceView, code: int
) -> None:
    handler.pushed = service
    ended = stackd("apply", "-f", shop, "--host", host)
    assert ended.returncode == code
    assert ended.stdout.startswith("Converged: 1 service in ") is (code == 0)
    assert ("error[rollout." in ended.stderr) is (code > 0)
    assert handler.left.acquire(timeout=WAIT_SECONDS), "the daemon was not told that nobody listens any more"


def test_apply_ends_when_its_time_is_over(host: str, handler: Handler, shop: str) -> None:
    handler.pushed = a_service(converged=False)
    ended = stackd("apply", "-f", shop, "--host", host, "--timeout", "100ms")
    assert ended.returncode == 4
    assert "error[cli.wait.timeout]" in ended.stderr


@pytest.mark.parametrize("attempt", range(5))
def test_an_interrupted_apply_ends_at_once_with_130(host: str, handler: Handler, shop: str, attempt: int) -> None:
    handler.pushed = a_service(converged=False, running=0)
    code, err = interrupted("apply", "-f", shop, "--host", host, once_said="shop_web", stream="stderr")
    assert code == 130
    assert err == "interrupted: the rollout goes on; `stackd status` shows it\n"


def test_interrupting_what_follows_events_ends_it_at_once_with_130(host: str) -> None:
    assert interrupted("events", "--follow", "--host", host, once_said="shop_web", stream="stdout") == (130, "")


@pytest.mark.parametrize(
    ("arguments", "code", "stdout", "stderr"),
    [
        (("version",), 0, "stackd 0.", ""),
        (("service", "ls", "--host", "unix:///nowhere/stackd.sock"), 1, "", "error[api.no_daemon]"),
        (("service", "ls", "--nothing"), 64, "", "No such option"),
    ],
)
def test_what_was_printed_is_out_when_a_command_ends(arguments: tuple[str, ...], code: int, stdout: str, stderr: str) -> None:
    ended = stackd(*arguments)
    assert ended.returncode == code
    assert ended.stdout.startswith(stdout)
    assert stderr in ended.stderr


def test_an_error_nobody_expected_is_shown_in_full_and_ends_with_1() -> None:
    program = "from stackd.cli.ending import end_after\nend_after(lambda: 1 // 0)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr


def test_a_thread_that_never_returns_holds_no_finished_command() -> None:
    program = """
import threading
from concurrent.futures import ThreadPoolExecutor
from stackd.cli.ending import end_after
def work():
    ThreadPoolExecutor(1).submit(threading.Event().wait)
    print("done")
    return 6
end_after(work)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert (ended.returncode, ended.stdout) == (6, "done\n")
