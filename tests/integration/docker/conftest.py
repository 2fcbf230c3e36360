"""One private engine for all tests here; each test has an executor, and so containers, of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from stackd.agent.executor.base import Controller, TaskContext
from stackd.agent.executor.docker import DockerExecutor
from stackd.agent.executor.docker.files import memory_directory

from docker_builders import IMAGE
from dockerd import PrivateDockerd, private_dockerd
from images import busybox_archive

SECONDS = 30.0
"""Longest any single step of a test may take; they take tenths of a second on a quiet machine."""


@pytest.fixture(scope="session")
def dockerd() -> Iterator[PrivateDockerd]:
    with private_dockerd() as engine:
        engine.import_image(IMAGE, busybox_archive())
        yield engine


class Bench:
    """Executors on one engine and one state directory, as a daemon and its successors have them."""

    def __init__(self, dockerd: PrivateDockerd, state_dir: Path) -> None:
        self.dockerd = dockerd
        self.state_dir = state_dir

    @contextlib.asynccontextmanager
    async def executor(self) -> AsyncIterator[DockerExecutor]:
        executor = DockerExecutor(self.dockerd.url, self.state_dir)
        try:
            await asyncio.wait_for(executor.start(), SECONDS)
            yield executor
        finally:
            await executor.close()

    @contextlib.asynccontextmanager
    async def task(self, context: TaskContext) -> AsyncIterator[Controller]:
        """A controller of an executor of its own."""
        async with self.executor() as executor:
            yield executor.controller(context)

    def containers(self) -> list[str]:
        return self.dockerd.docker(
            "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label=stackd.data={self.data_id}"
        ).split()

    @property
    def data_id(self) -> str:
        return (self.state_dir / "id").read_text().strip()

    @property
    def memory(self) -> Path:
        place = memory_directory(self.data_id)
        assert place is not None
        return place


@pytest.fixture
def bench(dockerd: PrivateDockerd, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(dockerd, tmp_path / "docker")
    try:
        yield bench
    finally:
        if bench.containers():
            dockerd.docker("rm", "--force", "--volumes", *bench.containers())
        shutil.rmtree(bench.memory, ignore_errors=True)


@pytest.fixture
def run() -> Callable[..., None]:
    """Run an async scenario, with a bound."""

    def runner(scenario: Callable[[], object]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(2 * SECONDS):
                await scenario()  # type: ignore[misc]

        asyncio.run(bounded())

    return runner
