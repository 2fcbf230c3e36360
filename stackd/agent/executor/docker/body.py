"""What a container is created with: a task's spec as the engine's JSON (API 1.41 and later).

Pure: no connection, no files, no clock. Where stackd says nothing, the key is left out, so that the image's or the
engine's own default holds. What an engine of this version can't do is refused (`check_supported`), never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from stackd.agent.executor.base import TaskContext
from stackd.base.errors import TaskFault
from stackd.base.records import Pairs
from stackd.base.time import SECOND
from stackd.spec.stack import ContainerSpec, Healthcheck, LogDriver, Mount, MountType, Port, Resources, TaskSpec

TASK_LABEL = "stackd.task"
DATA_LABEL = "stackd.data"
"""Names the data directory, so that two daemons on one engine leave each other's containers alone."""
NETWORKS_LABEL = "stackd.networks"
"""Which networks of ours a container needs, by their names in the cluster, with commas between."""

Body = dict[str, Any]
"""JSON on its way to the engine."""

ApiVersion = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FileMount:
    """A file of the host that appears, read-only, at `target` inside the container."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A network of the engine that a container joins, with its names and the addresses it has to have there. The engine's
    own networks know neither."""

    name: str
    aliases: tuple[str, ...] = ()
    options: Pairs = ()
    addresses: tuple[str, ...] = ()

    @property
    def endpoint(self) -> Body:
        """The engine's EndpointSettings."""
        fixed = {"IPv6Address" if ":" in address else "IPv4Address": address for address in self.addresses}
        return _given({"Aliases": list(self.aliases), "DriverOpts": dict(self.options), "IPAMConfig": fixed})


def check_supported(spec: TaskSpec, api: ApiVersion, system: str) -> None:
    """Raise TaskFault for what an engine with this API on this operating system can't do."""
    container = spec.container
    check = container.healthcheck
    mounts = container.mounts
    wanted = (
        ("healthcheck.start_interval", (1, 44), check is not None and check.start_interval_ns > 0),
        ("volume.subpath", (1, 45), any(mount.subpath for mount in mounts if mount.type is MountType.VOLUME)),
        ("a mount of type image", (1, 48), any(mount.type is MountType.IMAGE for mount in mounts)),
    )
    for what, since, asked in wanted:
        if asked and api < since:
            raise _unsupported(f"{what} needs Docker API {since[0]}.{since[1]}, and the engine has {api[0]}.{api[1]}")
    for mount in mounts:
        if mount.type is MountType.CLUSTER:
            raise _unsupported(f"the cluster volume at {mount.target}: Docker has them in swarm mode only")
        if mount.create_host_path and ":" in mount.source + mount.target:
            raise _unsupported(f"a source that is created can't have a colon in its path: {mount.source}")
        if mount.subpath and mount.type not in (MountType.VOLUME, MountType.IMAGE):
            raise _unsupported(f"the {mount.type} mount at {mount.target} can't have a subpath")
    for port in spec.ports if any(attachment.network == "host" for attachment in spec.networks) else ():
        if port.published != port.target:
            raise _unsupported(f"port {port.published}:{port.target} can't be mapped in the host's own network")
    if container.credentials is not None and (system != "windows" or container.credentials.config):
        raise _unsupported("credential specs are for Windows, from a file or the registry")


def _unsupported(sentence: str) -> TaskFault:
    return TaskFault("agent.docker.unsupported", sentence)


def labels(context: TaskContext, data_id: str) -> dict[str, str]:
    """The spec's container labels and stackd's own, which win. Like Swarm's, they name the stack for other tools."""
    task = context.assignment
    networks = ",".join(attachment.network for attachment in context.spec.networks)
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
        **({NETWORKS_LABEL: networks} if networks else {}),
    }


