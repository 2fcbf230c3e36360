"""A real cluster for tests: network namespaces as hosts, on each of them a `stackd daemon` of its own.

Nodes are `RunningNode`s, so everything is looked at from outside: with the command, the local API, the engines. Hosts have
names (`node1`, ...), since all namespaces are on one machine. Taking a cluster down is killing it: daemons and tasks are ended
at once, and what they have on the machine is removed, whatever state a test has left them in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stackd.api.cluster import JoinTokenRequest
from stackd.api.control import ListRequest
from stackd.api.local import InitRequest, JoinClusterRequest
from stackd.api.views import NodeView, TaskView
from stackd.base.errors import StackdError
from stackd.engine.parts import Role

from dockerd import NAMED, PrivateDockerd
from hosts import Host, Network, network_of_hosts
from node import LOOK_AGAIN_SECONDS, STACKD, WAIT_SECONDS, RunningNode, alive

PORT = 2377
JOIN_PORT = PORT + 2


class ClusterNode(RunningNode):
    """One node: a `stackd daemon` on its host."""

    def __init__(self, home: Path, host: Host, name: str, engine: PrivateDockerd | None = None) -> None:
        super().__init__(home, "process" if engine is None else "docker", engine)
        self.host_of = host
        self.name = name
        self.options: tuple[str, ...] = ()
        self.environment: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"{self.host_of.address}:{PORT}"

    @property
    def join_address(self) -> str:
        return f"{self.host_of.address}:{JOIN_PORT}"

    @property
    def log(self) -> Path:
        """What the daemon has logged in all its lives."""
        return self.home / "daemon.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the daemon has ended, None if it runs; a signal's number is negative."""
        return self._process.poll() if self._process is not None else None

    def launch(self) -> subprocess.Popen[bytes]:
        """Start `stackd daemon` without waiting for anything."""
        daemon = ["daemon", "--data-dir", str(self.data), "--executor", self.executor, "--log-level", "info", *self.options]
        if self.engine is not None:
            daemon += ["--docker-host", self.engine.url]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.host_of.enter, *NAMED, self.name, *STACKD, *daemon],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "STACKD_DATA_DIR": str(self.data), **self.environment},
            )

    def start_soon(self) -> None:
        """Start the daemon; `wait_started` returns when it answers."""
        self._process = self.launch()

    def wait_started(self) -> None:
        self.eventually(self._answers, f"{self.name} answers")

    def signal(self, number: signal.Signals) -> None:
        """Pause and resume, for example."""
        os.kill(self.pid, number)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    @property
    def state(self) -> str:
        """idle, worker, manager, ..., as the node itself says; "" if it doesn't answer."""
        with contextlib.suppress(StackdError), self.client() as client:
            return client.local_node().state
        return ""

    @property
    def id(self) -> str:
        with self.client() as client:
            return client.local_node().node_id

    def init(self) -> None:
        with self.client() as client:
            client.init_cluster(InitRequest(listen=self.address, advertise=self.address))

    def join(self, token: str, manager: str, availability: str = "active") -> None:
        request = JoinClusterRequest(
            token=token, manager=manager, listen=self.address, advertise=self.address, availability=availability
        )
        with self.client() as client:
            client.join_cluster(request)

    def nodes(self) -> dict[str, NodeView]:
        """The nodes of the cluster by hostname, as this manager sees them."""
        with self.client() as client:
            return {node.hostname: node for node in client.nodes().items}

    def running_tasks(self, service: str = "") -> list[TaskView]:
        with self.client() as client:
            tasks = client.tasks(ListRequest(service=service, history=False)).items
        return [task for task in tasks if task.state == "running"]

    def clear(self) -> None:
        """End the daemon and every task, and remove what they have on the machine. A daemon that lives would start new ones."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self.eventually(self._is_killed, "no process is left", 20)
        if self.engine is not None and (containers := self.containers()):
            self.engine.docker("rm", "--force", "--volumes", *containers)
        self._unmount()
        self._remove_groups()

    def _is_killed(self) -> bool:
        """Whether no process is left; those that are get killed."""
        left = self._all_processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def _all_processes(self) -> list[int]:
        """Daemon and monitors, by their command line, and what is in the tasks' control groups."""
        found = set(self._processes())
        for group in self._groups():
            for path in [group / "cgroup.procs", *group.rglob("cgroup.procs")]:
                with contextlib.suppress(OSError):
                    found.update(map(int, path.read_text().split()))
        return [pid for pid in found if alive(pid)]

    def _groups(self) -> list[Path]:
        digest = hashlib.sha256(os.fsencode(self.data / "process")).hexdigest()[:12]
        return [path for place in ("*/", "") for path in Path("/sys/fs/cgroup").glob(f"{place}stackd-{digest}")]

    def _remove_groups(self) -> None:
        for group in self._groups():
            for path in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()
            with contextlib.suppress(OSError):
                group.rmdir()

    def _unmount(self) -> None:
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed([point for point in points if point.startswith(f"{self.data}/")]):
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


