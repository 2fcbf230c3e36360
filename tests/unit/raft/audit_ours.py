"""Our members, driven by hand like the stock ones: `audit_stock.py` says what for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec
import pytest
from audit_cluster import Cluster, Flight, Outcome
from stackd.raft.consensus import Entry
from stackd.raft.frame import Identity
from stackd.raft.membership import Membership
from stackd.raft.memory_disk import MemoryDisk
from stackd.raft.message import AskVote, Vote, decode_message, encode_message
from stackd.raft.node import Node, Settings, Ticket
from stackd.raft.peers import Connected, Disconnected, Hello, PeerEvent, Received
from stackd.raft.wal import Log

from raft_builders import SEALER

_KINDS = {
    "Append": "append",
    "Appended": "ack",
    "AskVote": "vote",
    "Vote": "granted",
    "Piece": "snapshot",
    "TakeOver": "transfer",
}


class NoElections(Random):
    """Election timeouts that never end: a scenario says who campaigns."""

    def uniform(self, a: float, b: float) -> float:
        return 1e12


class HandPeers:
    """Puts messages into the cluster's list instead of sending them, and hands over what the scenario carries."""

    def __init__(self, me: str, cluster: OurCluster) -> None:
        self.me = me
        self.events: list[PeerEvent] = []
        self._cluster = cluster

    def send(self, peer: str, message: bytes) -> None:
        kind = type(decode_message(message)).__name__
        self._cluster.send(self.me, peer, _KINDS.get(kind, kind), message)

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        pass

    def poll(self, timeout: float | None) -> Sequence[PeerEvent]:
        events, self.events = self.events, []
        return events

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass


class Member:
    """One node with its disk and what it has put out."""

    def __init__(self, name: str, cluster: OurCluster, initial: Membership, disk: MemoryDisk, feature_level: int) -> None:
        self.disk = disk
        self.peers = HandPeers(name, cluster)
        self.values: list[bytes] = []
        self.hello = Hello(node=name, cluster="audit", feature_level=feature_level)
        self.node = Node(
            disk,
            SEALER,
            Identity("audit", name),
            self.peers,
            initial=initial,
            clock=lambda: cluster.now,
            random=NoElections(1),
            settings=Settings(kept_entries=0, feature_level=feature_level),
        )
        content = self.node.open()
        self.values += content.split(b"\n") if content else []

    def tick(self) -> None:
        self.node.tick()
        for item in self.node.take().items:
            if not isinstance(item, Entry):
                self.values = item.content.split(b"\n") if item.content else []
            elif item.data:
                self.values.append(item.data)


class OurCluster(Cluster):
    """Members of ours. `newer` have a software that knows one feature level more than that of the others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, names: str = "ABC", *, newer: str = "", **conf: Any) -> None:
        super().__init__()
        self.newer = newer
        self.initial = Membership(epoch=0, voters=tuple((name, f"{name}:1") for name in names))
        self._asked: list[tuple[Ticket, Outcome, Callable[[], None] | None]] = []
        for name in names:
            disk = MemoryDisk()
            Log.create(disk, SEALER, Identity("audit", name))
            self.members[name] = self._member(name, disk)
        for name in names:
            self.rejoin(name)

    def _member(self, name: str, disk: MemoryDisk) -> Member:
        return Member(name, self, self.initial, disk, 1 + (name in self.newer))

    def restart(self, name: str, disk: MemoryDisk | None = None) -> None:
        """What goes on with what `disk` holds; by default with what a kill leaves."""
        self.isolate(name)
        self.members[name] = self._member(name, disk or self.members[name].disk.after_kill())
        self.rejoin(name)

    def node(self, name: str) -> Node:
        node: Node = self.members[name].node
        return node

    def tick(self, name: str) -> None:
        self.members[name].tick()
        waiting, self._asked = self._asked, []
        for ticket, outcome, then in waiting:
            if not ticket.is_done:
                self._asked.append((ticket, outcome, then))
                continue
            outcome.state = "committed" if ticket.error is None else "failed"
            outcome.why = ticket.error.code if ticket.error is not None else ""
            if then:
                self._guarded(then)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self.errors.append(error)

    def hand_over(self, flight: Flight) -> None:
        self.members[flight.receiver].peers.events.append(Received(flight.sender, flight.message))
        self.tick(flight.receiver)

    def hand_over_at_once(self, flights: list[Flight]) -> None:
        """All of them in one tick of the receivers."""
        for flight in flights:
            self.members[flight.receiver].peers.events.append(Received(flight.sender, flight.message))
        for receiver in sorted({flight.receiver for flight in flights}):
            self.tick(receiver)

    def tell_connection(self, name: str, peer: str, *, is_up: bool) -> None:
        event = Connected(peer, self.members[peer].hello) if is_up else Disconnected(peer)
        self.members[name].peers.events.append(event)
        self.tick(name)

    def campaign(self, name: str) -> None:
        self.node(name)._raft._SyncObj__raftElectionDeadline = -math.inf
        self.tick(name)

    def propose(self, name: str, data: bytes, then: Callable[[], None] | None = None) -> Outcome:
        outcome = Outcome()
        node = self.node(name)
        self._asked.append((node.propose(data, node.term), outcome, then))
        return outcome

    def add_member(self, leader: str, name: str) -> None:
        self.node(leader).add(name, f"{name}:1")

    def remove_member(self, leader: str, name: str) -> Outcome:
        outcome = Outcome()
        self._asked.append((self.node(leader).remove(name), outcome, None))
        return outcome

    def request_to_add(self, sender: str, receiver: str, name: str) -> Flight:
        """There is no such message: it is what the stock library's would be."""
        return Flight(sender, receiver, "request", msgspec.msgpack.encode({"type": "apply_command", "command": name}))

    def use_newest_version(self, leader: str) -> None:
        """It does so by itself, as soon as everyone can."""

    def transfer(self, leader: str, to: str) -> None:
        self.node(leader).transfer_leadership(to)

    def begin_snapshot(self, name: str) -> None:
        self.node(name).begin_snapshot(self.node(name).applied_index)

    def compact(self, name: str) -> None:
        member = self.members[name]
        job = member.node.begin_snapshot(member.node.applied_index)
        assert job is not None
        job.snapshots.write(job.position, [b"\n".join(member.values)], job.membership)
        member.node.finish_snapshot(job)

    def leads(self, name: str) -> bool:
        return self.node(name).leads

    def term(self, name: str) -> int:
        return self.node(name).term

    def last_index(self, name: str) -> int:
        return self.node(name).last.index

    def commit_index(self, name: str) -> int:
        return self.node(name).commit_index

    def counted(self, leader: str, follower: str) -> int:
        return self.node(leader)._raft.match_index(follower)

    def applied(self, name: str) -> list[bytes]:
        return list(self.members[name].values)

    def voters(self, name: str) -> set[str]:
        return set(self.node(name).membership.voter_ids)

    def poison(self, value: bytes) -> None:
        """Nothing is applied inside a node: what the consumer makes of an entry is not its business."""

    def vote_request(self, sender: str, receiver: str, term: int) -> Flight:
        message = AskVote(epoch=0, term=term, last_index=0, last_term=0)
        return Flight(sender, receiver, "vote", encode_message(message))

    def granted_vote(self, sender: str, receiver: str, term: int) -> Flight:
        return Flight(sender, receiver, "granted", encode_message(Vote(epoch=0, term=term)))
