"""What chaos happens on: hosts with a daemon each, small disks for what they keep, clocks that can be set, and one real
engine."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos_commands import COMMAND_SECONDS, Ended, command
from benchmarks.chaos_recorder import Violation
from cluster import Cluster, ClusterNode, cluster_of
from dockerd import PrivateDockerd, private_dockerd
from images import busybox_archive

MANAGERS = 3
NODES = 5
ENGINE_NODE = NODES - 1
"""The node whose tasks are containers of a real engine; the others run them as processes."""
IMAGE = "chaos:1"
DISK = "size=64m"
WRONG_CLOCK = Path(__file__).parent / "wrong_clock"
QUICK_SECONDS = 0.6
"""In which a command that asks nobody is done on a machine that isn't slow, with all daemons on it."""
SLOWNESS_MAX = 5.0


@dataclass
class Ground:
    """The cluster below `directory`, and `records`, the directory in which every task leaves a line when it starts. `down` are
    the nodes whose daemon is to stay away for a while."""

    cluster: Cluster
    engine: PrivateDockerd | None
    directory: Path
    records: Path
    down: set[str] = field(default_factory=set)
    is_over: bool = False
    """Nothing is started any more."""
    slowness: float = 1.0
    """How many times longer than usual things take on this machine at the moment."""

    @property
    def nodes(self) -> Sequence[ClusterNode]:
        return self.cluster.nodes

    async def command(self, node: ClusterNode, *arguments: str) -> Ended:
        """Type a command at a node; see `chaos_commands.command`."""
        return await command(node, *arguments, seconds=COMMAND_SECONDS * self.slowness)

    def one_of(self, names: Set[str], chance: random.Random) -> ClusterNode:
        """Any of the nodes of these names."""
        return chance.choice([node for node in self.nodes if node.name in names])

    async def measure(self) -> None:
        """See how slow the machine is at the moment, by a command that asks nobody."""
        began = time.monotonic()
        await command(self.nodes[0], "version", seconds=COMMAND_SECONDS * SLOWNESS_MAX)
        now = (time.monotonic() - began) / QUICK_SECONDS
        self.slowness = min(max((self.slowness + now) / 2, 1.0), SLOWNESS_MAX)

    def set_clock(self, node: ClusterNode, seconds: float) -> None:
        """Let the node's clock be off by so much."""
        with _clock(node).open("r+b") as file:  # never shorter: a daemon that has it mapped would be ended by that
            file.write(struct.pack("<q", int(seconds * 1e9)))

    @contextlib.contextmanager
    def full_disk(self, node: ClusterNode) -> Iterator[None]:
        """Nothing more fits on the node's disk inside the block."""
        ballast = node.data / "ballast"
        try:
            with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                while file.write(bytes(65536)):
                    pass
            yield
        finally:
            ballast.unlink(missing_ok=True)

    def kill(self, node: ClusterNode) -> None:
        """Kill the node's daemon; it stays away until `bring_back`."""
        self.down.add(node.name)
        if node.is_running:
            node.kill()

    def bring_back(self, node: ClusterNode) -> None:
        if not node.is_running and not self.is_over:
            node.start_soon()
        self.down.discard(node.name)

    def heal(self) -> None:
        """All cables in, all clocks right, all daemons and the engine up."""
        self.cluster.network.heal()
        for node in self.nodes:
            self.set_clock(node, 0)
        if self.engine is not None:
            self.engine.revive()
        for node in self.nodes:
            self.bring_back(node)

    def check_daemons(self) -> None:
        """See that no daemon has ended by itself. Raises Violation."""
        for node in self.nodes:
            if node.name not in self.down and not node.is_running:
                raise Violation(f"the daemon of {node.name} has ended by itself, with exit code {node.exit_code}")


@contextlib.contextmanager
def prepared(directory: Path, *, with_engine: bool) -> Iterator[Ground]:
    """A cluster of NODES with MANAGERS that is ready; all of it is gone after the block."""
    records = directory / "records"
    records.mkdir()
    with contextlib.ExitStack() as stack:
        for number in range(NODES):
            stack.enter_context(_small_disk(directory / f"node{number + 1}" / "data"))
        engine = stack.enter_context(private_dockerd(hostname=f"node{NODES}")) if with_engine else None
        if engine is not None:
            engine.import_image(IMAGE, busybox_archive())
        engines = [*[None] * ENGINE_NODE, engine]
        cluster = stack.enter_context(cluster_of(NODES, engines=engines, home=directory, started=False))
        ground = Ground(cluster, engine, directory, records)
        for node in cluster.nodes:
            _clock(node).write_bytes(bytes(8))
            path = os.pathsep.join(filter(None, (str(WRONG_CLOCK), os.environ.get("PYTHONPATH"))))
            node.environment = {"PYTHONPATH": path, "WRONG_CLOCK": str(_clock(node))}
        cluster.start()
        cluster.form(MANAGERS)
        try:
            yield ground
        finally:
            ground.is_over = True


def _clock(node: ClusterNode) -> Path:
    return node.home / "clock"


@contextlib.contextmanager
def _small_disk(path: Path) -> Iterator[Path]:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
