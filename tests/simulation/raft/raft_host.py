"""A simulated machine: its disk, the process on it while it runs, and what can happen to both.

The process is the real `Node` on a `MemoryDisk`, called when something has arrived for it or when it asked to be. Its clock
moves on during a tick by what the disk takes, so what it sends after a slow sync departs after that sync.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from random import Random

from raft_clock import VirtualTime
from raft_keys import PlainKeys
from raft_machine import Machine
from raft_network import Network, SimulatedPeers
from stackd.base.errors import StackdError
from stackd.raft.frame import Identity
from stackd.raft.membership import Membership
from stackd.raft.memory_disk import MemoryDisk, Operation, Step
from stackd.raft.node import Node, Output, Settings
from stackd.raft.peers import Hello
from stackd.raft.restore import recover_disk
from stackd.raft.storage import History, read_history
from stackd.raft.wal import Log

CLUSTER = "simulated"


class Crash(BaseException):
    """The process ends here. Nothing in it may catch this, as nothing can catch a kill."""


class HostDisk:
    """What is wrong with a host's disk at present. It is asked before each operation on it."""

    def __init__(self, random: Random) -> None:
        self.sync_seconds = 0.0005
        self.error_chance = 0.0
        self.operations_until_crash: int | None = None
        self.spent_seconds = 0.0
        self._random = random

    def heal(self) -> None:
        self.sync_seconds, self.error_chance, self.operations_until_crash = 0.0005, 0.0, None

    def before(self, operation: Operation) -> None:
        if self.operations_until_crash is not None:
            self.operations_until_crash -= 1
            if self.operations_until_crash < 0:
                self.operations_until_crash = None
                raise Crash
        if operation.step in (Step.SYNC, Step.SYNC_NAMES):
            self.spent_seconds += self._random.uniform(0.5, 2.0) * self.sync_seconds
        if operation.step is not Step.REMOVE and self._random.random() < self.error_chance:
            raise OSError(errno.EIO, "input/output error")


