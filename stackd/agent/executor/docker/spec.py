"""Between stackd's records and the engine's JSON: what a container is created with, and what the engine says of one.

Pure: no connection, no files, no clock. The engine's JSON ends here; past this module there are records only. Where
stackd says nothing, the key is left out, so that the image's or the engine's own default holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stackd.agent.executor.base import Exit, Handle, TaskContext
from stackd.base.ids import TaskId
from stackd.base.records import Pairs
from stackd.base.time import SECOND, Instant
from stackd.engine.model import NodeDescription
from stackd.spec.stack import Healthcheck, Mount, MountType, Port, Resources

TASK_LABEL = "stackd.task"
DATA_LABEL = "stackd.data"
"""Names the data directory, so that two daemons on one engine leave each other's containers alone."""

UNKNOWN_CODE = -1
"""The exit code of a container that was removed before anybody could ask how it ended."""

Body = dict[str, Any]
"""JSON on its way to the engine."""


@dataclass(frozen=True, slots=True)
class FileMount:
    """A file of the host that appears, read-only, at `target` inside the container."""

    source: str
    target: str


def labels(context: TaskContext, data_id: str) -> dict[str, str]:
    """The spec's container labels and stackd's own, which win. Like Swarm's, they name the stack for other tools."""
    task = context.assignment
    return {
        **dict(context.spec.container.labels),
        "com.docker.stack.namespace": task.stack,
        TASK_LABEL: task.id,
        DATA_LABEL: data_id,
        "stackd.stack": task.stack,
        "stackd.service": task.service,
        "stackd.slot": str(task.slot),
        "stackd.node": task.node_id,
        "stackd.revision": task.revision,
    }


def create_body(context: TaskContext, data_id: str, files: Iterable[FileMount]) -> Body:
    """The body of `POST /containers/create` (API 1.41 and later)."""
    spec = context.spec.container
    body: Body = {
        "Image": spec.image,
        "Env": list(spec.env),
        "Labels": labels(context, data_id),
        "StopTimeout": -(-spec.stop_grace_ns // SECOND),
        "ExposedPorts": {_port_key(port): {} for port in context.spec.ports},
        "HostConfig": _host_config(context, files),
    }
    if spec.entrypoint is not None:
        # An empty list would mean the image's own entrypoint; [""] is the engine's word for none.
        body["Entrypoint"] = list(spec.entrypoint) or [""]
    if spec.command is not None:
        body["Cmd"] = list(spec.command)
    if spec.healthcheck is not None:
        body["Healthcheck"] = _healthcheck(spec.healthcheck)
    texts = {"WorkingDir": spec.working_dir, "User": spec.user, "Hostname": spec.hostname, "StopSignal": spec.stop_signal}
    return body | {key: text for key, text in texts.items() if text}


def _host_config(context: TaskContext, files: Iterable[FileMount]) -> Body:
    """`RestartPolicy` is no: restarts are decided by the cluster, never by the engine."""
    mounts = [_mount(mount) for mount in context.spec.container.mounts]
    mounts += [{"Type": "bind", "Source": file.source, "Target": file.target, "ReadOnly": True} for file in files]
    return {
        "NetworkMode": "bridge",
        "RestartPolicy": {"Name": "no"},
        "Mounts": mounts,
        "PortBindings": _port_bindings(context.spec.ports),
        **_resources(context.spec.limits, context.spec.reservations),
    }


def _resources(limits: Resources, reservations: Resources) -> Body:
    """A reserved CPU is the scheduler's affair only, as in Swarm."""
    wanted = {
        "NanoCpus": limits.nano_cpus,
        "Memory": limits.memory_bytes,
        "PidsLimit": limits.pids,
        "MemoryReservation": reservations.memory_bytes,
    }
    return {key: amount for key, amount in wanted.items() if amount}


def _port_key(port: Port) -> str:
    return f"{port.target}/{port.protocol}"


def _port_bindings(ports: Iterable[Port]) -> dict[str, list[dict[str, str]]]:
    """A published port of 0 is left to the engine to choose."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        host_port = str(port.published) if port.published else ""
        bindings.setdefault(_port_key(port), []).append({"HostIp": port.host_ip or "0.0.0.0", "HostPort": host_port})
    return bindings


def _healthcheck(check: Healthcheck) -> Body:
    """Zero means inherit, in the engine as here."""
    return {
        "Test": list(check.test),
        "Interval": check.interval_ns,
        "Timeout": check.timeout_ns,
        "StartPeriod": check.start_period_ns,
        "Retries": check.retries,
    }


def _mount(mount: Mount) -> Body:
    body: Body = {"Type": mount.type.value, "Target": mount.target, "ReadOnly": mount.read_only}
    match mount.type:
        case MountType.BIND:
            body["Source"] = mount.source
        case MountType.VOLUME:
            body["Source"] = mount.source
            body["VolumeOptions"] = _volume_options(mount)
        case MountType.TMPFS:
            if mount.size_bytes:
                body["TmpfsOptions"] = {"SizeBytes": mount.size_bytes}
    return body


def _volume_options(mount: Mount) -> Body:
    options: Body = {"NoCopy": mount.no_copy, "Labels": dict(mount.labels)}
    if mount.driver or mount.driver_options:
        options["DriverConfig"] = {"Name": mount.driver or "local", "Options": dict(mount.driver_options)}
    return options


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
        features=("ports-map",),
    )


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
