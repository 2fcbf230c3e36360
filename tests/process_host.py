"""A process executor on a directory of its own, with builders for the tasks it runs; for the tests of the process executor."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stackd.agent.executor.base import Exit, LogLine, TaskContext
from stackd.agent.executor.process import ProcessExecutor
from stackd.agent.executor.process.task import ProcessController
from stackd.api.dispatch import Assignment
from stackd.base.ids import BlobDigest, NodeId, ServiceId, SpecDigest, TaskId
from stackd.base.time import SECOND, Duration, Instant
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import ContainerSpec, Port, Resources, TaskSpec

_numbers = itertools.count(time.time_ns())


def a_task(
    *command: str,
    ports: tuple[Port, ...] = (),
    limits: Resources | None = None,
    files: dict[str, bytes] | None = None,
    **container: Any,
) -> TaskContext:
    """A task that runs `command`; `files` are contents by digest, `container` further fields of its spec."""
    number = next(_numbers)
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    name = ""
    while number:
        number, digit = divmod(number, 36)
        name += digits[digit]
    id = TaskId(name.ljust(25, "0"))
    container.setdefault("stop_grace_ns", Duration(2 * SECOND))
    assignment = Assignment(
        id=id,
        service_id=ServiceId("service"),
        stack="shop",
        service="shop_web",
        slot=1,
        node_id=NodeId("node"),
        spec_digest=SpecDigest("digest"),
        desired=TaskState.RUNNING,
        status=TaskStatus(id=id, state=TaskState.ASSIGNED, at=Instant(1)),
    )
    spec = TaskSpec(
        container=ContainerSpec(image="example:1", command=command or None, **container),
        ports=ports,
        limits=limits or Resources(),
    )
    return TaskContext(assignment, spec, {BlobDigest(digest): data for digest, data in (files or {}).items()})


def sh(script: str, **more: Any) -> TaskContext:
    """A task that runs a shell script."""
    return a_task("/bin/sh", "-c", script, **more)


class Bench:
    """An executor and the controllers made on it."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.executor = ProcessExecutor(state_dir)
        self.controllers: list[ProcessController] = []

    def controller(self, context: TaskContext) -> ProcessController:
        made = self.executor.controller(context)
        assert isinstance(made, ProcessController)
        self.controllers.append(made)
        return made

    async def running(self, context: TaskContext) -> ProcessController:
        made = self.controller(context)
        await made.prepare()
        await made.start()
        return made

    async def ended(self, context: TaskContext) -> tuple[Exit, str]:
        """Run a task to its end: how it ended, and what it wrote."""
        made = await self.running(context)
        ended = await made.wait()
        return ended, await output_of(made)


def drive(state_dir: Path, script: Callable[[Bench], Awaitable[None]]) -> None:
    """Run `script` on a new executor; afterwards every task is gone, also if it failed."""

    async def main() -> None:
        bench = Bench(state_dir)
        await bench.executor.start()
        try:
            async with asyncio.timeout(60):
                await script(bench)
        finally:
            for controller in bench.controllers:
                await controller.remove()

    asyncio.run(main())


async def lines_of(controller: ProcessController, *, follow: bool = False, tail: int = -1, since: int = 0) -> list[LogLine]:
    return [line async for line in controller.logs(follow=follow, tail=tail, since=Instant(since))]


async def output_of(controller: ProcessController) -> str:
    return "\n".join(line.line.decode() for line in await lines_of(controller))


async def until(true: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Wait for a predicate, at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


async def until_logged(controller: ProcessController, text: str, seconds: float = 10.0) -> str:
    deadline = time.monotonic() + seconds
    while text not in (output := await output_of(controller)):
        assert time.monotonic() < deadline, f"{text!r} not within {seconds} s in {output!r}"
        await asyncio.sleep(0.02)
    return output


def traces(state_dir: Path) -> dict[str, list[str]]:
    """What a state directory has left on the host outside of itself, to be compared before and after."""
    links = json.loads(_said("ip", "-j", "-d", "link"))
    ours = [link["ifname"] for link in links if str(state_dir) in link.get("ifalias", "")]
    rules = [line for line in _said("nft", "list", "tables").splitlines() if line.split()[-1] in ours]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state_dir) in line]
    processes = [
        str(path)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(state_dir).encode() in _content(path) and "pytest" not in _content(path).decode(errors="replace")
    ]
    parent = f"stackd-{hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:12]}"
    groups = [str(path) for form in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{form}{parent}")]
    return {"links": ours, "rules": rules, "mounts": mounts, "processes": processes, "groups": groups}


@contextmanager
def no_traces(state_dir: Path) -> Iterator[None]:
    """Within it a test may do what it likes; afterwards the host is as before."""
    before = traces(state_dir)
    yield
    deadline = time.monotonic() + 5
    while (after := traces(state_dir)) != before and time.monotonic() < deadline:
        time.sleep(0.05)  # the kernel takes namespaces down in the background
    assert after == before
    assert not list((state_dir / "tasks").iterdir())


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout or "[]"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
