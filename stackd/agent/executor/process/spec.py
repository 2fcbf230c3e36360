"""From a task's spec to a monitor's plan: what is asked for, what this host can give, and a clear fault where they differ.

Pure but for looking at the host's own files that become part of a plan (resolv.conf, whether a bind source exists).
"""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.process.health import check_of
from stackd.agent.executor.process.plan import FilePlan, MountPlan, Plan, PortPlan
from stackd.base.errors import Retry, TaskFault
from stackd.base.time import SECOND
from stackd.spec.stack import FileRef, Mount, MountType, TaskSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's PATH for images that name none."""

HOST = "/"
"""The root of a task whose image isn't registered: the host's own."""

_SYSTEMD_RESOLV = Path("/run/systemd/resolve/resolv.conf")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task is to run. `lower` is its root's directory, `volumes` where named volumes lie."""

    directory: Path
    lower: str
    volumes: Path
    hidden: Path
    isolated: bool
    address: str = ""
    limit_groups: tuple[str, ...] = ()
    oom_counter: str = ""


def check_supported(spec: TaskSpec, *, isolated: bool) -> None:
    """Raise TaskFault for what this executor can't do, before anything is made."""
    container = spec.container
    if not (container.entrypoint or container.command):
        raise TaskFault(
            "agent.process.no_command",
            f"the process executor doesn't know what {container.image} runs: it has no images",
            hint="give the service a `command`",
        )
    for mount in container.mounts:
        if mount.type is MountType.VOLUME and (mount.driver not in ("", "local") or mount.driver_options):
            raise TaskFault(
                "agent.process.volume_driver", f"volume {mount.source}: only plain local volumes are supported here"
            )
        if mount.type is MountType.BIND and not os.path.exists(mount.source):
            raise TaskFault("agent.process.bind_source", f"bind source path does not exist: {mount.source}")
    if any(port.published == 0 for port in spec.ports):
        text = "the process executor doesn't choose published ports"
        raise TaskFault("agent.process.port_unset", text, hint="write PUBLISHED:TARGET, such as 8080:80")
    if not isolated:
        _check_unprivileged(spec)


def _check_unprivileged(spec: TaskSpec) -> None:
    """Without root a task shares the host's file tree and network: what would change either is refused, never ignored."""
    container = spec.container
    needs = [
        *(f"the config {ref.source} at {ref.target}" for ref in container.configs),
        *(f"the secret {ref.source} at {ref.target}" for ref in container.secrets),
        *(f"the {mount.type} mount at {mount.target}" for mount in container.mounts),
        *([f"user {container.user}"] if container.user and not _is_self(container.user) else []),
        *([f"hostname {container.hostname}"] if container.hostname else []),
    ]
    if needs:
        raise TaskFault(
            "agent.process.needs_root",
            f"{needs[0]} needs root: a process task of a normal user has no file tree and no namespaces of its own",
            hint="run stackd as root (in a container: with CAP_SYS_ADMIN and CAP_NET_ADMIN), or use the Docker executor",
        )
    for port in spec.ports:
        if port.published != port.target:
            raise TaskFault(
                "agent.process.port_map",
                f"port {port.published}:{port.target} can't be mapped without root: published and target port must be the same",
                hint=f"publish {port.target}:{port.target}, or run stackd as root",
            )


def _is_self(user: str) -> bool:
    me = pwd.getpwuid(os.geteuid())
    return user in (me.pw_name, str(me.pw_uid), f"{me.pw_uid}:{me.pw_gid}")


