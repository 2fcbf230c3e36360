"""From a task's spec to a monitor's plan: what is asked for, in terms of this host. What it can't give is in `support`.

Pure but for looking at the host's own files that become part of a plan (hosts, resolv.conf).
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.process.health import check_of
from stackd.agent.executor.process.names import host_resolver, own_hosts, resolver
from stackd.agent.executor.process.plan import DevicePlan, FilePlan, MountPlan, Plan, PortPlan
from stackd.agent.executor.process.rights import rights_of, sysctls_of
from stackd.agent.executor.process.support import host_network
from stackd.agent.expand import content_of
from stackd.base.errors import Retry, TaskFault
from stackd.base.time import SECOND
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import ContainerSpec, FileRef, LogDriver, Mount, MountType, TaskSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's PATH for images that name none."""

HOST = "/"
"""The root of a task whose image isn't registered: the host's own."""

HOSTS_FILE = "hosts"
"""In the task's directory."""

LOG_BYTES, LOG_FILES = 10_000_000, 3
"""How much of its output is kept of a task that doesn't say."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task is to run. `lower` is its root's directory, `volumes` where named volumes lie. `address` is its own, "" in
    the host's network or in none; `gateway` is where it reaches the host."""

    directory: Path
    lower: str
    volumes: Path
    hidden: Path
    isolated: bool
    address: str = ""
    gateway: str = ""
    limit_groups: tuple[str, ...] = ()
    oom_counter: str = ""


def make_plan(context: TaskContext, node: NodeDescription, place: Place) -> Plan:
    """The plan of an expanded task that `check_supported` has passed. Raises TaskFault, with Retry.LATER if a file has yet
    to come."""
    spec = context.spec
    container = spec.container
    hostname = hostname_of(context, node)
    check = check_of(container.healthcheck)
    log_bytes, log_files = _log_size(spec.log)
    configs = [_file(context, node, ref, "/") for ref in container.configs]
    secrets = [_file(context, node, ref, "/run/secrets/") for ref in container.secrets]
    mounts = [_mount(mount, number, place) for number, mount in enumerate(container.mounts)]
    return Plan(
        argv=(*(container.entrypoint or ()), *(container.command or ())),
        env=_environment(spec, place, hostname),
        working_dir=container.working_dir or _default_directory(place),
        isolated=place.isolated,
        user=container.user,
        hostname=hostname,
        lower=place.lower,
        hidden=str(place.hidden),
        etc=_network_files(container, place, hostname) if place.isolated else (),
        files=(*configs, *secrets),
        mounts=(*_hosts_mount(container, place), *mounts),
        ports=_ports(spec, place),
        probe=check.argv if check else (),
        limit_groups=place.limit_groups,
        oom_counter=place.oom_counter,
        stop_signal=stop_signal(container.stop_signal),
        stop_grace_seconds=container.stop_grace_ns / SECOND,
        log_bytes=log_bytes,
        log_files=log_files,
        rights=rights_of(container),
        devices=tuple(DevicePlan(device.source, device.target) for device in container.devices),
        sysctls=sysctls_of(container.sysctls, host_network=host_network(spec)),
        shm_bytes=container.shm_size_bytes,
        read_only=container.read_only,
        host_network=host_network(spec),
        terminal=container.tty,
        stdin_open=container.stdin_open,
    )


def hostname_of(context: TaskContext, node: NodeDescription) -> str:
    """The spec's, else in the host's network the host's, else the beginning of the task's id."""
    return context.spec.container.hostname or (node.hostname if host_network(context.spec) else context.id[:12])


def hosts_of(context: TaskContext, node: NodeDescription, place: Place) -> str:
    """The part of the task's hosts file that doesn't depend on its neighbours."""
    further = [line.replace("host-gateway ", f"{place.gateway} ", 1) for line in context.spec.container.hosts]
    if host_network(context.spec):
        return Path("/etc/hosts").read_text() + own_hosts("", "", further)
    return own_hosts(hostname_of(context, node), place.address, further)


def stop_signal(name: str) -> int:
    """`SIGUSR1`, `USR1` or `10` as a number; "" is SIGTERM. Raises TaskFault for an unknown one."""
    if not name:
        return int(signal.SIGTERM)
    try:
        if name.isdigit():
            return int(signal.Signals(int(name)))
        return int(signal.Signals["SIG" + name.upper().removeprefix("SIG")])
    except (ValueError, KeyError) as error:
        raise TaskFault("agent.process.signal", f"invalid signal: {name}") from error


