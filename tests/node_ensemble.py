"""The real consensus in the place of its model: what `stackd.raft.ensemble.Ensemble` is to the engine's simulation, with a
`Node` for each member.

Nodes are driven by the loop of the simulation, in its virtual time; messages arrive in the same instant, in order. What is
asked of an ensemble (cut a member off, fill its disk, let another one lead) happens to these members as it would to real
ones. A member that crashes loses power every other time, and with it what was not synced.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from stackd.base.errors import StackdError, Unavailable
from stackd.base.records import pairs
from stackd.raft.channel import Announcements, Channel
from stackd.raft.consensus import Entry, Installed, Leadership, SnapshotView, StorageFailed
from stackd.raft.ensemble import Pace
from stackd.raft.frame import Identity
from stackd.raft.membership import Membership
from stackd.raft.memory_disk import MemoryDisk
from stackd.raft.node import Node
from stackd.raft.peers import Connected, Disconnected, Hello, PeerEvent, Received
from stackd.raft.settings import Settings
from stackd.raft.ticket import Ticket
from stackd.raft.wal import Log

from raft_builders import SEALER

CLUSTER = "simulated"

HEARTBEAT_SECONDS = 0.5
"""Everything takes five times as long as in life: a history has minutes of virtual time, and most of it is heartbeats."""


class NodeEnsemble:
    """All members, and the streams between them."""

    def __init__(self, names: Sequence[str], chance: random.Random, pace: Pace) -> None:
        self.names = names
        self.chance = chance
        self.failures: list[str] = []
        """Members that ended by themselves, and why: none may."""
        self.settings = Settings(
            heartbeat_seconds=HEARTBEAT_SECONDS,
            election_min_seconds=4 * HEARTBEAT_SECONDS,
            election_max_seconds=9 * HEARTBEAT_SECONDS,
            snapshot_entries=pace.snapshot_entries,
            kept_entries=pace.snapshot_entries // 3,
        )
        self.initial = Membership(epoch=0, voters=pairs({name: f"{name}:1" for name in names}))
        self.disks = {name: MemoryDisk() for name in names}
        for name in names:
            Log.create(self.disks[name], SEALER, Identity(CLUSTER, name))
        self._members: dict[str, NodeMember] = {}
        self._cut: set[str] = set()
        self._full: set[str] = set()

    def member(self, name: str) -> NodeMember:
        """The next life of a member, from what the one before left on its disk."""
        member = self._members[name] = NodeMember(self, name)
        return member

    @property
    def leader(self) -> str:
        """Who leads the highest term; "" if nobody does."""
        leaders = [(member.term, name) for name, member in self._members.items() if member.leads]
        return max(leaders)[1] if leaders else ""

    @property
    def last_index(self) -> int:
        return max(member.node.commit_index for member in self._members.values())

    def cut(self, name: str) -> None:
        """Separate a member from all others."""
        self._cut.add(name)
        self.connect()

    def join(self, name: str) -> None:
        """End the separation."""
        self._cut.discard(name)
        self.connect()

    def set_full(self, name: str, full: bool) -> None:
        """Make a member's disk refuse every write, or take them again."""
        (self._full.add if full else self._full.discard)(name)
        self.disks[name].capacity_bytes = 0 if full else None

    def depose(self, successor: str = "") -> None:
        """Ask the leader to let another one lead. One that is alone goes on."""
        if self.leader:
            member = self._members[self.leader]
            member.ask(lambda: member.node.transfer_leadership(successor)).cancel()  # whether it succeeds or not

    def campaign(self, name: str) -> None:
        """Let a member try to be elected now."""
        self._members[name].campaign()

    # -- for the members

    def connect(self) -> None:
        """Make the streams that can be, and break those that can't."""
        for at, one in enumerate(self.names):
            for other in self.names[at + 1 :]:
                ends = [self._members.get(one), self._members.get(other)]
                can_be = all(end is not None and end.is_open for end in ends) and not {one, other} & self._cut
                for end, peer in zip(ends, (other, one), strict=True):
                    if end is not None:
                        end.set_stream(peer, is_up=can_be)

    def send(self, sender: str, receiver: str, message: bytes) -> None:
        self._members[receiver].happened(Received(sender, message))

    def left_by(self, name: str, disk: MemoryDisk) -> None:
        """A member has crashed."""
        self.disks[name] = disk.after_power_cut(self.chance) if self.chance.random() < 0.5 else disk.after_kill()
        self.set_full(name, name in self._full)
        self.connect()


