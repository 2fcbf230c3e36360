"""What the process executor can't do, said before anything is made: a fault with a reason, never a key that is ignored."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from stackd.agent.executor.base import TaskContext
from stackd.base.errors import TaskFault
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import ContainerSpec, LogDriver, Mount, MountType, NetworkSpec, TaskSpec

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
"""The kernel's names of architectures, as platforms of images are written."""

_PULLED_NOWHERE = ("", "missing", "if_not_present", "never")
"""Pull policies that mean nothing where there is nothing to pull."""

_LOG_DRIVERS = ("", "json-file", "local", "none")
_LOG_OPTIONS = ("max-size", "max-file")

_BRIDGE_DRIVERS = ("", "overlay", "bridge")


def check_supported(context: TaskContext, node: NodeDescription, *, isolated: bool) -> None:
    """Raise TaskFault for what this executor can't do on this host."""
    spec = context.spec
    container = spec.container
    if not (container.entrypoint or container.command):
        raise TaskFault(
            "agent.process.no_command",
            f"the process executor doesn't know what {container.image} runs: it has no images",
            hint="give the service a `command`",
        )
    for sentence in _unsupported(container, node):
        raise TaskFault("agent.process.unsupported", sentence)
    for mount in container.mounts:
        _check_mount(mount)
    _check_log(spec.log)
    _check_networks(context)
    if any(port.published == 0 for port in spec.ports):
        text = "the process executor doesn't choose published ports"
        raise TaskFault("agent.process.port_unset", text, hint="write PUBLISHED:TARGET, such as 8080:80")
    if not isolated:
        _check_unprivileged(spec)
    if not isolated or host_network(spec):
        _check_ports(spec)


def host_network(spec: TaskSpec) -> bool:
    """Whether the task is to stay in the host's own network."""
    return any(attachment.network == "host" for attachment in spec.networks)


def _unsupported(container: ContainerSpec, node: NodeDescription) -> Iterator[str]:
    """Sentences about keys that have no meaning without images, a container runtime or Windows."""
    if container.runtime:
        yield f"runtime {container.runtime}: there are no container runtimes without an engine"
    if container.isolation not in ("", "default"):
        yield f"isolation {container.isolation} is for Windows"
    if container.credentials is not None:
        yield "credential specs are for Windows"
    if container.init is False:
        yield "init: false: every process task has an init"
    if container.pull_policy not in _PULLED_NOWHERE:
        yield f"pull_policy {container.pull_policy}: the process executor has no images to pull"
    if container.platform and not _runs_on(container.platform, node):
        yield f"platform {container.platform}: this node is {node.os}/{_ARCHITECTURES.get(node.arch, node.arch)}"
    for device in container.devices:
        if set(device.permissions) != set("rwm"):
            yield f"the device {device.target} can't be kept from being read, written or made anew: permissions have to be rwm"


def _runs_on(platform: str, node: NodeDescription) -> bool:
    """Whether `os/arch[/variant]` is this node; the variant is about images."""
    system, _, rest = platform.partition("/")
    architecture = rest.partition("/")[0]
    return system == node.os and architecture in ("", node.arch, _ARCHITECTURES.get(node.arch))


def _check_mount(mount: Mount) -> None:
    where = f"the {mount.type} mount at {mount.target}"
    if mount.type in (MountType.NPIPE, MountType.CLUSTER, MountType.IMAGE):
        raise TaskFault("agent.process.unsupported", f"{where}: the process executor has binds, local volumes and tmpfs")
    if mount.type is MountType.VOLUME and (mount.driver not in ("", "local") or mount.driver_options):
        raise TaskFault("agent.process.volume_driver", f"volume {mount.source}: only plain local volumes are supported here")
    if mount.subpath and mount.type is not MountType.VOLUME:
        raise TaskFault("agent.process.unsupported", f"{where} can't have a subpath")
    if mount.type is not MountType.BIND:
        return
    if not mount.create_host_path and not os.path.exists(mount.source):
        raise TaskFault("agent.process.bind_source", f"bind source path does not exist: {mount.source}")
    kind = mount.propagation.removeprefix("r")
    if kind in ("shared", "slave") and not _is_passed_on(mount.source, kind):
        text = f"bind source {mount.source} is not on a {kind} mount of the host, so nothing would be propagated"
        raise TaskFault("agent.process.propagation", text, hint="`mount --make-rshared` on the host, or leave propagation out")


