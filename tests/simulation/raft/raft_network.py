"""The network between simulated members: ordered streams that are slow, that stall, and that break.

It keeps what `stackd.raft.peers` promises (order, exactly once while connected, all of an old stream before the next one)
and does all the harm that this leaves room for, as a TCP stream would: packets that don't get through in one direction
arrive late and in a burst, or never, because one side gives the stream up; the other side notices later, and until then
talks to nobody. A process that was killed leaves what it had sent; a machine without power says nothing at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from raft_clock import VirtualTime
from stackd.raft.peers import MAX_MESSAGE_BYTES, Connected, Disconnected, Hello, PeerEvent, Received

DIAL_SECONDS = 0.05
"""A try to connect comes at most so long after it could succeed."""

GIVE_UP_SECONDS = (0.3, 4.0)
"""How long a side waits for a silent stream before it gives it up: some time between these."""


@dataclass(slots=True)
class Conditions:
    """How the wires are at present. `lost` are the directions in which nothing gets through."""

    slowest_seconds: float = 0.01
    bytes_per_second: float = 50e6
    queue_bytes: int = 16 * 1024 * 1024
    lost: set[tuple[str, str]] = field(default_factory=set)


@dataclass(slots=True)
class Way:
    """One direction of a stream. `overdue` messages were due while nothing got through."""

    under_way: deque[bytes] = field(default_factory=deque)
    last_due: float = 0.0
    overdue: int = 0
    queued_bytes: int = 0


@dataclass(slots=True)
class Stream:
    """One connection. `open_at` are the sides that believe in it; `ways` are named by their senders."""

    sides: tuple[str, str]
    open_at: set[str]
    ways: dict[str, Way]

    def other(self, side: str) -> str:
        return self.sides[1] if side == self.sides[0] else self.sides[0]


class Network:
    """All wires of one cluster. `watch` sees every message that is sent."""

    def __init__(self, time: VirtualTime) -> None:
        self.conditions = Conditions()
        self.watch: Callable[[str, str, bytes], None] = lambda sender, receiver, message: None
        self._time = time
        self._random = time.random("network")
        self._peers: dict[str, SimulatedPeers] = {}
        self._streams: dict[frozenset[str], Stream] = {}
        self._dialing = False

    def join(self, hello: Hello, wake: Callable[[], None], departure: Callable[[], float]) -> SimulatedPeers:
        """A member's process has started; `wake` is called when something has arrived for it."""
        peers = SimulatedPeers(self, hello, wake, departure)
        self._peers[hello.node] = peers
        self.dial()
        return peers

    def leave(self, name: str, *, silently: bool) -> None:
        """The process is gone. What it had sent still arrives; then its streams end, or stay half-open if `silently`."""
        self._peers.pop(name).closed = True
        for stream in [stream for stream in self._streams.values() if name in stream.open_at]:
            stream.open_at.discard(name)
            other = stream.other(name)
            if silently:
                self._give_up_later(stream, other)
            else:
                self._time.at(stream.ways[name].last_due + 1e-6, partial(self._end, stream, name))

    def lose(self, directions: set[tuple[str, str]]) -> None:
        """From now on nothing gets through in these directions, and all else does."""
        self.conditions.lost = directions
        for stream in list(self._streams.values()):
            for sender, way in stream.ways.items():
                if (sender, stream.other(sender)) in directions:
                    for side in sorted(stream.open_at):
                        self._give_up_later(stream, side)
                else:
                    overdue, way.overdue = way.overdue, 0
                    for _ in range(overdue):
                        self._due(stream, sender, self._time.now)
        self.dial()

    def reset(self, one: str, other: str) -> None:
        """Break their stream, as a firewall's reset does; what was under way is gone."""
        stream = self._streams.get(frozenset((one, other)))
        for side in sorted(stream.open_at) if stream else ():
            self._close_side(stream, side)

    # -- for SimulatedPeers

    def send(self, sender: str, receiver: str, message: bytes, departs: float) -> None:
        assert len(message) <= MAX_MESSAGE_BYTES, f"{sender} sends a message of {len(message)} bytes"
        stream = self._streams.get(frozenset((sender, receiver)))
        if stream is None or sender not in stream.open_at:
            return
        self.watch(sender, receiver, message)
        way = stream.ways[sender]
        way.queued_bytes += len(message)
        way.under_way.append(message)
        if way.queued_bytes > self.conditions.queue_bytes:
            self._close_side(stream, sender)
        else:
            self._due(stream, sender, departs + len(message) / self.conditions.bytes_per_second)

    def dial(self) -> None:
        """Connect, a little later, those of whom one wants the other and can reach it. A member may be wanted by a leader of
        whom it has never heard: it was away when that one joined."""
        if not self._dialing:
            self._dialing = True
            self._time.after(self._random.uniform(0.1, 1.0) * DIAL_SECONDS, self._connect_all)

    def cut_unwanted(self, name: str) -> None:
        """`name` has changed its mind about whom to talk with."""
        wanted = self._peers[name].wanted
        for stream in list(self._streams.values()):
            if name in stream.open_at and stream.other(name) not in wanted:
                for side in sorted(stream.open_at):
                    self._close_side(stream, side)
        self.dial()

    # -- streams

    def _connect_all(self) -> None:
        self._dialing = False
        for one in sorted(self._peers):
            for other in sorted(self._peers[one].wanted):
                if self._can_connect(one, other):
                    self._connect(one, other)

    def _can_connect(self, one: str, other: str) -> bool:
        stream = self._streams.get(frozenset((one, other)))
        whole = stream is not None and len(stream.open_at) == 2
        return not whole and other in self._peers and not {(one, other), (other, one)} & self.conditions.lost

    def _connect(self, one: str, other: str) -> None:
        old = self._streams.get(frozenset((one, other)))
        for side in sorted(old.open_at) if old else ():
            self._close_side(old, side)
        self._streams[frozenset((one, other))] = Stream((one, other), {one, other}, {one: Way(), other: Way()})
        for name, peer in ((one, other), (other, one)):
            self._peers[name].happened(Connected(peer, self._peers[peer].hello))

    def _due(self, stream: Stream, sender: str, departs: float) -> None:
        """The oldest message that is under way arrives some time after `departs`, and not before one that was due earlier."""
        way = stream.ways[sender]
        arrival = departs + self._random.uniform(0.0002, self.conditions.slowest_seconds)
        way.last_due = max(arrival, way.last_due + 1e-6)
        self._time.at(way.last_due, lambda: self._arrive(stream, sender))

    def _arrive(self, stream: Stream, sender: str) -> None:
        receiver, way = stream.other(sender), stream.ways[sender]
        if receiver not in stream.open_at:
            return
        if (sender, receiver) in self.conditions.lost:
            way.overdue += 1
            return
        message = way.under_way.popleft()
        way.queued_bytes -= len(message)
        self._peers[receiver].happened(Received(sender, message))

    def _end(self, stream: Stream, sender: str) -> None:
        """The sender's process is gone, and its last words have arrived, if they could."""
        receiver = stream.other(sender)
        if (sender, receiver) in self.conditions.lost:
            self._give_up_later(stream, receiver)
        else:
            self._close_side(stream, receiver)

    def _give_up_later(self, stream: Stream, side: str) -> None:
        """A silent stream is given up by each side at a time of its own, unless it is heard again before."""
        self._time.after(self._random.uniform(*GIVE_UP_SECONDS), lambda: self._give_up(stream, side))

    def _give_up(self, stream: Stream, side: str) -> None:
        other = stream.other(side)
        is_silent = other not in stream.open_at or {(side, other), (other, side)} & self.conditions.lost
        if side in stream.open_at and is_silent:
            self._close_side(stream, side)

    def _close_side(self, stream: Stream, side: str) -> None:
        if side not in stream.open_at:
            return
        stream.open_at.discard(side)
        if side in self._peers:
            self._peers[side].happened(Disconnected(stream.other(side)))
        if stream.other(side) in stream.open_at:
            self._give_up_later(stream, stream.other(side))
        self.dial()


class SimulatedPeers:
    """The `Peers` of one process. `happened` events wait here until they are polled."""

    def __init__(self, network: Network, hello: Hello, wake: Callable[[], None], departure: Callable[[], float]) -> None:
        self.hello = hello
        self.wanted: set[str] = set()
        self.closed = False
        self._network = network
        self._wake = wake
        self._departure = departure
        self._events: deque[PeerEvent] = deque()

    def happened(self, event: PeerEvent) -> None:
        if not self.closed:
            self._events.append(event)
            self._wake()

    def send(self, peer: str, message: bytes) -> None:
        if not self.closed:
            self._network.send(self.hello.node, peer, message, self._departure())

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        wanted = set(addresses) - {self.hello.node}
        if wanted != self.wanted and not self.closed:
            self.wanted = wanted
            self._network.cut_unwanted(self.hello.node)

    def poll(self, timeout: float | None) -> Sequence[PeerEvent]:
        """Never waits: the world calls the node when something has happened."""
        events = list(self._events)
        self._events.clear()
        return events

    def wake(self) -> None:
        self._wake()

    def close(self) -> None:
        self.closed = True