class NodeMember:
    """One life of one member: the `Consensus` port over a node, and its peers."""

    def __init__(self, ensemble: NodeEnsemble, name: str) -> None:
        self.name = name
        self.is_open = False
        self._ensemble = ensemble
        self._disk = ensemble.disks[name]
        self._events: list[PeerEvent] = []
        self._streams: set[str] = set()
        self._futures: dict[Ticket, asyncio.Future[int]] = {}
        self._committed: Channel[Entry | Installed] = Channel()
        self._role = Announcements(Leadership(0, is_leader=False))
        self._next: asyncio.Handle | None = None
        loop = asyncio.get_running_loop()
        self.node = Node(
            self._disk,
            SEALER,
            Identity(CLUSTER, name),
            self,
            initial=ensemble.initial,
            clock=loop.time,
            random=random.Random(ensemble.chance.random()),
            settings=ensemble.settings,
        )

    @property
    def leads(self) -> bool:
        """Whether the member believes that it leads."""
        return self.is_open and self._role.present.is_leader

    @property
    def term(self) -> int:
        return self.node.term

    @property
    def known_leader(self) -> str:
        return self.node.leader if self.is_open else ""

    # -- as `Consensus`

    async def start(self) -> bytes | None:
        content = self.node.open()
        self.is_open = True
        self._ensemble.connect()
        self._tick()
        return content

    async def propose(self, data: bytes, term: int) -> int:
        return await self.ask(lambda: self.node.propose(data, term))

    async def read_barrier(self) -> int:
        return await self.ask(self.node.read)

    def leadership(self) -> AsyncIterator[Leadership]:
        return self._role.follow()

    def committed(self) -> AsyncIterator[Entry | Installed]:
        return self._committed.items()

    def snapshot_due(self) -> bool:
        return self.node.snapshot_due()

    async def take_snapshot(self, view: SnapshotView) -> None:
        job = self.node.begin_snapshot(view.index)
        if job is None:
            return
        try:
            job.write(view.chunks())
            self.node.finish_snapshot(job)
        except StorageFailed:
            self.node.snapshot_failed()
            raise

    async def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """Stop at once, as a killed process does."""
        if not self.is_open:
            return
        self.is_open = False
        if self._next is not None:
            self._next.cancel()
        for future in self._futures.values():
            if not future.done():
                future.set_exception(Unavailable("raft.closed", "the member is not running"))
        self._committed.end()
        self._role.end()
        self._ensemble.left_by(self.name, self._disk)

    def ask(self, request: Callable[[], Ticket]) -> asyncio.Future[int]:
        """What becomes of a request to the node."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.is_open:
            self._futures[request()] = future
            self._soon()
        else:
            future.set_exception(Unavailable("raft.closed", "the member is not running"))
        return future

    def campaign(self) -> None:
        """Don't wait for the election timeout."""
        self.node._raft.campaign()
        self._soon()

    # -- as `Peers`

    def send(self, peer: str, message: bytes) -> None:
        if peer in self._streams:
            self._ensemble.send(self.name, peer, message)

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        """All are connected with all."""

    def poll(self, timeout: float | None) -> Sequence[PeerEvent]:
        events, self._events = self._events, []
        return events

    def wake(self) -> None:
        self._soon()

    # -- what happens to it

    def set_stream(self, peer: str, *, is_up: bool) -> None:
        if is_up and peer not in self._streams:
            self._streams.add(peer)
            self.happened(
                Connected(peer, Hello(node=peer, cluster=CLUSTER, feature_level=self._ensemble.settings.feature_level))
            )
        elif not is_up and peer in self._streams:
            self._streams.discard(peer)
            self.happened(Disconnected(peer))

    def happened(self, event: PeerEvent) -> None:
        if self.is_open:
            self._events.append(event)
            self._soon()

    def _soon(self) -> None:
        self._plan(0.0)

    def _plan(self, seconds: float | None) -> None:
        if self._next is not None:
            self._next.cancel()
        loop = asyncio.get_running_loop()
        if not self.is_open or seconds is None:
            self._next = None
        elif seconds == 0.0:
            self._next = loop.call_soon(self._tick)
        else:
            self._next = loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self.node.tick()
        output = self.node.take()
        for item in output.items:
            self._committed.put(item)
        for role in output.roles:
            self._role.announce(role)
        for ticket in output.done:
            _settle(self._futures.pop(ticket, None), ticket)
        if self.node.failure is not None:
            self._ensemble.failures.append(f"{self.name}: {self.node.failure.message}")
            self.crash()
        elif self._events:
            self._soon()
        else:
            self._plan(self.node.due_in())


def _settle(future: asyncio.Future[int] | None, ticket: Ticket) -> None:
    if future is None or future.done():
        return
    if ticket.index is not None:
        future.set_result(ticket.index)
    else:
        error: StackdError = ticket.error or Unavailable("raft.closed", "the member is not running")
        future.set_exception(error)
