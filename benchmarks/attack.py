"""Ten thousand silent connections against each port of a manager: `make attack`. Needs root, for network namespaces as hosts.

As many of them as can be opened in ten seconds; half begin a TLS handshake and leave it at that. Meanwhile a worker that is
connected has to stay ready, a node that comes now has to get in, and the manager's memory has to stay bounded. Exits with 1 if
any of it isn't so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from stackd.base.errors import StackdError
from stackd.engine.parts import Role

from benchmarks.agents import resident_megabytes
from benchmarks.figures import figure
from cluster import Cluster, ClusterNode, cluster_of
from hosts import Host

PORTS = (2377, 2378, 2379)
MOST_MEGABYTES = 400.0
"""By which the manager may grow: the limit of the nodes' port times what a silent connection costs there."""
WATCH_SECONDS = 15.0
JOIN_SECONDS = 30.0
_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

_ATTACKER = """
import socket, sys, time
held, (address, port, number) = [], sys.argv[1:4]
until = time.monotonic() + 10
for place in range(int(number)):
    if time.monotonic() > until:
        break
    try:
        held.append(socket.create_connection((address, int(port)), timeout=1))
        if place % 2:
            held[-1].sendall(bytes.fromhex(sys.argv[4]))
    except OSError:
        pass
print(len(held), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def attackers(host: Host, address: str, number: int) -> Iterator[None]:
    """One process for each port, which opens its connections and holds them inside the block."""
    command = [*host.enter, sys.executable, "-c", _ATTACKER, address]
    processes = [
        subprocess.Popen(
            [*command, str(port), str(number), _HELLO.hex()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for port in PORTS
    ]
    try:
        for port, process in zip(PORTS, processes, strict=True):
            assert process.stdout is not None
            figure("connections_opened", int(process.stdout.readline()), "connections", port=port)
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


class Watch:
    """What is seen of the manager during the attack, ten times a second."""

    def __init__(self, manager: ClusterNode, worker: ClusterNode) -> None:
        self._manager = manager
        self._worker = worker
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most_megabytes = 0.0
        self.longest_answer_seconds = 0.0
        self.worker_lost = False
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            began = time.monotonic()
            try:
                self.worker_lost |= self._manager.nodes()[self._worker.name].state != "ready"
            except StackdError:
                self.worker_lost = True
            self.longest_answer_seconds = max(self.longest_answer_seconds, time.monotonic() - began)
            self.most_megabytes = max(self.most_megabytes, resident_megabytes(self._manager.pid))

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def join_late(cluster: Cluster) -> float:
    """How long a new node takes that comes during the attack."""
    began = time.monotonic()
    cluster[2].join(cluster.token(Role.WORKER), cluster[0].join_address)
    cluster.eventually(lambda: cluster[0].nodes()[cluster[2].name].state == "ready", "the new node is ready", JOIN_SECONDS)
    return time.monotonic() - began


def main(arguments: Sequence[str] = ()) -> int:
    """Print a figure per line; 1 if the attack did harm."""
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000, help="to each port")
    number = parser.parse_args(arguments).connections
    with cluster_of(3) as cluster:
        manager, worker, _ = cluster.nodes
        manager.init()
        worker.join(cluster.token(Role.WORKER), manager.join_address)
        cluster.eventually(lambda: manager.nodes()[worker.name].state == "ready", "the worker is ready")
        before, watch = resident_megabytes(manager.pid), Watch(manager, worker)
        try:
            with attackers(cluster.network.add_host(len(cluster.nodes)), manager.host_of.address, number):
                figure("join_under_attack_s", join_late(cluster), "s")
                time.sleep(WATCH_SECONDS)
        finally:
            watch.close()
        grown = watch.most_megabytes - before
        figure("manager_grown_mb", grown, "MiB", before=before)
        figure("longest_answer_s", watch.longest_answer_seconds, "s")
        figure("worker_lost", watch.worker_lost, "bool")
        figure("descriptors_after", len(os.listdir(f"/proc/{manager.pid}/fd")), "descriptors")
    return int(grown > MOST_MEGABYTES or watch.worker_lost)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
