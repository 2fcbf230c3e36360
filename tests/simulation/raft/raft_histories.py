"""One seed: a cluster, its users, everything that goes wrong, and then the peace in which all must be well again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from linearizability import Read, why_not_linearizable
from raft_checks import Violation
from raft_clients import Client
from raft_cluster import NEWEST_LEVEL, Cluster
from raft_faults import Faults
from raft_machine import Put, encode
from stackd.raft.node import Settings, Ticket

TROUBLE_SECONDS = 10.0
PEACE_SECONDS = 10.0
"""So long after the faults a leader must be there, everyone caught up, and a write committed."""

CLIENTS = 5

MAX_ENTRIES_BESIDE_A_SNAPSHOT = 100
"""So many may be committed while a snapshot is being written."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a history was made of."""

    seed: int
    counts: Counter[str]
    entries: int
    acknowledged: int
    reads: int


class HistoryFailed(Exception):
    """A history broke a promise. The message has the seed, the end of the trace, and how to see it again."""


def run(seed: int, favourite: str = "") -> Report:
    """`favourite` is a kind of fault that is to come often. Raises HistoryFailed."""
    cluster = Cluster(seed, *_shape(seed))
    try:
        return _run(cluster, favourite)
    except (Exception, Violation) as error:
        what = error if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
        trace = "\n".join(cluster.trace)
        again = f".venv/bin/python tests/simulation/raft/soak.py --seed {seed} --count 1"
        raise HistoryFailed(f"seed {seed}: {what}\n{trace}\nat {cluster.time.now:.4f} s; again: {again}") from error


def _shape(seed: int) -> tuple[int, Settings]:
    """How many members there are, and how they are set: small limits, so that what is rare in life happens here."""
    random = Random(f"{seed}/shape")
    return random.choice([1, 3, 3, 3, 4, 5]), Settings(
        snapshot_entries=random.choice([20, 60, 10_000]),
        snapshot_retry_entries=10,
        kept_entries=random.choice([0, 5, 30]),
        segment_bytes=random.choice([2_000, 20_000, 4_000_000]),
        feature_level=random.choice([NEWEST_LEVEL - 1, NEWEST_LEVEL]),
    )


def _run(cluster: Cluster, favourite: str) -> Report:
    clients = [Client(cluster, number) for number in range(CLIENTS)]
    faults = Faults(cluster, favourite)
    cluster.time.run_until(TROUBLE_SECONDS)
    faults.heal()
    _wait_for_peace(cluster)
    for client in clients:
        client.is_active = False
    cluster.time.run_until(cluster.time.now + 3.0)
    _check_all_equal(cluster)
    _check_all_bounded(cluster)
    lost = cluster.checks.lost_keys
    history = [operation for client in clients for operation in client.history if operation.key not in lost]
    if why := why_not_linearizable(history):
        raise Violation(why)
    reads = sum(isinstance(operation.action, Read) for operation in history)
    return Report(cluster.seed, faults.counts, len(cluster.checks.agreed), len(cluster.checks.acknowledged), reads)


def _wait_for_peace(cluster: Cluster) -> None:
    """A leader, every member with all that was agreed on during the faults and a vote, the newest level, and a new write."""
    agreed, until = len(cluster.checks.agreed), cluster.time.now + PEACE_SECONDS
    written: list[int] = []
    while missing := _missing_for_peace(cluster, agreed) or (not written and "a new write"):
        if cluster.time.now >= until:
            raise Violation(f"{PEACE_SECONDS:.0f} s after the faults there is no peace: {missing} is missing")
        if missing == "a new write":
            _write(cluster, written)
        cluster.time.run_until(cluster.time.now + 0.1)


def _missing_for_peace(cluster: Cluster, agreed: int) -> str:
    leader = cluster.leader()
    if leader is None or leader.node is None:
        return "a leader"
    for name in leader.node.membership.addresses:
        host = cluster.hosts.get(name)
        if host is None or host.node is None:
            return f"the process on {name}"
        if host.machine.index < agreed:
            return f"{name}, at entry {host.machine.index} of {agreed},"
    if leader.node.membership.learners:
        return f"the vote of {leader.node.membership.learners[0][0]}"
    if leader.node.membership.feature_level < NEWEST_LEVEL:
        return "the newest feature level"
    return ""


def _write(cluster: Cluster, written: list[int]) -> None:
    leader = cluster.leader()
    if leader is None or leader.node is None:
        return

    def told(ticket: Ticket | None) -> None:
        if ticket is not None and ticket.index is not None:
            written.append(ticket.index)

    command = Put("peace", f"peace-{cluster.next_event()}")
    cluster.ask(leader, lambda node: node.propose(encode(command), node.term), told)


def _check_all_equal(cluster: Cluster) -> None:
    """Nothing moves any more: every member has everything, and nobody still waits for an answer."""
    leader, agreed = cluster.leader(), len(cluster.checks.agreed)
    if leader is None or leader.node is None:
        raise Violation("the leader went away in peace")
    for name in leader.node.membership.addresses:
        if cluster.hosts[name].machine.index != agreed:
            raise Violation(f"{name} stays at entry {cluster.hosts[name].machine.index} of {agreed}")
    if waiting := cluster.unanswered():
        raise Violation(f"nobody answers what was asked of {', '.join(waiting)}")


def _check_all_bounded(cluster: Cluster) -> None:
    """What a member keeps in memory doesn't grow with the length of its history."""
    settings = cluster.settings
    for host, node in cluster.running():
        journal = node._journal
        since_snapshot = journal.last.index - journal.snapshot.index
        if len(journal) - 1 > since_snapshot + settings.kept_entries:
            raise Violation(f"{host.name} keeps {len(journal) - 1} entries, {since_snapshot} of them since its snapshot")
        if since_snapshot > settings.snapshot_entries + MAX_ENTRIES_BESIDE_A_SNAPSHOT:
            raise Violation(f"{host.name} has taken no snapshot for {since_snapshot} entries")
        if waiting := len(node._tenure._waiting) + len(node._held):
            raise Violation(f"{host.name} holds on to {waiting} proposals and messages")