def _environment(spec: TaskSpec, place: Place, hostname: str) -> tuple[str, ...]:
    """The spec's own variables over PATH and, where it isn't taken from the task's passwd file, HOME. One that is named
    without a value is taken away, as Docker does."""
    path = DEFAULT_PATH
    if place.lower == HOST:
        # The image is this host, so programs are also found where the daemon finds them (a Python under a home, say).
        path = ":".join(dict.fromkeys([*path.split(":"), *os.environ.get("PATH", "").split(":")])).strip(":")
    env = {"PATH": path}
    if place.isolated:
        env["HOSTNAME"] = hostname
    else:
        env["HOME"] = str(Path.home())
    if spec.container.tty:
        env["TERM"] = "xterm"
    for item in spec.container.env:
        name, sign, value = item.partition("=")
        if sign:
            env[name] = value
        else:
            env.pop(name, None)
    return tuple(f"{key}={value}" for key, value in env.items())


def _default_directory(place: Place) -> str:
    """An image's root; on the host's root an empty place, or a server started there would serve the whole host."""
    if not place.isolated:
        return str(place.directory / "home")
    return "/tmp" if place.lower == HOST else "/"


def _network_files(container: ContainerSpec, place: Place, hostname: str) -> tuple[FilePlan, ...]:
    """What a task knows of itself and of resolvers. Its hosts file is another matter: that changes while it runs."""
    host = host_resolver(reachable=not place.address)
    text = resolver(container.dns_servers, container.dns_search, container.dns_options, host)
    return (
        FilePlan("/etc/hostname", f"{hostname}\n".encode(), mode=0o644),
        FilePlan("/etc/resolv.conf", text.encode(), mode=0o644),
    )


def _hosts_mount(container: ContainerSpec, place: Place) -> tuple[MountPlan, ...]:
    source = place.directory / HOSTS_FILE
    return (MountPlan("/etc/hosts", str(source), read_only=container.read_only),) if place.isolated else ()


def _ports(spec: TaskSpec, place: Place) -> tuple[PortPlan, ...]:
    """The ports that the monitor holds: those that rules forward to the task's own network."""
    return tuple(PortPlan(port.published, port.protocol, port.host_ip) for port in spec.ports) if place.address else ()


_SIZE = re.compile(r"(\d+)([kmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _log_size(log: LogDriver | None) -> tuple[int, int]:
    """Bytes per file, and how many files; none for the driver that keeps nothing."""
    if log is None:
        return LOG_BYTES, LOG_FILES
    if log.name == "none":
        return LOG_BYTES, 0
    options = dict(log.options)
    size = _SIZE.fullmatch(options.get("max-size", str(LOG_BYTES)))
    files = options.get("max-file", str(LOG_FILES))
    if size is None or not files.isdigit() or int(files) < 1:
        raise TaskFault("agent.process.log_driver", "the log's max-size has to be like 10m, its max-file a number from 1 on")
    return int(size[1]) * _UNITS[size[2].lower()], int(files)


def _file(context: TaskContext, node: NodeDescription, ref: FileRef, base: str) -> FilePlan:
    content = content_of(context, ref, node)
    if content is None:
        text = f"the content of {ref.source} has not arrived"
        raise TaskFault("agent.process.content_missing", text, retry=Retry.LATER)
    return FilePlan(os.path.join(base, ref.target), content.data, ref.uid, ref.gid, ref.mode)


def _mount(mount: Mount, number: int, place: Place) -> MountPlan:
    plan = MountPlan(mount.target, read_only=mount.read_only, size_bytes=mount.size_bytes, tmpfs_mode=mount.tmpfs_mode)
    if mount.type is MountType.TMPFS:
        return plan
    if mount.type is MountType.VOLUME:
        source = volume_data(place.volumes, mount.source) if mount.source else place.directory / "volumes" / str(number)
        fill = not mount.no_copy and not mount.subpath and place.lower != HOST
        return replace(plan, source=str(source), fill=fill, subpath=_inner_path(mount.subpath))
    propagation = "" if mount.propagation == "rprivate" else mount.propagation
    return replace(plan, source=os.path.realpath(mount.source), propagation=propagation)


def _inner_path(subpath: str) -> str:
    """A path inside a volume; raises TaskFault for one that leads out of it."""
    if ".." in subpath.split("/"):
        raise TaskFault("agent.process.volume_name", f"invalid subpath of a volume: {subpath}")
    return subpath.strip("/")


def volume_data(volumes: Path, name: str) -> Path:
    """Where a named volume's files lie; raises TaskFault for a name that would lead elsewhere."""
    if "/" in name or name.startswith("."):
        raise TaskFault("agent.process.volume_name", f"invalid volume name: {name}")
    return volumes / name / "_data"