def make_plan(context: TaskContext, place: Place) -> Plan:
    """The plan of a task that `check_supported` has passed. Raises TaskFault, with Retry.LATER if a file has yet to come."""
    spec = context.spec
    container = spec.container
    hostname = container.hostname or context.id[:12]
    check = check_of(container.healthcheck)
    return Plan(
        argv=(*(container.entrypoint or ()), *(container.command or ())),
        env=_environment(spec, place, hostname),
        working_dir=container.working_dir or _default_directory(place),
        isolated=place.isolated,
        user=container.user,
        hostname=hostname,
        lower=place.lower,
        hidden=str(place.hidden),
        etc=tuple(_network_files(hostname, place.address)),
        files=(
            *(_file(context, ref, "/") for ref in container.configs),
            *(_file(context, ref, "/run/secrets/") for ref in container.secrets),
        ),
        mounts=tuple(_mount(mount, number, place) for number, mount in enumerate(container.mounts)),
        ports=tuple(PortPlan(port.published, port.protocol, port.host_ip) for port in spec.ports) if place.isolated else (),
        probe=check.argv if check else (),
        limit_groups=place.limit_groups,
        oom_counter=place.oom_counter,
        stop_signal=stop_signal(container.stop_signal),
        stop_grace_seconds=container.stop_grace_ns / SECOND,
    )


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
    """The spec's own variables over PATH and, where it isn't taken from the task's passwd file, HOME."""
    path = DEFAULT_PATH
    if place.lower == HOST:
        # The image is this host, so programs are also found where the daemon finds them (a Python under a home, say).
        path = ":".join(dict.fromkeys([*path.split(":"), *os.environ.get("PATH", "").split(":")])).strip(":")
    base = {"PATH": path}
    if place.isolated:
        base["HOSTNAME"] = hostname
    else:
        base["HOME"] = str(Path.home())
    own = dict(item.split("=", 1) for item in spec.container.env if "=" in item)
    return tuple(f"{key}={value}" for key, value in {**base, **own}.items())


def _default_directory(place: Place) -> str:
    """An image's root; on the host's root an empty place, or a server started there would serve the whole host."""
    if not place.isolated:
        return str(place.directory / "home")
    return "/tmp" if place.lower == HOST else "/"


def _network_files(hostname: str, address: str) -> Iterable[FilePlan]:
    if not address:
        return
    hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{hostname}\n"
    for target, text in (("/etc/hosts", hosts), ("/etc/hostname", f"{hostname}\n"), ("/etc/resolv.conf", _resolver())):
        yield FilePlan(target, text.encode(), mode=0o644)


def _resolver(path: Path = Path("/etc/resolv.conf"), behind: Path = _SYSTEMD_RESOLV) -> str:
    """The host's resolv.conf; a resolver on the host's loopback can't be reached from a task, the ones behind it can."""
    text = path.read_text() if path.exists() else ""
    lines = text.splitlines()
    if any(_is_loopback(line) for line in lines):
        lines = behind.read_text().splitlines() if behind.exists() else [line for line in lines if not _is_loopback(line)]
    return "\n".join(lines) + "\n"


def _is_loopback(line: str) -> bool:
    words = line.split()
    return len(words) >= 2 and words[0] == "nameserver" and (words[1].startswith("127.") or words[1] == "::1")


def _file(context: TaskContext, ref: FileRef, base: str) -> FilePlan:
    data = context.files.get(ref.digest)
    if data is None:
        text = f"the content of {ref.source} has not arrived"
        raise TaskFault("agent.process.content_missing", text, retry=Retry.LATER)
    return FilePlan(os.path.join(base, ref.target), data, ref.uid, ref.gid, ref.mode)


def _mount(mount: Mount, number: int, place: Place) -> MountPlan:
    match mount.type:
        case MountType.BIND:
            return MountPlan(mount.target, os.path.realpath(mount.source), mount.read_only)
        case MountType.VOLUME:
            source = volume_data(place.volumes, mount.source) if mount.source else place.directory / "volumes" / str(number)
            fill = not mount.no_copy and place.lower != HOST
            return MountPlan(mount.target, str(source), mount.read_only, fill)
        case MountType.TMPFS:
            return MountPlan(mount.target, read_only=mount.read_only, size_bytes=mount.size_bytes)


def volume_data(volumes: Path, name: str) -> Path:
    """Where a named volume's files lie; raises TaskFault for a name that would lead elsewhere."""
    if "/" in name or name.startswith("."):
        raise TaskFault("agent.process.volume_name", f"invalid volume name: {name}")
    return volumes / name / "_data"