def create_body(context: TaskContext, data_id: str, files: Iterable[FileMount], joined: Sequence[Joined] = ()) -> Body:
    """The body of `POST /containers/create` for an expanded task. Only the first of the networks it has joined is in it;
    engines before API 1.44 take no more."""
    spec = context.spec.container
    body: Body = {
        "Image": spec.image,
        "Env": list(spec.env),
        "Labels": labels(context, data_id),
        "StopTimeout": -(-spec.stop_grace_ns // SECOND),
        "ExposedPorts": {_port_key(port): {} for port in context.spec.ports},
        "HostConfig": _host_config(context, files, joined),
    }
    if joined and joined[0].endpoint:
        body["NetworkingConfig"] = {"EndpointsConfig": {joined[0].name: joined[0].endpoint}}
    if spec.entrypoint is not None:
        # An empty list would mean the image's own entrypoint; [""] is the engine's word for none.
        body["Entrypoint"] = list(spec.entrypoint) or [""]
    if spec.command is not None:
        body["Cmd"] = list(spec.command)
    if spec.healthcheck is not None:
        body["Healthcheck"] = _healthcheck(spec.healthcheck)
    return body | _given(
        {
            "WorkingDir": spec.working_dir,
            "User": spec.user,
            "Hostname": spec.hostname,
            "StopSignal": spec.stop_signal,
            "Tty": spec.tty,
            "OpenStdin": spec.stdin_open,
        }
    )


def _given(settings: Body) -> Body:
    """Without those that say nothing."""
    return {key: value for key, value in settings.items() if value}


def _host_config(context: TaskContext, files: Iterable[FileMount], joined: Sequence[Joined]) -> Body:
    """`RestartPolicy` is no: restarts are decided by the cluster, never by the engine."""
    task, container = context.spec, context.spec.container
    mounts = [_mount(mount) for mount in container.mounts if not mount.create_host_path]
    mounts += [{"Type": "bind", "Source": file.source, "Target": file.target, "ReadOnly": True} for file in files]
    return {
        "NetworkMode": joined[0].name if joined else "bridge",
        "RestartPolicy": {"Name": "no"},
        "Mounts": mounts,
        "PortBindings": _port_bindings(task.ports),
        **_resources(task.limits, task.reservations),
        **_rights(container),
        **_given(
            {
                "Binds": [_bind(mount) for mount in container.mounts if mount.create_host_path],
                "ExtraHosts": [_extra_host(line) for line in container.hosts],
                "Dns": list(container.dns_servers),
                "DnsSearch": list(container.dns_search),
                "DnsOptions": list(container.dns_options),
                "LogConfig": _log_config(task.log),
                "Runtime": container.runtime,
                "Isolation": container.isolation,
            }
        ),
    }


def _rights(container: ContainerSpec) -> Body:
    """What the container may do and use up beyond, or short of, the engine's defaults."""
    rights = _given(
        {
            "ReadonlyRootfs": container.read_only,
            "Privileged": container.privileged,
            "GroupAdd": list(container.groups),
            "CapAdd": list(container.cap_add),
            "CapDrop": list(container.cap_drop),
            "Devices": [
                {"PathOnHost": device.source, "PathInContainer": device.target, "CgroupPermissions": device.permissions}
                for device in container.devices
            ],
            "Sysctls": dict(container.sysctls),
            "Ulimits": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in container.ulimits],
            "ShmSize": container.shm_size_bytes,
            "OomScoreAdj": container.oom_score_adj,
            "SecurityOpt": [*container.security_options, *_credentials(container)],
        }
    )
    if container.init is not None:
        rights["Init"] = container.init
    return rights


def _credentials(container: ContainerSpec) -> tuple[str, ...]:
    given = container.credentials
    if given is None:
        return ()
    return (f"credentialspec=file://{given.file}" if given.file else f"credentialspec=registry://{given.registry}",)


def _log_config(log: LogDriver | None) -> Body:
    return {} if log is None else {"Type": log.name, "Config": dict(log.options)}


def _extra_host(line: str) -> str:
    """A line of a hosts file, address first, as the engine takes it."""
    address, _, name = line.partition(" ")
    return f"{name}:{address}"


def _resources(limits: Resources, reservations: Resources) -> Body:
    """A reserved CPU is the scheduler's affair only, as in Swarm."""
    return _given(
        {
            "NanoCpus": limits.nano_cpus,
            "Memory": limits.memory_bytes,
            "PidsLimit": limits.pids,
            "MemoryReservation": reservations.memory_bytes,
        }
    )


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
        **_given({"StartInterval": check.start_interval_ns}),
    }


def _mount(mount: Mount) -> Body:
    body: Body = {"Type": mount.type.value, "Target": mount.target, "ReadOnly": mount.read_only}
    body |= _given({"Source": mount.source, "Consistency": mount.consistency})
    match mount.type:
        case MountType.BIND:
            body |= _given({"BindOptions": _given({"Propagation": mount.propagation})})
        case MountType.VOLUME:
            body |= {"Source": mount.source, "VolumeOptions": _volume_options(mount)}
        case MountType.TMPFS:
            body |= _given({"TmpfsOptions": _given({"SizeBytes": mount.size_bytes, "Mode": mount.tmpfs_mode})})
        case MountType.IMAGE:
            body |= _given({"ImageOptions": _given({"Subpath": mount.subpath})})
        case MountType.NPIPE | MountType.CLUSTER:
            pass  # a source and a target are all they have
        case unknown:
            assert_never(unknown)
    return body


def _bind(mount: Mount) -> str:
    """The older form of a bind mount, in which every engine makes a missing source (as a mount: API 1.42)."""
    options = [*(["ro"] if mount.read_only else []), *filter(None, (mount.propagation, mount.consistency))]
    return ":".join(filter(None, (mount.source, mount.target, ",".join(options))))


def _volume_options(mount: Mount) -> Body:
    options: Body = {"NoCopy": mount.no_copy, "Labels": dict(mount.labels), **_given({"Subpath": mount.subpath})}
    if mount.driver or mount.driver_options:
        options["DriverConfig"] = {"Name": mount.driver or "local", "Options": dict(mount.driver_options)}
    return options
