"""Each setting of a task acts on the process executor, or is refused with a code: tests/key_table.py, deployed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from stackd.agent.executor.process.layout import Place
from stackd.agent.executor.process.spec import make_plan
from stackd.agent.expand import expanded

from key_runner import a_task_of, at, fault_of, fields, groups, outputs, refused, shared_directory
from key_table import Key, Limit, Planned, Probe, keys
from process_host import Bench, drive

pytestmark = pytest.mark.needs("root", "net")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[tuple[Key, ...]]:
    with shared_directory(tmp_path / "shared") as place:
        yield keys(place)


def test_what_the_table_says_of_process_tasks_is_so(tmp_path: Path, table: tuple[Key, ...]) -> None:
    inside = tmp_path / "state/volumes/shop_plain/_data/inside"
    inside.mkdir(parents=True)
    (inside / "mark").touch()
    wrong: list[str] = []

    async def look(bench: Bench, together: list[Key]) -> None:
        context = a_task_of(together, "process")
        task = await bench.running(context)
        said = await outputs(task, len(together))
        node = bench.executor._host.describe()
        place = Place(Path("/t"), "/", Path("/v"), Path("/h"), isolated=True, address="10.213.0.2", gateway="10.213.0.1")
        plan = fields(make_plan(expanded(context, node), node, place))
        group = await asyncio.to_thread(Path(f"/proc/{await task.pid()}/cgroup").read_text)
        for key, output in zip(together, said, strict=True):
            match key.process:
                case Probe(output=expected):
                    seen: object = output
                case Planned(name=name, value=expected):
                    seen = at(plan, name)
                case Limit():
                    seen, expected = limit_of(group, key.process)
                case _:
                    continue
            if seen != expected:
                wrong.append(f"{key.field}: {seen!r}, not {expected!r}")

    async def script(bench: Bench) -> None:
        for together in groups(table, "process").values():
            await look(bench, together)
        for key in refused(table, "process"):
            code = await fault_of(bench.controller(a_task_of([key], "process")))
            if code != key.process.code:  # type: ignore[union-attr]
                wrong.append(f"{key.field}: {code!r}, not {key.process}")

    drive(tmp_path / "state", script)
    assert wrong == []


def limit_of(group: str, limit: Limit) -> tuple[str, str]:
    """What a limit is set to in the control group of a task, and what it should be."""
    for line in group.splitlines():
        _, controllers, path = line.split(":", 2)
        root, file, value = "/sys/fs/cgroup", limit.file_v2, limit.value_v2
        if controllers:
            root, file, value = f"{root}/{controllers}", limit.file, limit.value
        if os.path.exists(f"{root}{path}/{file}") and "stackd-" in path:
            return Path(f"{root}{path}/{file}").read_text().strip(), value
    return "no control group", limit.value
