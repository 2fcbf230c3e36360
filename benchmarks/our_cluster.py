"""stackd on the five hosts of `cluster_ground.py`, with the same operations as `peer_swarm_cluster.Swarm`."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from stackd.api.client import Client
from stackd.api.cluster import UpdateNodeRequest
from stackd.api.control import ApplyRequest, ListRequest, NameRequest
from stackd.base.errors import StackdError
from stackd.engine.parts import Availability, Role
from stackd.spec.files import DictFiles
from stackd.spec.load import load_stack
from stackd.spec.stack import StackSpec
from stackd.spec.surroundings import Surroundings

from benchmarks.cluster_ground import MANAGERS, TASKS, Engines, command_of, wait
from cluster import Cluster

SERVICE = "bench_web"
MANY = "many"
"""How the names of those services begin of which there are hundreds."""
SECONDS = 30.0
"""How long a call may take: the peer's callers wait as long."""


def stack_text(
    image: str, release: str, name: str = "bench", replicas: int = TASKS, settings: Mapping[str, object] = {}
) -> str:
    """The same service as the peer's, in the engine's own network."""
    command = "".join(f"\n      - {word!r}" for word in command_of(release)).replace("$", "$$")
    update = ", ".join(f"{key}: {value}" for key, value in settings.items())
    script = command.replace("\\'", "''")
    return f"""name: {name}
services:
  web:
    image: "{image}"
    command:{script}
    stop_grace_period: 2s
    deploy:
      replicas: {replicas}
      restart_policy: {{condition: any, delay: 0s}}
      update_config: {{{update}}}
      rollback_config: {{parallelism: 0, delay: 0s, monitor: 1ns}}
networks:
  default: {{name: bridge, external: true}}
"""


class OurCluster:
    """Daemons on the hosts, each on the engine there."""

    name = "stackd"

    def __init__(self, engines: Engines, cluster: Cluster) -> None:
        self._engines = engines
        self._cluster = cluster
        self._nodes = cluster.nodes
        self._round = 0

    def form(self) -> None:
        first, *others = self._nodes
        first.init()
        tokens = {role: self._cluster.token(role) for role in Role}
        for number, node in enumerate(others, 1):
            node.join(tokens[Role.MANAGER if number < MANAGERS else Role.WORKER], first.join_address)

    def ready(self, asked: int = 0) -> int:
        with contextlib.suppress(StackdError), self._client(asked) as client:
            return sum(node.state == "ready" for node in client.nodes().items)
        return 0

    def is_down(self, number: int, asked: int = 0) -> bool:
        with contextlib.suppress(StackdError), self._client(asked) as client:
            return any(node.hostname == f"node{number + 1}" and node.state == "down" for node in client.nodes().items)
        return False

    def leader(self) -> int:
        with self._client(0) as client:
            name = next(node.hostname for node in client.nodes().items if node.manager_status == "leader")
        return int(name.removeprefix("node")) - 1

    def deploy(
        self,
        release: str,
        *,
        parallelism: int = 1,
        order: str = "stop-first",
        asked: int = 0,
        monitor: float = 1e-9,
        failure_action: str = "pause",
    ) -> None:
        settings = {
            "parallelism": parallelism,
            "delay": "0s",
            "order": order,
            "monitor": f"{int(monitor * 1e9)}ns",
            "failure_action": failure_action,
        }
        spec = _loaded(stack_text(self._engines.image, release, settings=settings))
        with self._client(asked) as client:
            client.apply(ApplyRequest(stacks=(spec,), files=("bench.yaml",)))

    def rollout(self, asked: int = 0) -> str:
        with self._client(asked) as client:
            for service in client.services(ListRequest()).items:
                if service.name == SERVICE and service.rollout is not None:
                    return service.rollout.state
        return ""

    def remove(self) -> None:
        with self._client(0) as client:
            client.remove_stack(NameRequest(name="bench"))

    def set_availability(self, number: int, availability: str) -> None:
        with self._client(0) as client:
            client.update_node(UpdateNodeRequest(name=f"node{number + 1}", availability=Availability(availability)))

    def write(self, asked: int) -> bool:
        self._round += 1
        try:
            with self._client(asked) as client:
                client.update_node(UpdateNodeRequest(name=f"node{asked + 1}", labels={"write": str(self._round)}))
        except StackdError:
            return False
        return True

    def kill_manager(self, number: int) -> None:
        self._nodes[number].kill()

    def restart_manager(self, number: int) -> None:
        self._nodes[number].start_soon()

    def pids(self, number: int) -> list[int]:
        return [self._nodes[number].pid]

    def create_many(self, number: int, asked: int) -> float:
        specs = [_loaded(stack_text(self._engines.image, "1", f"{MANY}{place}", replicas=0)) for place in range(number)]
        with self._client(asked) as client:
            began = time.monotonic()
            for spec in specs:
                wait(lambda spec=spec: _applied(client, spec))  # type: ignore[misc]
            return time.monotonic() - began

    def list_services(self, asked: int) -> int:
        with self._client(asked) as client:
            return len(client.services(ListRequest()).items)

    def remove_many(self, asked: int) -> None:
        """All that `create_many` has made."""
        with self._client(asked) as client:
            wait(lambda: _all_removed(client))

    def _client(self, number: int) -> Client:
        return Client(self._nodes[number].host, timeout_seconds=SECONDS)


@contextlib.contextmanager
def our_cluster(engines: Engines) -> Iterator[OurCluster]:
    with tempfile.TemporaryDirectory(prefix="stackd-bench-") as place:
        cluster = Cluster(Path(place), engines.network, engines.engines)
        try:
            cluster.start()
            yield OurCluster(engines, cluster)
        finally:
            cluster.close()


def _applied(client: Client, spec: StackSpec) -> bool:
    """Whether it went through; on a busy machine the leader may change in the middle."""
    try:
        client.apply(ApplyRequest(stacks=(spec,), files=("bench.yaml",)))
    except StackdError:
        return False
    return True


def _all_removed(client: Client) -> bool:
    """Have what is left of the many removed; whether nothing is. Here too the leader may change in the middle."""
    try:
        for stack in client.stacks().items:
            if stack.name.startswith(MANY):
                client.remove_stack(NameRequest(name=stack.name))
        return not any(service.stack.startswith(MANY) for service in client.services(ListRequest()).items)
    except StackdError:
        return False


def _loaded(text: str) -> StackSpec:
    return load_stack(text.encode(), Surroundings("bench.yaml", None, DictFiles({}), {})).spec
