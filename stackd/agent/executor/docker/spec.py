"""What the engine says of containers and of itself, as records.

Pure: no connection, no files, no clock. The engine's JSON ends here; past this module there are records only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stackd.agent.executor.base import Exit, Handle
from stackd.agent.executor.docker.body import DATA_LABEL, TASK_LABEL
from stackd.base.ids import TaskId
from stackd.base.records import Pairs
from stackd.base.time import SECOND, Instant
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import Resources

UNKNOWN_CODE = -1
"""The exit code of a container that was removed before anybody could ask how it ended."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine describes it. `health` is "" without a health check, else starting, healthy or unhealthy."""

    id: str
    task_id: TaskId
    data_id: str
    status: str
    pid: int
    exit_code: int
    oom: bool
    error: str
    finished_at: Instant
    health: str
    last_probe: str
    stop_signal: str

    @property
    def started(self) -> bool:
        return self.status != "created"

    @property
    def ended(self) -> bool:
        return self.status in ("exited", "dead", "removing")

    @property
    def handle(self) -> Handle:
        return Handle(container_id=self.id, pid=self.pid)

    @property
    def exit(self) -> Exit:
        """How it ended; only meaningful once it has."""
        return exit_of(self.exit_code, at=self.finished_at, oom=self.oom, cause=self.error)


def container_of(inspected: Mapping[str, Any]) -> Container:
    """Read the answer of `GET /containers/{id}/json`."""
    state, config = inspected["State"], inspected["Config"]
    health = state.get("Health") or {}
    status = health.get("Status", "")
    probes = health.get("Log") or [{}]
    own = config.get("Labels") or {}
    return Container(
        id=inspected["Id"],
        task_id=TaskId(own.get(TASK_LABEL, "")),
        data_id=own.get(DATA_LABEL, ""),
        status=state["Status"],
        pid=state["Pid"],
        exit_code=state["ExitCode"],
        oom=state["OOMKilled"],
        error=state["Error"],
        finished_at=instant_of(state["FinishedAt"]),
        health="" if status == "none" else status,
        last_probe=str(probes[-1].get("Output", "")).strip(),
        stop_signal=config.get("StopSignal") or "SIGTERM",
    )


def exit_of(code: int, *, at: Instant, oom: bool = False, cause: str = "") -> Exit:
    """An exit with its sentence in Swarm's words; `cause` is what else is known."""
    if oom:
        cause = "killed by the kernel: out of memory"
    if code == 0 and not cause:
        return Exit(code=0, at=at)
    sentence = f"task: non-zero exit ({code})" if code else ""
    return Exit(code=code, error=": ".join(filter(None, (sentence, cause))), oom=oom, at=at)


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """One change the engine tells of. `action` is start, die, oom, destroy or health; then `health` is the new status."""

    container_id: str
    action: str
    at: Instant
    exit_code: int = 0
    health: str = ""


WATCHED_ACTIONS = ("start", "die", "oom", "destroy", "health_status")
"""Asking for these only keeps out three events for each probe of each health check."""


def event_of(message: Mapping[str, Any]) -> ContainerEvent:
    """Read one message of `GET /events`."""
    action, _, detail = message["Action"].partition(": ")
    attributes = message["Actor"].get("Attributes") or {}
    return ContainerEvent(
        container_id=message["Actor"]["ID"],
        action="health" if action == "health_status" else action,
        at=Instant(message["timeNano"]),
        exit_code=int(attributes.get("exitCode", 0)),
        health=detail,
    )


def description_of(info: Mapping[str, Any]) -> NodeDescription:
    """Read the answer of `GET /info`."""
    return NodeDescription(
        hostname=info["Name"],
        os=info["OSType"],
        arch=info["Architecture"],
        resources=Resources(nano_cpus=info["NCPU"] * SECOND, memory_bytes=info["MemTotal"]),
        executors=("docker",),
        engine_version=info["ServerVersion"],
        engine_labels=_engine_labels(info.get("Labels") or ()),
        features=("ports-map", *_plugins(info.get("Plugins") or {})),
    )


def _plugins(known: Mapping[str, Any]) -> tuple[str, ...]:
    """The engine's drivers as the scheduler asks for them. An overlay network is a bridge here, which every engine has."""
    kinds = (("volume", "Volume"), ("network", "Network"), ("log", "Log"))
    words = {f"{kind}:{name}" for kind, key in kinds for name in known.get(key) or ()}
    return tuple(sorted(words | {"network:overlay"} if words else words))


def _engine_labels(texts: Iterable[str]) -> Pairs:
    return tuple(sorted((key, value) for key, _, value in (text.partition("=") for text in texts)))


_TIME = re.compile(r"(?P<whole>[^.Z+]+)(?:\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)")


def instant_of(text: str) -> Instant:
    """An RFC 3339 time with up to nine digits of fraction; the engine's year 1 means never, which is 0."""
    found = _TIME.fullmatch(text)
    if found is None or text.startswith("0001-"):
        return Instant(0)
    moment = datetime.fromisoformat(found["whole"] + found["zone"])
    return Instant(int(moment.timestamp()) * SECOND + int((found["fraction"] or "").ljust(9, "0")))
