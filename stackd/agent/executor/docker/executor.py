"""The Docker executor: one engine, the containers of one data directory on it.

It owns what all its controllers share (engine, event watch, files, pulls). Containers are recognised by a label with the
id of the data directory, so other containers of the engine, also another stackd's, are never touched.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from stackd.agent.executor.base import Controller, TaskContext
from stackd.agent.executor.docker.body import DATA_LABEL
from stackd.agent.executor.docker.engine import DockerEngine, EngineRefused
from stackd.agent.executor.docker.files import TaskFiles, memory_directory
from stackd.agent.executor.docker.images import Images
from stackd.agent.executor.docker.networks import DockerNetworks
from stackd.agent.executor.docker.spec import ContainerEvent
from stackd.agent.executor.docker.task import DockerController, DockerHost
from stackd.agent.executor.docker.watch import ContainerWatch
from stackd.base.errors import TaskFault
from stackd.base.ids import TaskId
from stackd.base.time import SECOND
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import Resources


class DockerExecutor:
    """Runs tasks on the engine at `base_url`; `state_dir` holds what must outlive the daemon and is made if missing.
    Raises StackdError("agent.docker.host") if `base_url` is no address of an engine."""

    def __init__(self, base_url: str, state_dir: Path) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_id = _data_id(state_dir / "id")
        self._own: Mapping[str, str] = {DATA_LABEL: data_id}
        self._engine = DockerEngine(base_url, self._own)
        self._description: NodeDescription | None = None
        self._reached = asyncio.Event()
        self._host = DockerHost(
            engine=self._engine,
            watch=ContainerWatch(),
            files=TaskFiles(state_dir / "configs", memory_directory(data_id)),
            images=Images(self._engine),
            networks=DockerNetworks(self._engine, data_id),
            data_id=data_id,
            describe=self._describe,
        )

    @property
    def name(self) -> str:
        return "docker"

    async def start(self) -> None:
        self._engine.watch(asyncio.get_running_loop(), self)
        await self._reached.wait()

    async def describe(self) -> NodeDescription:
        """The engine's own description; before it has first answered, what this process sees of the host."""
        return self._describe()

    def available(self) -> bool:
        return self._engine.available

    def controller(self, context: TaskContext) -> Controller:
        return DockerController(self._host, context)

    async def known_tasks(self) -> tuple[TaskId, ...]:
        try:
            containers = await asyncio.wrap_future(self._engine.find(self._own))
        except EngineRefused as refused:
            raise TaskFault("agent.docker.list", refused.words) from refused
        return tuple(sorted({*containers.values(), *self._host.files.tasks()}))

    async def close(self) -> None:
        await self._engine.close()

    def connected(self, description: NodeDescription) -> None:
        """The engine answers (again): everything that is waited for is looked at anew."""
        self._description = description
        self._reached.set()
        self._host.watch.reconnected()
        self._host.networks.forget()

    def disconnected(self) -> None:
        self._reached.set()

    def _describe(self) -> NodeDescription:
        return self._description or _local_description()

    def event(self, event: ContainerEvent) -> None:
        self._host.watch.event(event)


def _data_id(path: Path) -> str:
    """The id of the data directory, made at its first use."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        draft = path.with_suffix(".draft")
        draft.write_text(secrets.token_hex(8) + "\n")
        draft.replace(path)
        return path.read_text().strip()


def _local_description() -> NodeDescription:
    system = os.uname()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return NodeDescription(
        hostname=socket.gethostname(),
        os=system.sysname.lower(),
        arch=system.machine,
        resources=Resources(nano_cpus=(os.cpu_count() or 1) * SECOND, memory_bytes=memory),
        executors=("docker",),
        features=("ports-map",),
    )
