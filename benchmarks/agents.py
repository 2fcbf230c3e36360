"""A thousand agents on one leader: `make bench NAME=agents`. Needs root, for network namespaces as hosts.

Three managers run as daemons. The agents are real ones with simulated hosts, in a few processes on a fourth host: each has a
key, a certificate that it got by joining, and a session over gRPC and TLS. What is measured: how long they take to join, what
the leader and a follower use while nothing happens, and how long it takes after a kill -9 of the leader until the next one
has welcomed all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stackd.engine.parts import Role

from benchmarks.figures import figure
from cluster import Cluster, ClusterNode, cluster_of
from hosts import Host

PROCESSES = 4
IDLE_SECONDS = 20.0
LIMIT_SECONDS = 300.0
ROOT = Path(__file__).parents[1]


class Crowd:
    """One process of agents; it says how many have been welcomed."""

    def __init__(self, host: Host, token: str, address: str, name: str, number: int) -> None:
        command = [*host.enter, sys.executable, "-m", "benchmarks.agent_crowd", token, address, name, str(number)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        self.welcomed = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.welcomed = json.loads(line)["welcomed"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()


@contextlib.contextmanager
def crowds(cluster: Cluster, number: int) -> Iterator[list[Crowd]]:
    """`number` agents that join and live, on a host of their own."""
    host = cluster.network.add_host(len(cluster.nodes))
    token, address = cluster.token(Role.WORKER), cluster[0].join_address
    started = [Crowd(host, token, address, f"crowd{place}-", number // PROCESSES) for place in range(PROCESSES)]
    try:
        yield started
    finally:
        for crowd in started:
            crowd.close()


def seconds_until(is_so: Callable[[], bool], what: str) -> float:
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > LIMIT_SECONDS:
            raise TimeoutError(f"not within {LIMIT_SECONDS:.0f} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def idle(leader: ClusterNode, follower: ClusterNode, number: int) -> None:
    before = [cpu_seconds(node.pid) for node in (leader, follower)]
    time.sleep(IDLE_SECONDS)
    for name, node, then in zip(("leader", "follower"), (leader, follower), before, strict=True):
        share = 100 * (cpu_seconds(node.pid) - then) / IDLE_SECONDS
        figure(f"{name}_idle_cpu_percent", share, "%", agents=number)
        figure(f"{name}_rss_mb", resident_megabytes(node.pid), "MiB", agents=number)


def cpu_seconds(pid: int) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(arguments: Sequence[str] = ()) -> int:
    """Print a figure per line."""
    parser = argparse.ArgumentParser(prog="agents", description=__doc__)
    parser.add_argument("--number", type=int, default=1000)
    number = parser.parse_args(arguments).number
    with cluster_of(3) as cluster:
        cluster.form(3)
        leader = cluster.leader()
        with crowds(cluster, number) as started:

            def welcomed() -> int:
                return sum(crowd.welcomed for crowd in started)

            figure("agents_joined_s", seconds_until(lambda: welcomed() == number, "all agents have joined"), "s", agents=number)
            idle(leader, next(node for node in cluster.nodes if node is not leader), number)
            leader.kill()
            seconds_until(lambda: welcomed() < number, "the agents have noticed")
            figure("reconnected_s", seconds_until(lambda: welcomed() == number, "all agents are back"), "s", agents=number)
            next_leader = cluster.leader()
            views = next_leader.nodes().values()
            figure("ready_after", sum(node.state == "ready" for node in views), "nodes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
