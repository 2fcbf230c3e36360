"""The library as it comes, driven by hand: in-memory transport, virtual time, elections only when a test asks for one.

`tests/unit/raft/test_audit_*.py` tell each defect of the audit once, as a scenario over a `Cluster`, and run it on this
one, where it must show, and on our own (`audit_ours.py`), where it must not.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pysyncobj.syncobj
import pytest
from audit_cluster import Cluster, Flight, Outcome
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

NEVER = 1e12

_KINDS = {
    "append_entries": "append",
    "next_node_idx": "ack",
    "request_vote": "vote",
    "response_vote": "granted",
    "timeout_now": "transfer",
}


class Name(Node):
    """A member's node id."""


class Wire(Transport):
    """Puts messages into the cluster's list instead of sending them."""

    def __init__(self, member: SyncObj, me: Node, others: set[Node], cluster: StockCluster) -> None:
        super().__init__(member, me, others)
        self.me = me.id
        self.cluster = cluster

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        kind = "snapshot" if "serialized" in message else _KINDS.get(message["type"], message["type"])
        self.cluster.send(self.me, node.id, kind, copy.deepcopy(message))
        return True

    def addNode(self, node: Node) -> None:
        self._onNodeConnected(node)

    def dropNode(self, node: Node) -> None:
        self._onNodeDisconnected(node)

    def receive(self, peer: str, message: dict[str, Any]) -> None:
        self._onMessageReceived(Name(peer), copy.deepcopy(message))

    def connection(self, peer: str, *, is_up: bool) -> None:
        notify = self._onNodeConnected if is_up else self._onNodeDisconnected
        notify(Name(peer))


class Values(SyncObj):
    """The replicated object: a list of what was put into it."""

    def __init__(self, me: Node, others: list[Node], conf: SyncObjConf, cluster: StockCluster) -> None:
        super().__init__(me, others, conf, nodeClass=Name, transportClass=lambda *args: Wire(*args, cluster))
        self.values: list[bytes] = []
        self.poisonous: set[bytes] = set()
        self._poller.poll = lambda seconds: None

    @replicated
    def put(self, value: bytes) -> None:
        if value in self.poisonous:
            raise ValueError("can't be applied")
        self.values.append(value)


class EarlyValues(Values):
    """The same, made in the order in which one makes things without a second thought: first its state, then the library's."""

    def __init__(self, me: Node, others: list[Node], conf: SyncObjConf, cluster: StockCluster) -> None:
        self.values = []
        super().__init__(me, others, conf, cluster)


class StockCluster(Cluster):
    """Members of the stock library. With a `directory` they have journals of their own in it; `newer` have a software that
    knows one version more than that of the others."""

    is_stock = True
    member_class: ClassVar[type[Values]] = Values

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        names: str = "ABC",
        *,
        newer: str = "",
        directory: Path | None = None,
        **conf: Any,
    ) -> None:
        super().__init__()
        self.names, self.newer, self.directory = names, newer, directory
        monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", lambda: self.now)
        monkeypatch.setattr(SyncObj, "_SyncObj__generateRaftTimeout", lambda member: NEVER)
        self.conf = conf
        self.members = {name: self._member(name) for name in names}
        for name in names:
            self.rejoin(name)

    def _member(self, name: str) -> Values:
        settings = {"leaderFallbackTimeout": 30.0, "logCompactionMinEntries": 10**6, "logCompactionMinTime": 10**6, **self.conf}
        if self.directory is not None:
            settings["journalFile"] = str(self.directory / name)
        conf = SyncObjConf(autoTick=False, dynamicMembershipChange=True, **settings)
        member = self.member_class(Name(name), [Name(peer) for peer in self.names if peer != name], conf, self)
        member._SyncObj__selfCodeVersion = int(name in self.newer)
        return member

    def restart(self, name: str) -> None:
        self.isolate(name)
        self.members[name] = self._member(name)
        self.rejoin(name)

    def tick(self, name: str) -> None:
        self._guarded(lambda: self.members[name]._onTick(0))

    def hand_over(self, flight: Flight) -> None:
        wire = self.members[flight.receiver]._SyncObj__transport
        self._guarded(lambda: wire.receive(flight.sender, flight.message))

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self.errors.append(error)

    def tell_connection(self, name: str, peer: str, *, is_up: bool) -> None:
        self.members[name]._SyncObj__transport.connection(peer, is_up=is_up)

    def begin_snapshot(self, name: str) -> None:
        self.members[name]._SyncObj__serializer._Serializer__pid = 1

    def compact(self, name: str) -> None:
        self.members[name].forceLogCompaction()
        self.tick(name)
        self.tick(name)

    def campaign(self, name: str) -> None:
        member = self.members[name]
        member._SyncObj__raftElectionDeadline = 0
        member._onTick(0)
        member._SyncObj__raftElectionDeadline = NEVER

    def propose(self, name: str, data: bytes, then: Callable[[], None] | None = None) -> Outcome:
        outcome = Outcome()

        def done(result: object, error: int) -> None:
            outcome.state = "committed" if error == FAIL_REASON.SUCCESS else "failed"
            if then:
                then()

        self.members[name].put(data, callback=done)
        return outcome

    def leads(self, name: str) -> bool:
        return bool(self.members[name]._isLeader())

    def term(self, name: str) -> int:
        return int(self.members[name].raftCurrentTerm)

    def last_index(self, name: str) -> int:
        return int(self.members[name]._SyncObj__raftLog[-1][1])

    def commit_index(self, name: str) -> int:
        return int(self.members[name].raftCommitIndex)

    def counted(self, leader: str, follower: str) -> int:
        return int(self.members[leader]._SyncObj__raftMatchIndex[Name(follower)])

    def applied(self, name: str) -> list[bytes]:
        return list(self.members[name].values)

    def voters(self, name: str) -> set[str]:
        return {name, *(node.id for node in self.members[name].otherNodes)}

    def add_member(self, leader: str, name: str) -> None:
        self.members[leader].addNodeToCluster(Name(name))

    def remove_member(self, leader: str, name: str) -> Outcome:
        outcome = Outcome()

        def done(result: object, error: int) -> None:
            outcome.state = "committed" if error == FAIL_REASON.SUCCESS else "failed"
            outcome.why = str(error)

        self.members[leader].removeNodeFromCluster(Name(name), callback=done)
        return outcome

    def request_to_add(self, sender: str, receiver: str, name: str) -> Flight:
        command = b"\x02" + pickle.dumps(["add", name, Name(name)])
        return Flight(sender, receiver, "request", {"type": "apply_command", "command": command})

    def use_newest_version(self, leader: str) -> None:
        self.members[leader].setCodeVersion(1)

    def transfer(self, leader: str, to: str) -> None:
        self.members[leader].transferLeadership(Name(to))

    def poison(self, value: bytes) -> None:
        for member in self.members.values():
            member.poisonous.add(value)

    def vote_request(self, sender: str, receiver: str, term: int) -> Flight:
        message = {"type": "request_vote", "term": term, "last_log_index": 1, "last_log_term": 0}
        return Flight(sender, receiver, "vote", message)

    def granted_vote(self, sender: str, receiver: str, term: int) -> Flight:
        return Flight(sender, receiver, "granted", {"type": "response_vote", "term": term})
