"""One node against the engine's floor and against Docker Swarm on an engine of its own, in the same run.

Twenty tasks of one image (by id), restart delay 0, monitor 1 ns, no ports, bridge network, on both sides. The floor is
the same create and start calls by a bare client, four at a time. Needs root, dockerd and a static busybox.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker
from stackd.api.client import Client
from stackd.api.control import ApplyRequest, ListRequest, NameRequest, UpdateRequest
from stackd.api.views import ServiceView
from stackd.spec.files import DictFiles
from stackd.spec.load import load_stack
from stackd.spec.surroundings import Surroundings
from tests.dockerd import PrivateDockerd, private_dockerd, wait_until

from benchmarks.figures import figure, ratio
from benchmarks.peer_swarm import COMMAND, POLL_SECONDS, TASKS, measure_floor, measure_swarm, prepare_image

WAIT_SECONDS = 180.0
IDLE_SECONDS = 20.0
KILLS = 5
STARTS = 9
STACKD = (sys.executable, "-m", "stackd.cli")
SERVICE = "bench_web"


def stack_text(image: str, name: str = "bench", replicas: int = TASKS) -> str:
    """The stack under test: the same settings as the peer's service, which is in the engine's own network and in no other.
    (A network of the stack's own costs about 100 ms per start, whoever asks the engine for it.)"""
    command = ", ".join(f'"{word}"' for word in COMMAND)
    return f"""name: {name}
services:
  web:
    image: "{image}"
    command: [{command}]
    stop_grace_period: 2s
    deploy:
      replicas: {replicas}
      restart_policy: {{condition: any, delay: 0s}}
      update_config: {{parallelism: 1, delay: 0s, monitor: 1ns, order: stop-first}}
networks:
  default: {{name: bridge, external: true}}
"""


class OurNode:
    """A running `stackd up` on one engine, and a client of it."""

    def __init__(self, engine: PrivateDockerd, image: str, place: Path) -> None:
        self.docker = docker.APIClient(base_url=engine.url, timeout=120)
        self.image = image
        self.source = place / "stacks"
        self.data_dir = place / "data"
        self.source.mkdir()
        arguments = ("up", str(self.source), "--data-dir", str(self.data_dir), "--docker-host", engine.url)
        self.process = subprocess.Popen([*STACKD, *arguments], stderr=subprocess.DEVNULL, start_new_session=True)
        wait_until((self.data_dir / "stackd.sock").exists, 30, "stackd did not start")
        self.client = Client(f"unix://{self.data_dir}/stackd.sock", timeout_seconds=WAIT_SECONDS)

    def close(self) -> None:
        """End the daemon with all its tasks."""
        self.client.close()
        subprocess.run([*STACKD, "down", "--data-dir", str(self.data_dir)], timeout=120, check=False, capture_output=True)
        self.process.terminate()
        self.process.wait(30)

    def apply(self, text: str) -> None:
        loaded = load_stack(text.encode(), Surroundings("bench.yaml", None, DictFiles({}), {}))
        self.client.apply(ApplyRequest(stacks=(loaded.spec,), files=("bench.yaml",)))

    def until(self, condition: Callable[[ServiceView], bool]) -> None:
        """Follow what the daemon pushes until the service fulfils `condition`."""
        for services in self.client.watch(ListRequest()):
            if any(service.name == SERVICE and condition(service) for service in services.items):
                return
        raise RuntimeError("the daemon ended the connection")

    def containers(self) -> list[str]:
        return [one["Id"] for one in self.docker.containers(all=True, filters={"label": f"stackd.service={SERVICE}"})]


@contextmanager
def our_node() -> Iterator[OurNode]:
    """A node on a private engine; both are gone afterwards."""
    with private_dockerd() as engine, tempfile.TemporaryDirectory(prefix="stackd-bench-") as place:
        node = OurNode(engine, prepare_image(engine), Path(place))
        try:
            yield node
        finally:
            node.close()


def look_until(condition: Callable[[], bool], failure: str) -> None:
    """Ask the engine as often as it is asked on the peer's side: every look costs the engine time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(POLL_SECONDS)


def seconds(action: Callable[[], None]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def create(node: OurNode) -> float:
    def action() -> None:
        node.apply(stack_text(node.image))
        node.until(lambda service: service.running == TASKS)

    return seconds(action)


def roll(node: OurNode, parallelism: int, order: str) -> float:
    def action() -> None:
        request = UpdateRequest(name=SERVICE, force=True, parallelism=parallelism, order=order)
        version = node.client.update(request).spec_version
        node.until(lambda service: service.spec_version >= version and service.updated == service.running == TASKS)

    return seconds(action)


def kill_to_running(node: OurNode) -> float:
    def once() -> None:
        victim = node.docker.containers(filters={"label": f"stackd.service={SERVICE}"})[0]["Id"]
        node.docker.kill(victim)

        def replaced() -> bool:
            running = node.docker.containers(filters={"label": f"stackd.service={SERVICE}"})
            return len(running) == TASKS and all(one["Id"] != victim for one in running)

        look_until(replaced, "the killed task was not replaced")
        node.until(lambda service: service.running == TASKS)

    def settle_then_kill() -> float:
        node.until(lambda service: service.converged)
        return seconds(once)

    return statistics.median(settle_then_kill() for _ in range(KILLS))


def remove(node: OurNode) -> float:
    def action() -> None:
        node.client.remove_stack(NameRequest(name="bench"))
        look_until(lambda: not node.containers(), "containers are left")

    return seconds(action)


def save_to_create(node: OurNode) -> float:
    """From the moment the stack file is saved to the engine's word that the first container is created."""

    def once(number: int) -> float:
        created: list[float] = []
        events = node.docker.events(decode=True, filters={"event": "create", "type": "container"})

        def listen() -> None:
            next(iter(events))
            created.append(time.monotonic())

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        file = node.source / f"saved{number}.yaml"
        start = time.monotonic()
        file.write_text(stack_text(node.image, name=f"saved{number}", replicas=1))
        listener.join(WAIT_SECONDS)
        events.close()
        return created[0] - start

    return statistics.median(once(number) for number in range(KILLS))


def process_times(pids: Sequence[int]) -> float:
    """CPU seconds that the processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def pss_megabytes(pids: Sequence[int]) -> float:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def idle(node: OurNode) -> None:
    """CPU and memory of the daemon with twenty tasks running and nothing happening."""
    node.until(lambda service: service.converged)
    pids = family(node.process.pid)
    before = process_times(pids)
    time.sleep(IDLE_SECONDS)
    figure("idle_cpu_percent", 100 * (process_times(pids) - before) / IDLE_SECONDS, "%", tasks=TASKS)
    figure("idle_pss_mb", pss_megabytes(pids), "MiB", tasks=TASKS)


def commands(node: OurNode) -> None:
    """Wall time of whole commands, the median of several."""
    host = f"unix://{node.data_dir}/stackd.sock"

    def wall(*arguments: str) -> float:
        def action() -> None:
            subprocess.run([Path(sys.executable).parent / "stackd", *arguments], check=True, capture_output=True, timeout=30)

        return statistics.median(seconds(action) for _ in range(STARTS))

    figure("version_s", wall("version"), "s")
    figure("service_ls_s", wall("service", "ls", "--host", host), "s")


def measure_peer() -> dict[str, float]:
    """The floor and Swarm, on an engine in a namespace of its own."""
    with private_dockerd(isolated=True) as engine:
        image = prepare_image(engine)
        return {**measure_floor(engine.url, image, parallel=(4,)), **measure_swarm(engine.url, image)}


def main(arguments: Sequence[str] = ()) -> int:
    """Measure the peer, then us, and print a figure per line."""
    parser = argparse.ArgumentParser(prog="single-node", description=__doc__)
    parser.add_argument("--ours-only", action="store_true", help="skip the peer: print our seconds without ratios")
    options = parser.parse_args(arguments)
    peer = {} if options.ours_only else measure_peer()

    def compare(name: str, base: str, ours: float) -> None:
        if peer:
            ratio(name, ours, peer[base], base_is=base)
        else:
            figure(name.partition("_over_")[0], ours, "s")

    with our_node() as node:
        compare("create_20_over_floor", "floor_create_20_par4", create(node))
        idle(node)
        commands(node)
        compare("roll_20_par1_stop_first_over_swarm", "swarm_roll_20_par1_stop_first", roll(node, 1, "stop-first"))
        compare("roll_20_par4_stop_first_over_swarm", "swarm_roll_20_par4_stop_first", roll(node, 4, "stop-first"))
        compare("roll_20_par1_start_first_over_swarm", "swarm_roll_20_par1_start_first", roll(node, 1, "start-first"))
        compare("kill_to_running_over_swarm", "swarm_kill_to_running", kill_to_running(node))
        compare("remove_20_over_swarm", "swarm_remove_20", remove(node))
        figure("save_to_create", save_to_create(node), "s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