class Host:
    """One machine. `observe` is called after each tick with what the node put out; it may raise a violation."""

    def __init__(
        self,
        time: VirtualTime,
        network: Network,
        name: str,
        settings: Settings,
        initial: Membership,
        observe: Callable[[Host, Output], None],
    ) -> None:
        self.name = name
        self.node: Node | None = None
        self.machine = Machine(None)
        self.lives = 0
        self.refusal: StackdError | None = None
        """Why the last start failed."""
        self.trouble = HostDisk(time.random(f"disk/{name}"))
        self.disk = MemoryDisk()
        self._snapshotting = False
        self.busy_until = self.down_until = 0.0
        self.retired = False
        self.is_of_the_past = False
        """Whether its cluster was given up while it was away."""
        self.clock_rate = 1.0
        self.snapshot_padding_bytes = 0
        self.keys = PlainKeys()
        self.feature_level = settings.feature_level
        """What its software can read; a restart may change it."""
        self.highest_level = 0
        """The highest that it ever had."""
        self._settings = settings
        self._initial = initial
        self._time = time
        self._network = network
        self._observe = observe
        self._random = time.random(f"host/{name}")
        self._identity = Identity(CLUSTER, name)
        self._peers: SimulatedPeers | None = None
        self._next_tick: float | None = None
        Log.create(self.disk, self.keys, self._identity)

    # -- the process

    def start(self) -> bool:
        """Start the process; False if it refused to (`refusal`), or crashed at once."""
        self.lives += 1
        self.highest_level = max(self.highest_level, self.feature_level)
        self.refusal = None
        self.disk.fail = self.trouble.before
        hello = Hello(node=self.name, cluster=CLUSTER, feature_level=self.feature_level)
        self._peers = self._network.join(hello, self.soon, self._departure)
        node = Node(
            self.disk,
            self.keys,
            self._identity,
            self._peers,
            initial=self._initial,
            clock=self.clock,
            random=self._time.random(f"node/{self.name}/{self.lives}"),
            settings=replace(self._settings, feature_level=self.feature_level),
        )
        try:
            self.machine = Machine(node.open())
        except StackdError as error:
            self.refusal = error
            self.end(silently=False)
            return False
        except Crash:
            self.end(silently=self._random.random() < 0.5)
            return False
        self.node = node
        self._snapshotting = False
        self._plan(0.0)
        return True

    def end(self, *, silently: bool) -> None:
        """The process is gone, and if `silently` the whole machine. The disk keeps what it has."""
        self.node = None
        self._next_tick = None
        self._network.leave(self.name, silently=silently)
        capacity_bytes = self.disk.capacity_bytes
        self.disk = self.disk.after_power_cut(self._random) if silently else self.disk.after_kill()
        self.disk.capacity_bytes = capacity_bytes

    def fill_disk(self, free_bytes: int) -> None:
        """From now on there is room for so much, and no more."""
        self.disk.capacity_bytes = self.disk.used_bytes() + free_bytes

    def repair_disk(self) -> None:
        """There is room, and nothing fails or takes long."""
        self.disk.capacity_bytes = None
        self.trouble.heal()

    @property
    def has_bad_disk(self) -> bool:
        """Whether writes may fail at present."""
        return self.disk.capacity_bytes is not None or self.trouble.error_chance > 0

    def rotate_key(self) -> None:
        """Seal what is written from now on with another key; keys that nothing needs any more are forgotten."""
        self.keys.rotate()
        if not self._snapshotting:  # what is being written has no name yet
            self.keys.forget_unused(self.disk)

    def history(self) -> History:
        """What the disk of a machine that is down tells."""
        return read_history(self.disk, self.keys, self._identity, self._initial)

    def recover(self) -> None:
        """An operator makes this member, which is down, the only one of the cluster. It may crash meanwhile."""
        self.trouble.operations_until_crash = self._random.choice([None, 0, 1, 2, 3])
        self.disk.fail = self.trouble.before
        try:
            recover_disk(self.disk, self.keys, self._identity, self._initial)
        except Crash:
            self.disk = self.disk.after_power_cut(self._random)
            recover_disk(self.disk, self.keys, self._identity, self._initial)
        self.trouble.heal()

    def close(self) -> None:
        """Stop the process as a person does."""
        if self.node is not None:
            node, self.node = self.node, None
            node.close()
            self.end(silently=False)

    def pause(self, seconds: float) -> None:
        """Nothing of the process runs for a while."""
        self.busy_until = max(self.busy_until, self._time.now + seconds)

    def clock(self) -> float:
        return (self._time.now + self.trouble.spent_seconds) * self.clock_rate

    def _departure(self) -> float:
        """When, by the world's clock, what the process sends now leaves it."""
        return self._time.now + self.trouble.spent_seconds

    def act(self, work: Callable[[], None]) -> bool:
        """Do `work` in the process; False if it crashed meanwhile. What it took keeps the process busy."""
        self.trouble.spent_seconds = 0.0
        try:
            work()
        except Crash:
            self.end(silently=self._random.random() < 0.5)
            return False
        finally:
            self.busy_until = max(self.busy_until, self._time.now + self.trouble.spent_seconds)
            self.trouble.spent_seconds = 0.0
        return True

    # -- ticks

    def soon(self) -> None:
        """There is something for the node to do."""
        self._plan(self._random.uniform(0.0, 0.0005))

    def _plan(self, delay: float | None) -> None:
        """See to it that the node is called in `delay` seconds at the latest."""
        if delay is None:
            return
        due = max(self._time.now + delay, self.busy_until)
        if self._next_tick is None or due < self._next_tick:
            self._next_tick = due
            self._time.at(due, lambda life=self.lives: self._come_due(life, due))

    def _come_due(self, life: int, due: float) -> None:
        if self.node is None or life != self.lives or self._next_tick != due:
            return
        self._next_tick = None
        if self._time.now < self.busy_until:
            self._plan(0.0)
        else:
            self.tick()

    def tick(self) -> None:
        """One turn of the node, and of the consumer of what it puts out."""
        node = self.node
        assert node is not None
        if self.act(node.tick):
            self._observe(self, node.take())
        if self.node is node:
            self._plan(node.due_in())

    # -- snapshots, as a thread beside the node takes them

    def snapshot_if_due(self) -> None:
        node = self.node
        if node is None or self._snapshotting or not node.snapshot_due():
            return
        job = node.begin_snapshot(self.machine.index)
        if job is None:
            return
        self._snapshotting = True
        content = self.machine.snapshot(self.snapshot_padding_bytes)

        def write() -> None:
            self._beside(node, lambda: job.snapshots.write(job.position, [content], job.membership), finish)

        def finish() -> None:
            self._beside(node, lambda: node.finish_snapshot(job), end)

        def end() -> None:
            self._snapshotting = False

        self._time.after(self._random.uniform(0.0, 0.2), write)

    def _beside(self, node: Node, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Do a part of a snapshot, and later `then`; a disk that refuses ends the attempt. It keeps nobody else waiting."""
        busy_until = self.busy_until

        def attempt() -> None:
            try:
                work()
            except StackdError:
                self._snapshotting = False
                node.snapshot_failed()
            else:
                took = self.trouble.spent_seconds + self._random.uniform(0.0, 0.2)
                self._time.after(took, then)

        if self.node is node and self.act(attempt):
            self.busy_until = busy_until
