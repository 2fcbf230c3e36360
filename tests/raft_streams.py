"""Members in one process, each with its thread: the peers of one are queues of the others. For tests of `ClusterMember`.

Streams are whole or cut, as a test says; nothing is delayed or lost on one that stands.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from stackd.raft.peers import Connected, Disconnected, Hello, PeerEvent, Received


class Network:
    """Who is connected with whom: members that both want it and that no test has cut off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._peers: dict[str, LocalPeers] = {}
        self._isolated: set[str] = set()
        self.messages = 0

    def join(self, name: str, *, feature_level: int = 1) -> LocalPeers:
        """The peers of a member that starts, or starts again."""
        with self._lock:
            peers = LocalPeers(self, Hello(node=name, cluster="cluster1", feature_level=feature_level))
            self._peers[name] = peers
        return peers

    def isolate(self, *names: str) -> None:
        """Cut these off from everyone, themselves included; whoever isn't named is reachable again."""
        with self._lock:
            self._isolated = set(names)
            self._settle()

    def settle(self) -> None:
        with self._lock:
            self._settle()

    def send(self, sender: LocalPeers, receiver: str, message: bytes) -> None:
        with self._lock:
            if receiver in sender.streams:
                self.messages += 1
                self._peers[receiver].put(Received(sender.hello.node, message))

    def _settle(self) -> None:
        names = sorted(self._peers)
        for first, second in ((a, b) for a in names for b in names if a < b):
            one, other = self._peers[first], self._peers[second]
            wanted = second in one.wanted and first in other.wanted and not {first, second} & self._isolated
            if wanted and second not in one.streams:
                one.open(other)
                other.open(one)
            elif not wanted and second in one.streams:
                one.cut(second)
                other.cut(first)


class LocalPeers:
    """The peers of one member. It satisfies `peers.Peers`."""

    def __init__(self, network: Network, hello: Hello) -> None:
        self.hello = hello
        self.wanted: set[str] = set()
        self.streams: set[str] = set()
        self._network = network
        self._events: list[PeerEvent] = []
        self._woken = threading.Event()

    def send(self, peer: str, message: bytes) -> None:
        self._network.send(self, peer, message)

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        self.wanted = set(addresses) - {self.hello.node}
        self._network.settle()

    def poll(self, timeout: float | None) -> Sequence[PeerEvent]:
        if timeout is None or timeout > 0:
            self._woken.wait(timeout)
        self._woken.clear()
        events, self._events = self._events, []
        return events

    def rest(self, timeout: float | None) -> bool:
        return False

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self.set_peers({})

    # -- for the network, which holds its lock

    def open(self, other: LocalPeers) -> None:
        self.streams.add(other.hello.node)
        self.put(Connected(other.hello.node, other.hello))

    def cut(self, other: str) -> None:
        self.streams.discard(other)
        self.put(Disconnected(other))

    def put(self, event: PeerEvent) -> None:
        self._events.append(event)
        self._woken.set()