def _is_passed_on(source: str, kind: str) -> bool:
    """Whether the mount that holds `source` is shared, or for a slave at least a slave itself (proc(5), mountinfo)."""
    real = Path(os.path.realpath(source))
    best, fields = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ")[4]
        if real.is_relative_to(point) and len(point) >= len(best):
            best, fields = point, line.partition(" - ")[0]
    return "shared:" in fields or (kind == "slave" and "master:" in fields)


def _check_log(log: LogDriver | None) -> None:
    if log is None:
        return
    if log.name not in _LOG_DRIVERS:
        raise TaskFault("agent.process.log_driver", f"the process executor has no log driver {log.name}")
    unknown = sorted(key for key, _ in log.options if key not in _LOG_OPTIONS)
    if unknown:
        raise TaskFault("agent.process.log_driver", f"the process executor has no log option {unknown[0]}")


def _check_networks(context: TaskContext) -> None:
    """All networks are one bridge with IPv4 addresses of its own: what can't be true of that is refused."""
    for attachment in context.spec.networks:
        sentences = [
            *(["a fixed address"] if attachment.addresses else []),
            *(["driver_opts"] if attachment.driver_options else []),
        ]
        spec = context.networks.get(attachment.network)
        sentences += _network_needs(spec) if spec is not None else []
        if sentences:
            text = f"network {attachment.network}: the process executor has no {sentences[0]}"
            raise TaskFault("agent.process.network", text, hint="use the Docker executor, or leave it out")


def _network_needs(spec: NetworkSpec) -> list[str]:
    return [
        *([f"driver {spec.driver}"] if spec.driver not in _BRIDGE_DRIVERS else []),
        *(["IPv6"] if spec.ipv6 else []),
        *(["subnets to choose"] if spec.pools or spec.ipam_driver not in ("", "default") else []),
    ]


def _check_unprivileged(spec: TaskSpec) -> None:
    """Without root a task shares the host's file tree and network: what would change either is refused, never ignored."""
    container = spec.container
    needs = [
        *(f"the config {ref.source} at {ref.target}" for ref in container.configs),
        *(f"the secret {ref.source} at {ref.target}" for ref in container.secrets),
        *(f"the {mount.type} mount at {mount.target}" for mount in container.mounts),
        *([f"user {container.user}"] if container.user and not _is_self(container.user) else []),
        *([f"hostname {container.hostname}"] if container.hostname else []),
        *(f"network {one.network}" for one in spec.networks if one.network == "none"),
        *(key for key, value in _root_only(container).items() if value),
    ]
    if needs:
        raise TaskFault(
            "agent.process.needs_root",
            f"{needs[0]} needs root: a process task of a normal user has no file tree and no namespaces of its own",
            hint="run stackd as root (in a container: with CAP_SYS_ADMIN and CAP_NET_ADMIN), or use the Docker executor",
        )


def _root_only(container: ContainerSpec) -> dict[str, object]:
    """Keys that need namespaces or rights."""
    return {
        "read_only": container.read_only,
        "group_add": container.groups,
        "cap_add": container.cap_add,
        "cap_drop": container.cap_drop,
        "privileged": container.privileged,
        "devices": container.devices,
        "sysctls": container.sysctls,
        "shm_size": container.shm_size_bytes,
        "a negative oom_score_adj": container.oom_score_adj < 0,
        "extra_hosts": container.hosts,
        "dns": container.dns_servers,
        "dns_search": container.dns_search,
        "dns_opt": container.dns_options,
    }


def _check_ports(spec: TaskSpec) -> None:
    """In the host's network a port is published by listening on it."""
    for port in spec.ports:
        if port.published != port.target:
            raise TaskFault(
                "agent.process.port_map",
                f"port {port.published}:{port.target} can't be mapped in the host's own network: both have to be the same",
                hint=f"publish {port.target}:{port.target}, or give the task a network (without root it has none)",
            )


def _is_self(user: str) -> bool:
    me = pwd.getpwuid(os.geteuid())
    return user in (me.pw_name, str(me.pw_uid), f"{me.pw_uid}:{me.pw_gid}")
