"""Deploys the fragments of tests/key_table.py and looks at their effects; for the tests of both executors."""

from __future__ import annotations

import asyncio
import fnmatch
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from stackd.agent.executor.base import Controller, TaskContext
from stackd.base.errors import TaskFault
from stackd.base.ids import BlobDigest
from stackd.spec.stack import GenericResource, NetworkSpec

from docker_builders import IMAGE, a_context
from key_table import CONTENTS, Key, Probe, Refused, Since

SECONDS = 30.0
MARK = "@@"


def groups(keys: Sequence[Key], executor: str, api: tuple[int, int] = (0, 0)) -> dict[str, list[Key]]:
    """What is deployed together, by name; a key that is refused is not in them."""
    together: dict[str, list[Key]] = defaultdict(list)
    for key in keys:
        if not isinstance(effect_of(key, executor, api), Refused):
            together[key.group].append(key)
    return together


def refused(keys: Sequence[Key], executor: str, api: tuple[int, int] = (0, 0)) -> list[Key]:
    return [key for key in keys if isinstance(effect_of(key, executor, api), Refused)]


def effect_of(key: Key, executor: str, api: tuple[int, int]) -> Any:
    """The effect with an engine of this API."""
    effect = key.effect(executor)
    if isinstance(effect, Since):
        return effect.then if api >= effect.api else effect.before
    return effect


def a_task_of(keys: Sequence[Key], executor: str) -> TaskContext:
    """One task with the fragments of all `keys`, that runs their probes and then stays."""
    container: dict[str, Any] = {"image": IMAGE, "entrypoint": ("/bin/sh", "-c")}
    task: dict[str, Any] = {}
    network: dict[str, Any] = {}
    for key in keys:
        for merged, fragment in ((container, key.container), (task, key.task), (network, key.network)):
            for name, value in fragment.items():
                known = merged.get(name, ())
                merged[name] = tuple(dict.fromkeys((*known, *value))) if isinstance(value, tuple) else value
    probes = [key.effect(executor) for key in keys]
    command = (_script([probe.command if isinstance(probe, Probe) else ":" for probe in probes]), "word-of-the-command")
    context = a_context(command, files=CONTENTS, task=task, **container)
    generic = (GenericResource(kind="gpu", names=("gpu-7",)),)
    spec = NetworkSpec(name="shop_front", **network)
    return TaskContext(
        msgspec.structs.replace(context.assignment, generic=generic),
        context.spec,
        {BlobDigest(digest): data for digest, data in CONTENTS.items()},
        {"shop_front": spec},
    )


def _script(commands: Sequence[str]) -> str:
    probes = [f"echo {MARK} {number}\n{{ {command}\n}} 2>&1" for number, command in enumerate(commands)]
    return "\n".join(["trap 'exit 0' TERM USR1", *probes, f"echo {MARK} end", "sleep 1000 & wait"])


async def outputs(controller: Controller, count: int) -> list[str]:
    """What each probe of a running task wrote; waits for the last one."""
    async with asyncio.timeout(SECONDS):
        while True:
            lines = [line.line.decode() async for line in controller.logs(follow=False, tail=-1, since=0)]  # type: ignore[arg-type]
            if f"{MARK} end" in lines:
                break
            await asyncio.sleep(0.05)
    found: list[list[str]] = [[] for _ in range(count)]
    current: list[str] = []
    for line in lines:
        mark, _, number = line.partition(" ")
        if mark == MARK:
            current = found[int(number)] if number != "end" else []
        else:
            current.append(line)
    return ["\n".join(each) for each in found]


async def fault_of(controller: Controller) -> str:
    """The code with which a task is refused; "" if it isn't."""
    try:
        await controller.prepare()
        await controller.start()
    except TaskFault as fault:
        return fault.code
    finally:
        await controller.remove()
    return ""


def at(value: Any, path: str) -> Any:
    """What stands at a path of nested mappings and lists. A part `=X` is the item whose key (a pattern) or target is X."""
    while path:
        if isinstance(value, Mapping) and path in value:
            return value[path]
        part, _, rest = path.partition(".")
        if part.startswith("=") and isinstance(value, Mapping):
            value = next(item for key, item in value.items() if fnmatch.fnmatch(key, part[1:]))
        elif part.startswith("="):
            value = next(item for item in value if item["Target"] == part[1:])
        elif isinstance(value, Mapping):
            value = value[part]
        else:
            value = value[int(part)]
        path = rest
    return value


def fields(plan: Any) -> Mapping[str, Any]:
    """A monitor's plan as nested mappings."""
    return asdict(plan)


@contextmanager
def shared_directory(path: Path) -> Iterator[Path]:
    """A directory with a file `given`, on a mount of its own that is shared: mounts below it can be propagated."""
    path.mkdir()
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", path], check=True)
        (path / "given").write_text("given\n")
        yield path
    finally:
        subprocess.run(["umount", "--recursive", path], check=True)
