"""The peer's side of the single-node figures: the bare engine (the floor) and real Docker Swarm, on a private dockerd.

Every figure is in seconds, for `TASKS` containers of one static image named by its id, without ports, on the engine's
bridge; Swarm gets no pause to wait out (restart delay 0, update delay 0, monitor 1 ns). What is measured ends when all
tasks are seen to run, or all containers to be gone, looking every POLL_SECONDS.

`python -m benchmarks.peer_swarm` prints a JSON line per figure; `measure_floor` and `measure_swarm` return them as a dict.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from docker import APIClient
from docker.types import ContainerSpec, RestartPolicy, ServiceMode, TaskTemplate, UpdateConfig
from tests.dockerd import PrivateDockerd, private_dockerd
from tests.images import busybox_archive

from benchmarks.figures import figure

TASKS = 20
COMMAND = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait")
"""Runs until it is asked to end, then ends at once: nobody's grace period is measured."""
GRACE_SECONDS = 2
KILLS = 5
POLL_SECONDS = 0.05
LIMIT_SECONDS = 180.0
CALL_SECONDS = 120

Figures = dict[str, float]


def measure_floor(url: str, image: str, parallel: Iterable[int] = (1, 4, 8)) -> Figures:
    """Create and start, then remove, TASKS containers through the bare API, so many at once."""
    client = APIClient(base_url=url, timeout=CALL_SECONDS)
    figures: Figures = {}
    for connections in parallel:
        with ThreadPoolExecutor(connections) as pool:
            began = time.monotonic()
            containers = list(pool.map(lambda _: _run_container(client, image), range(TASKS)))
            figures[f"floor_create_{TASKS}_par{connections}"] = time.monotonic() - began
            began = time.monotonic()
            list(pool.map(lambda container: client.remove_container(container, force=True), containers))
            figures[f"floor_remove_{TASKS}_par{connections}"] = time.monotonic() - began
    return figures


def measure_swarm(url: str, image: str) -> Figures:
    """Create a service of TASKS, update it in three ways, kill single tasks, remove it. The engine becomes a swarm."""
    client = APIClient(base_url=url, timeout=CALL_SECONDS)
    client.init_swarm(advertise_addr="127.0.0.1", listen_addr="127.0.0.1")
    service = SwarmService(client, image)
    figures: Figures = {}
    figures[f"swarm_create_{TASKS}"] = service.create()
    figures[f"swarm_roll_{TASKS}_par1_stop_first"] = service.roll(parallelism=1, order="stop-first")
    figures[f"swarm_roll_{TASKS}_par4_stop_first"] = service.roll(parallelism=4, order="stop-first")
    figures[f"swarm_roll_{TASKS}_par1_start_first"] = service.roll(parallelism=1, order="start-first")
    figures["swarm_kill_to_running"] = statistics.median(service.kill_one() for _ in range(KILLS))
    figures[f"swarm_remove_{TASKS}"] = service.remove()
    client.leave_swarm(force=True)
    return figures


class SwarmService:
    """One replicated service of a swarm; each operation returns the seconds until it was done."""

    def __init__(self, client: APIClient, image: str) -> None:
        self._client = client
        self._image = image
        self._id = ""
        self._round = 0

    def create(self) -> float:
        began = time.monotonic()
        self._id = self._client.create_service(name="bench", **self._spec(1, "stop-first"))["ID"]
        return _until(self._all_run, began)

    def roll(self, *, parallelism: int, order: str) -> float:
        """Replace every task."""
        self._round += 1
        version = self._client.inspect_service(self._id)["Version"]["Index"]
        began = time.monotonic()
        self._client.update_service(self._id, version, name="bench", **self._spec(parallelism, order))
        took = _until(self._all_run, began)
        _until(lambda: len(self._containers()) == TASKS, began)
        return took

    def kill_one(self) -> float:
        """Kill a container; done when another one runs in its place."""
        victim = self._containers()[0]
        began = time.monotonic()
        self._client.kill(victim)
        took = _until(lambda: victim not in (now := self._containers()) and len(now) == TASKS and self._all_run(), began)
        time.sleep(0.5)  # the cluster comes to rest, or the next kill would meet its leftovers
        return took

    def remove(self) -> float:
        began = time.monotonic()
        self._client.remove_service(self._id)
        return _until(lambda: not self._containers(), began)

    def _spec(self, parallelism: int, order: str) -> dict[str, Any]:
        container = ContainerSpec(self._image, command=list(COMMAND), stop_grace_period=GRACE_SECONDS * 1_000_000_000)
        return {
            "task_template": TaskTemplate(
                container, restart_policy=RestartPolicy(condition="any", delay=0), force_update=self._round
            ),
            "mode": ServiceMode("replicated", TASKS),
            "update_config": UpdateConfig(parallelism=parallelism, delay=0, monitor=1, order=order),
        }

    def _all_run(self) -> bool:
        tasks = self._client.tasks(filters={"service": self._id, "desired-state": "running"})
        ours = [task for task in tasks if task["Spec"].get("ForceUpdate", 0) == self._round]
        return [task["Status"]["State"] for task in ours].count("running") == TASKS

    def _containers(self) -> list[str]:
        running = self._client.containers(filters={"label": f"com.docker.swarm.service.id={self._id}"})
        return [container["Id"] for container in running]


def prepare_image(dockerd: PrivateDockerd) -> str:
    """Import the image that all sides run; its id."""
    return dockerd.import_image("bench:1", busybox_archive())


def _run_container(client: APIClient, image: str) -> str:
    body = {"Image": image, "Cmd": list(COMMAND), "HostConfig": {"NetworkMode": "bridge"}}
    container: str = client.create_container_from_config(body)["Id"]
    client.start(container)
    return container


def _until(done: Callable[[], bool], began: float) -> float:
    while not done():
        if time.monotonic() - began > LIMIT_SECONDS:
            raise TimeoutError(f"not done after {LIMIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def main(arguments: list[str] | None = None) -> int:
    """Measure the floor and Swarm on an engine of their own and print the figures."""
    with private_dockerd(isolated=True) as dockerd:
        image = prepare_image(dockerd)
        for measure in (measure_floor, measure_swarm):
            for name, seconds in measure(dockerd.url, image).items():
                figure(name, seconds, "s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
