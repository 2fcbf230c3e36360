"""The process executor: tasks are child processes, each held by a monitor that outlives the daemon. Needs no engine.

As root every task has namespaces and a file tree of its own. As a normal user (or as a root who may not make namespaces)
tasks are plain processes of that user, and what would need more is refused with a reason (see spec.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from pathlib import Path

from stackd.agent.cgroup import CGROUP_ROOT, Groups, detect
from stackd.agent.executor.base import Controller, TaskContext
from stackd.agent.executor.process.host import ProcessHost
from stackd.agent.executor.process.task import ProcessController
from stackd.base.ids import TaskId
from stackd.engine.parts import NodeDescription

log = logging.getLogger(__name__)

_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


class ProcessExecutor:
    """Runs tasks as processes of this host. Everything lies under `state_dir`, which is made if missing; `hidden` is the
    directory no task may see (the daemon's data directory; by default `state_dir`)."""

    def __init__(self, state_dir: Path, *, hidden: Path | None = None, cgroup_root: Path = CGROUP_ROOT) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_dir = state_dir.resolve()
        self._isolated = _may_isolate()
        self._groups = self._detect_groups(state_dir, cgroup_root)
        self._host = ProcessHost(state_dir, hidden or state_dir, isolated=self._isolated, groups=self._groups)

    def _detect_groups(self, state_dir: Path, cgroup_root: Path) -> Groups | None:
        if not self._isolated:
            return None
        data_id = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
        return detect(f"stackd-{data_id}", cgroup_root)

    @property
    def name(self) -> str:
        return "process"

    async def start(self) -> None:
        if not self._isolated:
            log.warning("no right to make namespaces: tasks are plain processes without limits, volumes, configs, mapped ports")
        elif self._groups is None:
            log.info("no writable control groups: tasks that ask for limits are refused")
        await asyncio.to_thread(self._host.reopen)

    async def describe(self) -> NodeDescription:
        return self._host.describe()

    def available(self) -> bool:
        return True

    def controller(self, context: TaskContext) -> Controller:
        return ProcessController(self._host, context)

    async def known_tasks(self) -> tuple[TaskId, ...]:
        return self._host.task_ids()

    async def close(self) -> None:
        self._host.close()


def _may_isolate() -> bool:
    """Whether we may make namespaces. Root in a container often may not: there it is a user like any other."""
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return os.geteuid() == 0 and all(effective >> capability & 1 for capability in (_CAP_NET_ADMIN, _CAP_SYS_ADMIN))
