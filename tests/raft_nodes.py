"""Nodes in virtual time, driven step by step, over streams that a test cuts and joins. Nothing is lost on a whole one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from stackd.base.records import pairs
from stackd.raft.consensus import Entry, Installed, Leadership
from stackd.raft.frame import Identity
from stackd.raft.membership import Membership
from stackd.raft.memory_disk import MemoryDisk
from stackd.raft.node import Node
from stackd.raft.peers import Connected, Disconnected, Hello, PeerEvent, Received
from stackd.raft.settings import Settings
from stackd.raft.wal import Log

from raft_builders import SEALER

STEP_SECONDS = 0.01


def membership_of(names: str) -> Membership:
    return Membership(epoch=0, voters=pairs({name: f"{name}:1" for name in names}))


class Host:
    """One node with its disk and its end of the network, over its restarts."""

    def __init__(self, cluster: Nodes, name: str, initial: Membership, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.disk = MemoryDisk()
        Log.create(self.disk, SEALER, self._identity)
        self.wanted: set[str] = set()
        self.streams: set[str] = set()
        self.events: list[PeerEvent] = []
        self.sent: list[bytes] = []
        self._cluster = cluster
        self._initial = initial
        self.start()

    @property
    def _identity(self) -> Identity:
        return Identity("cluster1", self.name)

    def start(self) -> None:
        self.node = Node(
            self.disk,
            SEALER,
            self._identity,
            self,
            initial=self._initial,
            clock=lambda: self._cluster.now,
            random=Random(f"{self.name}/{self._cluster.now}"),
            settings=self.settings,
        )
        self.content = self.node.open()
        self.items: list[Entry | Installed] = []
        self.roles: list[Leadership] = []

    def restart(self, *, kill: bool = True) -> None:
        """Be killed, or lose power, and start again with what is left."""
        for peer in list(self.streams):
            self._cluster.cut(self.name, peer)
        self.events = []
        self.disk = self.disk.after_kill() if kill else self.disk.after_power_cut(Random(1))
        self.start()

    def tick(self) -> None:
        self.node.tick()
        output = self.node.take()
        self.items += output.items
        self.roles += output.roles

    @property
    def data(self) -> list[bytes]:
        """What was proposed and is applied here since the start."""
        return [item.data for item in self.items if isinstance(item, Entry) and item.data]

    # -- as `Peers`

    def send(self, peer: str, message: bytes) -> None:
        self.sent.append(message)
        if peer in self.streams:
            self._cluster.in_flight.append((self.name, peer, message))

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        self.wanted = set(addresses) - {self.name}

    def poll(self, timeout: float | None) -> Sequence[PeerEvent]:
        events, self.events = self.events, []
        return events

    def wake(self) -> None:
        pass

    def close(self) -> None:
        self.wanted = set()


class Nodes:
    """Nodes that know each other from the start; more can be made with `host`."""

    def __init__(self, names: str, **settings: float) -> None:
        self.now = 1000.0
        self.in_flight: list[tuple[str, str, bytes]] = []
        self.hosts: dict[str, Host] = {}
        self._settings = settings
        self._cut_off: set[str] = set()
        for name in names:
            self.host(name, membership_of(names))

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def host(self, name: str, initial: Membership, **settings: float) -> Host:
        self.hosts[name] = Host(self, name, initial, Settings(**{**self._settings, **settings}))  # type: ignore[arg-type]
        return self.hosts[name]

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self._settle_streams()
            for host in self.hosts.values():
                host.tick()
            arrived, self.in_flight = self.in_flight, []
            for sender, receiver, message in arrived:
                if receiver in self.hosts[sender].streams:
                    self.hosts[receiver].events.append(Received(sender, message))
            self.now += STEP_SECONDS

    def run_until(self, is_so: Callable[[], bool], seconds: float = 10.0) -> None:
        until = self.now + seconds
        while not is_so():
            assert self.now < until, f"it didn't come about within {seconds} s"
            self.run(STEP_SECONDS)

    def lead(self) -> Host:
        """The leader, as soon as there is exactly one."""
        self.run_until(lambda: len(self._leaders()) == 1)
        return self._leaders()[0]

    def followers(self) -> list[Host]:
        leader = self.lead()
        return [host for host in self.hosts.values() if host is not leader]

    def isolate(self, *names: str) -> None:
        """Cut these off from everyone; whoever isn't named is reachable again."""
        self._cut_off = set(names)

    def cut(self, one: str, other: str) -> None:
        for name, peer in ((one, other), (other, one)):
            self.hosts[name].streams.discard(peer)
            self.hosts[name].events.append(Disconnected(peer))

    def write(self, *data: bytes) -> None:
        """Have the leader commit these."""
        leader = self.lead()
        tickets = [leader.node.propose(one, leader.node.term) for one in data]
        self.run_until(lambda: all(ticket.is_done for ticket in tickets))
        assert [ticket.error for ticket in tickets] == [None] * len(data)

    def compact(self, host: Host, content: bytes = b"state") -> int:
        """Have a node write a snapshot of all that it has applied; returns its place."""
        job = host.node.begin_snapshot(host.node.applied_index)
        assert job is not None
        job.write([content])
        host.node.finish_snapshot(job)
        return job.position.index

    def _leaders(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.node.leads]

    def _settle_streams(self) -> None:
        names = sorted(self.hosts)
        for one, other in ((a, b) for a in names for b in names if a < b):
            wanted = other in self[one].wanted or one in self[other].wanted
            is_up = other in self[one].streams
            if wanted and not is_up and not {one, other} & self._cut_off:
                for name, peer in ((one, other), (other, one)):
                    self[name].streams.add(peer)
                    level = self[peer].settings.feature_level
                    self[name].events.append(Connected(peer, Hello(node=peer, cluster="cluster1", feature_level=level)))
            elif is_up and (not wanted or {one, other} & self._cut_off):
                self.cut(one, other)
