"""What all tasks of one process executor share: directories, roots, volumes, the node's network, control groups.

Everything here may be repeated and tolerates that parts are already there or gone. Calls that take more than a moment
are made from a thread by their callers.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from stackd.agent.cgroup import Group, Groups
from stackd.agent.executor.process.directory import TaskDirectory, TaskRecord
from stackd.agent.executor.process.listeners import listener
from stackd.agent.executor.process.names import Member, Neighbours
from stackd.agent.executor.process.spec import HOST, HOSTS_FILE, volume_data
from stackd.base.errors import TaskFault
from stackd.base.ids import TaskId
from stackd.base.time import SECOND
from stackd.engine.parts import NodeDescription
from stackd.net.ports import PublishedPort
from stackd.net.sandbox import HostNetwork
from stackd.spec.stack import Mount, MountType, Port, Resources

log = logging.getLogger(__name__)

_DRIVERS = ("log:json-file", "log:local", "network:bridge", "network:overlay", "volume:local")
"""What there is of the drivers that specs can name, in the scheduler's words."""


class ProcessHost:
    """One state directory on this host. `isolated`: tasks get namespaces, which needs root."""

    def __init__(self, state_dir: Path, hidden: Path, *, isolated: bool, groups: Groups | None) -> None:
        self.tasks = state_dir / "tasks"
        self.volumes = state_dir / "volumes"
        self.roots = state_dir / "roots"
        self.hidden = hidden.resolve()
        self.isolated = isolated
        self._groups = groups
        self._network: HostNetwork | None = None
        self.neighbours = Neighbours()
        for path in (state_dir, self.tasks, self.volumes, self.roots):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if isolated:
            self.roots.chmod(0o755)  # a task's root directory is looked through by the task's own user
        self._owner = state_dir

    def describe(self) -> NodeDescription:
        """The host as tasks find it."""
        system = os.uname()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return NodeDescription(
            hostname=socket.gethostname(),
            os=system.sysname.lower(),
            arch=system.machine,
            resources=Resources(nano_cpus=(os.cpu_count() or 1) * SECOND, memory_bytes=memory),
            executors=("process",),
            features=(
                *(["ports-map", "namespaces"] if self.isolated else []),
                *(["limits"] if self._groups else []),
                *_DRIVERS,
            ),
        )

    def directory(self, task_id: TaskId) -> TaskDirectory:
        return TaskDirectory(self.tasks / task_id)

    def task_ids(self) -> tuple[TaskId, ...]:
        """Every task that has a directory or a control group."""
        found = {TaskId(entry.name) for entry in self.tasks.iterdir()}
        if self._groups is not None:
            found |= {TaskId(name) for name in self._groups.names()}
        return tuple(sorted(found))

    def reopen(self) -> None:
        """Find the network of an earlier daemon and sweep what belongs to no living task. Without one, do nothing yet."""
        if not self.isolated:
            return
        living = {endpoint_name(id): record for id, record in self._living()}
        addresses = {name: IPv4Address(record.address) for name, record in living.items()}
        started = {endpoint_name(id) for id, _ in self._living() if self.directory(id).started()}
        published = {
            name: tuple(PublishedPort(port.published, port.target, port.protocol, port.host_ip) for port in record.ports)
            for name, record in living.items()
            if name in started
        }
        for id, record in self._living():
            self.enter(id, record)
            if self.directory(id).started():
                self.neighbours.announce(id)
        try:
            self._network = HostNetwork(self._owner)
            self._network.reopen(addresses, published)
        except (OSError, TaskFault) as error:
            # Tasks are refused one by one then, each with this reason; those that run go on.
            log.warning("no network for tasks: error=%s", error)
            self._network = None

    def close(self) -> None:
        """Let go of the kernel; monitors and network stay as they are."""
        if self._network is not None:
            self._network.close()
            self._network = None

    def _living(self) -> Iterator[tuple[TaskId, TaskRecord]]:
        for id in self.task_ids():
            directory = self.directory(id)
            record = directory.record()
            if record is not None and record.address and directory.monitor_pid():
                yield id, record

    def enter(self, task_id: TaskId, record: TaskRecord) -> None:
        """Give a task its hosts file, and keep that up to date."""
        names = {network.network: (*network.names, record.name) for network in record.networks}
        file = self.directory(task_id).path / HOSTS_FILE
        self.neighbours.enter(task_id, Member(record.address, names, file, record.hosts))

    def lower_of(self, image: str) -> str:
        """The root under a task: the directory registered for its image, else the host's own."""
        registered = self.roots / image
        return str(registered) if self.isolated and registered.is_dir() else HOST

    def make_sources(self, directory: TaskDirectory, mounts: tuple[Mount, ...]) -> None:
        """The directories behind volumes. Named ones stay for ever, with their labels beside them; others go with the task.
        Also the missing sources of binds that want them made."""
        for number, mount in enumerate(mounts):
            if mount.create_host_path:
                os.makedirs(mount.source, exist_ok=True)
            if mount.type is not MountType.VOLUME:
                continue
            if not mount.source:
                (directory.path / "volumes" / str(number)).mkdir(mode=0o755, parents=True, exist_ok=True)
                continue
            path = volume_data(self.volumes, mount.source)
            if not path.exists():
                path.parent.mkdir(mode=0o755, exist_ok=True)
                (path.parent / "labels.json").write_bytes(msgspec.json.encode(dict(mount.labels)))
                path.mkdir(mode=0o755)

    def network(self) -> HostNetwork:
        """The node's network; raises TaskFault if this host can't have one."""
        if self._network is None:
            self._network = HostNetwork(self._owner)
        return self._network

    def withdraw_ports(self, task_id: TaskId) -> None:
        """Publish a task's ports and names no longer."""
        self.neighbours.withdraw(task_id)
        if self._network is not None:
            self._network.withdraw(endpoint_name(task_id))

    def release_endpoint(self, task_id: TaskId) -> None:
        """Take a task's interface, address, names and published ports back."""
        self.neighbours.leave(task_id)
        if self._network is not None:
            self._network.release(endpoint_name(task_id))

    def limit(self, task_id: TaskId, limits: Resources) -> Group:
        """The control group that enforces `limits`; an empty one without limits. Raises TaskFault if it can't be."""
        if limits == Resources():
            return Group(())
        lacking = "cpus, memory and pids" if self._groups is None else self._groups.lacking(limits)
        if self._groups is None or lacking:
            raise TaskFault(
                "agent.process.limits",
                f"the limits asked for can't be enforced on this host: no control groups for {lacking}",
                hint="run stackd as root on a host with cgroups, or remove deploy.resources.limits",
            )
        try:
            return self._groups.create(task_id, limits)
        except OSError as error:
            raise TaskFault("agent.process.limits", f"the limits can't be set: {error.strerror} ({error.filename})") from error

    def remove_group(self, task_id: TaskId) -> bool:
        """Remove a task's control group with whatever still runs in it; False while that is ending."""
        if self._groups is None or self._groups.remove(task_id):
            return True
        self._groups.kill(task_id)
        return self._groups.remove(task_id)


def endpoint_name(task_id: TaskId) -> str:
    """The host's end of a task's pair of interfaces; the kernel allows 15 characters."""
    return f"sd{task_id[:13]}"


def port_fault(port: Port, number: int) -> TaskFault:
    """The fault for a port of the host that can't be had; `number` is the kernel's errno."""
    name = f"port {port.published}/{port.protocol}"
    if number != errno.EADDRINUSE:
        where = f" on {port.host_ip}" if port.host_ip else ""
        return TaskFault("agent.process.port", f"{name} can't be used{where}: {os.strerror(number).lower()}")
    holder = listener(port.protocol, port.published)
    who = f" (by {holder})" if holder else ""
    return TaskFault("agent.process.port_in_use", f"{name} is already in use on this host{who}")


def check_port_free(port: Port) -> None:
    """Raise the fault if the port can't be had. The task itself binds it later, so this is a courtesy."""
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
        try:
            probe.bind((port.host_ip, port.published))
        except OSError as error:
            raise port_fault(port, error.errno or 0) from error