class Cluster:
    """Nodes on the hosts of one switch. `form` makes one cluster of them."""

    def __init__(self, home: Path, network: Network, engines: Sequence[PrivateDockerd | None]) -> None:
        self.network = network
        self.nodes: list[ClusterNode] = []
        for host, engine in zip(network.hosts, engines, strict=True):
            name = f"node{host.number + 1}"
            (home / name).mkdir(exist_ok=True)
            self.nodes.append(ClusterNode(home / name, host, name, engine))

    def __getitem__(self, number: int) -> ClusterNode:
        return self.nodes[number]

    def named(self, hostname: str) -> ClusterNode:
        return next(node for node in self.nodes if node.name == hostname)

    def start(self) -> None:
        """Start all daemons, all at once."""
        for node in self.nodes:
            node.start_soon()
        for node in self.nodes:
            node.wait_started()

    def form(self, managers: int) -> None:
        """The first node founds a cluster, the others join it: `managers` of all as such. Returns when all are ready."""
        first = self.nodes[0]
        first.init()
        for place, node in enumerate(self.nodes[1:], 1):
            node.join(self.token(Role.MANAGER if place < managers else Role.WORKER), first.join_address)
        self.until_ready(managers)

    def token(self, role: Role, node: ClusterNode | None = None) -> str:
        with (node or self.nodes[0]).client() as client:
            return client.join_token(JoinTokenRequest(role=role)).token

    def until_ready(self, managers: int) -> None:
        def ready() -> bool:
            nodes = self.managers()[0].nodes().values()
            statuses = [node.manager_status for node in nodes if node.manager_status]
            return (
                len(nodes) == len(self.nodes)
                and all(node.state == "ready" for node in nodes)
                and len(statuses) == managers
                and set(statuses) <= {"leader", "reachable"}
            )

        self.eventually(ready, "all nodes are ready")

    def managers(self) -> list[ClusterNode]:
        """The nodes that answer as managers now."""
        return [node for node in self.nodes if node.is_running and node.state == "manager"]

    def leader(self, among: Sequence[ClusterNode] | None = None) -> ClusterNode:
        """The manager that leads, once there is one."""

        def leading() -> ClusterNode | None:
            for node in among or self.managers():
                with contextlib.suppress(StackdError):
                    for name, view in node.nodes().items():
                        if view.manager_status == "leader":
                            return self.named(name)
            return None

        found: ClusterNode = self.eventually(leading, "somebody leads")
        return found

    def eventually(self, look: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
        """Look until the result is true; who can't be asked meanwhile is asked again."""
        deadline, trouble = time.monotonic() + seconds, ""
        while True:
            try:
                if found := look():
                    return found
            except (StackdError, IndexError, KeyError) as error:
                trouble = f" ({error!r})"
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}{trouble}\n{self.report()}")
            time.sleep(LOOK_AGAIN_SECONDS)

    def report(self) -> str:
        return "\n".join(f"===== {node.name} ({node.state or 'silent'})\n{node.report()}" for node in self.nodes)

    def close(self) -> None:
        """Take all nodes down, also when one of them resists."""
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.clear)


@contextlib.contextmanager
def cluster_of(
    number: int, *, engines: Sequence[PrivateDockerd | None] = (), home: Path | None = None, started: bool = True
) -> Iterator[Cluster]:
    """`number` hosts with a daemon on each; all of it is gone at the end. `engines` are for the first nodes; the others run
    tasks as processes."""
    place = home or Path(tempfile.mkdtemp(prefix="stackd-cluster-"))
    try:
        with network_of_hosts(number) as network:
            cluster = Cluster(place, network, [*engines, *[None] * (number - len(engines))])
            try:
                if started:
                    cluster.start()
                yield cluster
            finally:
                cluster.close()
    finally:
        if home is None:
            shutil.rmtree(place, ignore_errors=True)
