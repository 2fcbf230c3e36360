"""Docker Swarm on the five hosts of `cluster_ground.py`: the peer's side of the cluster figures. Each operation begins
something and returns at once, unless it says otherwise; the benchmark looks at what runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from docker.errors import APIError
from docker.types import ContainerSpec, RestartPolicy, ServiceMode, TaskTemplate, UpdateConfig
from requests import RequestException

from benchmarks.cluster_ground import MANAGERS, TASKS, Engines, command_of, wait

NAME = "bench"
MANY = "many"
"""How the names of those services begin of which there are hundreds."""


class Swarm:
    """A swarm; node numbers are those of the hosts, the first ones are managers."""

    name = "swarm"

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._service = ""
        self._round = 0
        self._image = engines.image

    def form(self) -> None:
        """Found it, and let the others join."""
        first, *others = self._engines.clients
        address = self._engines.hosts[0].address
        first.init_swarm(advertise_addr=address, listen_addr=address)
        tokens = first.inspect_swarm()["JoinTokens"]
        for number, client in enumerate(others, 1):
            token = tokens["Manager" if number < MANAGERS else "Worker"]
            own = self._engines.hosts[number].address
            client.join_swarm([f"{address}:2377"], token, listen_addr=own, advertise_addr=own)

    def ready(self, asked: int = 0) -> int:
        return sum(node["Status"]["State"] == "ready" for node in self._nodes(asked))

    def is_down(self, number: int, asked: int = 0) -> bool:
        address = self._engines.hosts[number].address
        return any(
            node["Status"]["State"] == "down" and address in (node["Status"]["Addr"], _manager_host(node))
            for node in self._nodes(asked)
        )

    def leader(self) -> int:
        for node in self._nodes(0):
            if node.get("ManagerStatus", {}).get("Leader"):
                host = _manager_host(node)
                return next(number for number, one in enumerate(self._engines.hosts) if one.address == host)
        raise LookupError("nobody leads")

    def deploy(self, release: str, *, parallelism: int = 1, order: str = "stop-first", asked: int = 0, **update: Any) -> None:
        """Create the service, or update it. `update`: monitor (seconds), failure_action."""
        client = self._engines.clients[asked]
        spec = self._spec(release, parallelism, order, **update)
        if not self._service:
            self._service = client.create_service(name=NAME, **spec)["ID"]
        else:
            version = client.inspect_service(self._service)["Version"]["Index"]
            client.update_service(self._service, version, name=NAME, **spec)

    def rollout(self, asked: int = 0) -> str:
        """updating, completed, paused, rollback_completed, ..."""
        return str(self._engines.clients[asked].inspect_service(self._service).get("UpdateStatus", {}).get("State", ""))

    def remove(self) -> None:
        self._engines.clients[0].remove_service(self._service)
        self._service = ""

    def set_availability(self, number: int, availability: str) -> None:
        client = self._engines.clients[0]
        node = self._node(number)
        spec = {**node["Spec"], "Availability": availability}
        client.update_node(node["ID"], node["Version"]["Index"], spec)

    def write(self, asked: int) -> bool:
        """Change something at another manager; whether that was accepted."""
        client = self._engines.clients[asked]
        self._round += 1
        try:
            client.create_config(f"write{self._round}", b"x")
        except (APIError, RequestException):
            return False
        return True

    def kill_manager(self, number: int) -> None:
        self._engines.engines[number].kill()

    def restart_manager(self, number: int) -> None:
        self._engines.engines[number].start()

    def pids(self, number: int) -> list[int]:
        return [self._engines.engines[number].pid]

    def create_many(self, number: int, asked: int) -> float:
        """Seconds for so many services of no replicas, one after the other."""
        client = self._engines.clients[asked]
        began = time.monotonic()
        for place in range(number):
            client.create_service(
                name=f"{MANY}{place}", **{**self._spec("1", 1, "stop-first"), "mode": ServiceMode("replicated", 0)}
            )
        return time.monotonic() - began

    def list_services(self, asked: int) -> int:
        return len(self._engines.clients[asked].services(filters=None, status=True))

    def remove_many(self, asked: int) -> None:
        """All that `create_many` has made."""
        client = self._engines.clients[asked]
        for service in client.services():
            if service["Spec"]["Name"].startswith(MANY):
                client.remove_service(service["ID"])

    def close(self) -> None:
        for client in reversed(self._engines.clients):
            with contextlib.suppress(APIError, RequestException):
                client.leave_swarm(force=True)
        wait(lambda: self._engines.running().total == 0)
        self._engines.remove_containers()

    def _nodes(self, asked: int) -> list[Any]:
        try:
            nodes: list[Any] = self._engines.clients[asked].nodes()
        except (APIError, RequestException):
            return []
        return nodes

    def _node(self, number: int) -> Any:
        address = self._engines.hosts[number].address
        return next(node for node in self._nodes(0) if address in (node["Status"]["Addr"], _manager_host(node)))

    def _spec(
        self, release: str, parallelism: int, order: str, *, monitor: float = 1e-9, failure_action: str = "pause"
    ) -> dict[str, Any]:
        container = ContainerSpec(self._image, command=command_of(release), stop_grace_period=2_000_000_000)
        update = UpdateConfig(
            parallelism=parallelism, delay=0, monitor=int(monitor * 1e9), order=order, failure_action=failure_action
        )
        return {
            "task_template": TaskTemplate(container, restart_policy=RestartPolicy(condition="any", delay=0)),
            "mode": ServiceMode("replicated", TASKS),
            "update_config": update,
            "rollback_config": UpdateConfig(parallelism=0, delay=0, monitor=1, order="stop-first"),
        }


@contextlib.contextmanager
def swarm_cluster(engines: Engines) -> Iterator[Swarm]:
    swarm = Swarm(engines)
    try:
        yield swarm
    finally:
        swarm.close()


def _manager_host(node: Any) -> str:
    return str(node.get("ManagerStatus", {}).get("Addr", "")).rpartition(":")[0]
