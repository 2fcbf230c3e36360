"""Each setting of a task acts on the Docker executor, or is refused with a code: tests/key_table.py, deployed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stackd.agent.executor.docker import DockerExecutor

from docker_builders import IMAGE
from dockerd import PrivateDockerd, private_dockerd
from images import busybox_archive
from key_runner import a_task_of, at, effect_of, fault_of, groups, outputs, refused, shared_directory
from key_table import Effect, Inspect, Key, Network, Probe, keys

pytestmark = pytest.mark.needs("root", "docker")


def is_settled_by_creating(effect: Effect) -> bool:
    """Whether the effect is seen without starting the container (which a machine may not be able to do)."""
    return isinstance(effect, Inspect) and effect.path.startswith(("Config.", "HostConfig."))


@pytest.fixture(scope="module")
def dockerd() -> Iterator[PrivateDockerd]:
    with private_dockerd() as engine:
        engine.import_image(IMAGE, busybox_archive())
        yield engine


def test_what_the_table_says_of_containers_is_so(dockerd: PrivateDockerd, tmp_path: Path) -> None:
    wrong: list[str] = []
    version = json.loads(dockerd.docker("version", "--format", "{{json .Server}}"))
    major, _, minor = version["ApiVersion"].partition(".")
    api = (int(major), int(minor))

    async def look(executor: DockerExecutor, together: list[Key]) -> None:
        task = executor.controller(a_task_of(together, "docker"))
        try:
            handle = await task.prepare()
            said = [""] * len(together)
            if not all(is_settled_by_creating(effect_of(key, "docker", api)) for key in together):
                await task.start()
                said = await outputs(task, len(together))
            inspected = dockerd.inspect(handle.container_id)
            for key, output in zip(together, said, strict=True):
                match effect := effect_of(key, "docker", api):
                    case Probe(output=expected):
                        seen: Any = output
                    case Inspect(path=path, value=expected):
                        seen = at(inspected, path)
                    case Network(path=path, value=expected):
                        seen = at(network_of(inspected), path)
                    case _:
                        continue
                if seen != expected and not (expected is ... and seen):
                    wrong.append(f"{key.field}: {seen!r}, not {effect}")
        finally:
            await task.remove()

    def network_of(inspected: Any) -> Any:
        (name,) = inspected["NetworkSettings"]["Networks"]
        return json.loads(dockerd.docker("network", "inspect", name))[0]

    async def scenario(table: tuple[Key, ...]) -> None:
        executor = DockerExecutor(dockerd.url, tmp_path / "state")
        await executor.start()
        try:
            for together in groups(table, "docker", api).values():
                await look(executor, together)
            for key in refused(table, "docker", api):
                code = await fault_of(executor.controller(a_task_of([key], "docker")))
                if code != effect_of(key, "docker", api).code:
                    wrong.append(f"{key.field}: {code!r}, not {effect_of(key, 'docker', api)}")
        finally:
            await executor.close()

    with shared_directory(tmp_path / "shared") as place:
        asyncio.run(scenario(keys(place, version["Arch"])))
    assert wrong == []
    assert "stackd-" not in dockerd.docker("network", "ls")
