"""Five hosts with an engine each, for Swarm and for us, and how both are looked at: what runs is counted in the machine's
process table, where a look costs neither side anything."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import APIClient

from dockerd import PrivateDockerd, private_dockerd
from hosts import Host, Network, network_of_hosts
from images import busybox_archive

HOSTS = 5
MANAGERS = 3
TASKS = 40
POLL_SECONDS = 0.05
LIMIT_SECONDS = 240.0
CALL_SECONDS = 120
_SCRIPT = "trap 'exit 0' TERM; sleep 1000000 & wait; : release"


def command_of(release: str) -> list[str]:
    """Runs until it is asked to end, then ends at once; a release called `bad` ends with 1 a moment after it has started."""
    return ["/bin/sh", "-c", "sleep 0.2; exit 1" if release == "bad" else f"{_SCRIPT} {release}"]


@dataclass(frozen=True)
class Running:
    """What runs at a moment: tasks by release, and by host."""

    by_release: Counter[str]
    by_host: Counter[int]

    @property
    def total(self) -> int:
        return self.by_release.total()


class Engines:
    """The hosts and their engines."""

    def __init__(self, network: Network, engines: Sequence[PrivateDockerd], image: str) -> None:
        self.network = network
        self.engines = engines
        self.image = image
        self.clients = [APIClient(base_url=engine.url, timeout=CALL_SECONDS) for engine in engines]

    @property
    def hosts(self) -> Sequence[Host]:
        return self.network.hosts

    def running(self) -> Running:
        """The tasks whose process is there, by the control group of their engine."""
        by_release: Counter[str] = Counter()
        by_host: Counter[int] = Counter()
        groups = {f"/{engine.group}/": number for number, engine in enumerate(self.engines)}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if len(words) < 3 or not words[2].startswith(_SCRIPT):
                    continue
                group = (place / "cgroup").read_text()
            except OSError:
                continue
            host = next((number for name, number in groups.items() if name in group), -1)
            by_release[words[2].removeprefix(_SCRIPT).strip()] += 1
            by_host[host] += 1
        return Running(by_release, by_host)

    def containers(self) -> int:
        """How many containers there are on all engines, also those that have ended."""

        def count(client: Any) -> int:
            return len(client.containers(all=True))

        with ThreadPoolExecutor(HOSTS) as pool:
            return sum(pool.map(count, self.clients))

    def remove_containers(self) -> None:
        for engine in self.engines:
            if left := engine.docker("ps", "--all", "--quiet").split():
                engine.docker("rm", "--force", "--volumes", *left)


@contextlib.contextmanager
def engines_on_hosts() -> Iterator[Engines]:
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(network_of_hosts(HOSTS))
        engines = [
            stack.enter_context(private_dockerd(namespace=host.namespace, hostname=f"node{host.number + 1}"))
            for host in network.hosts
        ]
        images = [engine.import_image("bench:1", busybox_archive()) for engine in engines]
        for engine, image in zip(engines[1:], images[1:], strict=True):
            engine.docker("tag", image, "bench:1")
        yield Engines(network, engines, "bench:1")


@dataclass
class Watched:
    """How long something took, and the fewest and the most tasks that ran meanwhile."""

    seconds: float
    lowest: int
    highest: int


def watch(engines: Engines, done: Callable[[Running], bool], began: float | None = None) -> Watched:
    """Look until `done`. Raises TimeoutError."""
    began = time.monotonic() if began is None else began
    lowest, highest = TASKS, 0
    while True:
        running = engines.running()
        if running.total < lowest:  # a look takes a while, and may miss what starts in the middle of it
            lowest = min(lowest, max(running.total, engines.running().total))
        highest = max(highest, running.total)
        if done(running):
            return Watched(time.monotonic() - began, lowest, highest)
        if time.monotonic() - began > LIMIT_SECONDS:
            raise TimeoutError(f"not done after {LIMIT_SECONDS:.0f} s: {running}")
        time.sleep(POLL_SECONDS)


def wait(is_so: Callable[[], Any], began: float | None = None, pause: float = POLL_SECONDS) -> float:
    """Ask until it is so; the seconds since `began`. Raises TimeoutError."""
    began = time.monotonic() if began is None else began
    while not is_so():
        if time.monotonic() - began > LIMIT_SECONDS:
            raise TimeoutError(f"not done after {LIMIT_SECONDS:.0f} s")
        time.sleep(pause)
    return time.monotonic() - began
