"""The accounts of the nodes as a decision sees them: what the ledger says, with the decision's own changes.

A successor that waits for its predecessor on the same node is charged only with what it needs beyond that one, and counts as
no further task there: they never run at once.

An account is made when its node comes up, so that a decision costs what it places and not what the cluster has. The order in
which nodes come up is a fork of the ledger's; it says what is true of every node whose account the present group has not seen.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from stackd.base.ids import NodeId, ServiceId, SpecDigest, TaskId
from stackd.base.time import MINUTE, Duration, Instant
from stackd.engine.draft import Draft
from stackd.engine.failures import failure_of
from stackd.engine.ledger import Charge, Usage, charge_of
from stackd.engine.model import Service, Task
from stackd.engine.rollout import config_of
from stackd.engine.schedule.filters import is_open
from stackd.engine.schedule.nodes import Discount, NodeInfo
from stackd.engine.schedule.resources import NOTHING, minus, overlap, unreserved
from stackd.engine.schedule.spread import Candidate, candidate
from stackd.engine.view import View
from stackd.spec.stack import Resources, UpdateOrder

FAILURE_WINDOW = Duration(5 * MINUTE)
"""How long a failure counts against a node (semantics 12.6)."""


class Accounts:
    """One account per node that comes up. Groups that are placed charge them, so that the next one sees it."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._usage: dict[NodeId, Usage] = {}
        self._members: dict[ServiceId, Counter[str]] = {}
        self._failures: dict[SpecDigest, Counter[NodeId]] = {}
        self._order = draft.ledger.by_load.fork()
        self._listed: dict[NodeId, int] = {}
        self._accounts: dict[NodeId, NodeInfo] = {}
        self._seen: dict[NodeId, NodeInfo] = {}
        self._members_now: Counter[str] = Counter()
        self._failures_now: Counter[NodeId] = Counter()
        for key in draft.changed_tasks():
            self._follow(key)
        for key in draft.changed_nodes():
            self._follow_node(NodeId(key))

    # What the decision has changed so far.

    def _follow(self, key: str) -> None:
        """Take over what this decision has changed about one task."""
        draft, ledger = self._draft, self._draft.ledger
        before, after = ledger.charge(TaskId(key)), _charge_now(draft, key)
        if before != after:
            if before is not None:
                self._use(before.node_id, self._used(before.node_id).minus(before))
                self._members.setdefault(before.service_id, Counter())[before.node_id] -= before.live
            if after is not None:
                self._use(after.node_id, self._used(after.node_id).plus(after))
                self._members.setdefault(after.service_id, Counter())[after.node_id] += after.live
        failure = failure_of(draft.tasks.get(key), draft.statuses.get(key))
        if failure is not None and not ledger.failures.knows(key):
            self._failures.setdefault(failure.spec, Counter())[failure.node_id] += 1

    def _follow_node(self, node_id: NodeId) -> None:
        """Take over what this decision has changed about one node."""
        load = self._used(node_id).live
        if is_open(self._draft.nodes.get(node_id), self._draft.node_statuses.get(node_id)):
            self._order.add(load, node_id)
        else:
            self._order.discard(load, node_id)

    def _used(self, node_id: NodeId) -> Usage:
        return self._usage.get(node_id) or self._draft.ledger.usage(node_id)

    def _use(self, node_id: NodeId, usage: Usage) -> None:
        self._usage[node_id] = usage
        self._list(node_id, usage.live)

    def _list(self, node_id: NodeId, load: int) -> None:
        """Let the node come up as one with so many tasks, if it is open."""
        before = self._load(node_id)
        if load != before and self._order.discard(before, node_id):
            self._order.add(load, node_id)
        self._listed[node_id] = load

    def _load(self, node_id: NodeId) -> int:
        known = self._listed.get(node_id)
        return self._draft.ledger.usage(node_id).live if known is None else known

    # One group after the other.

    def count_for(self, service: Service, digest: SpecDigest) -> None:
        """Begin with another group: active tasks of its service and recent failures of its spec are what counts now."""
        for node_id, info in self._seen.items():
            self._list(node_id, info.tasks_total)
        self._seen = {}
        self._members_now = self._members_of(service)
        self._failures_now = self._failures_of(digest)

    def placed(self, service_id: ServiceId, node_ids: Iterable[NodeId]) -> None:
        """Nodes that tasks of the service were given: it has that many more there, also for its other groups."""
        self._members.setdefault(service_id, Counter()).update(node_ids)

    def _members_of(self, service: Service) -> Counter[str]:
        draft = self._draft
        counts: Counter[str] = Counter(dict(draft.ledger.members_of(service.id)))
        counts.update(self._members.get(service.id, Counter()))
        counts.subtract(task.node_id for task in draft.tasks_in_flux(service.id) if takes_over(draft, service, task))
        return counts

    def _failures_of(self, digest: SpecDigest) -> Counter[NodeId]:
        failures = self._draft.ledger.failures
        since = Instant(self._draft.now - FAILURE_WINDOW)
        counts = Counter({NodeId(one): failures.since(digest, NodeId(one), since) for one in failures.nodes_of(digest)})
        counts.update(self._failures.get(digest, Counter()))
        return counts

    # The nodes as `place` asks for them.

    def get(self, node_id: NodeId) -> NodeInfo | None:
        """The account of a node as the present group sees it."""
        info = self._seen.get(node_id)
        if info is not None:
            return info
        info = self._accounts.get(node_id) or self._open_account(node_id)
        if info is not None:
            info.tasks_of_service = info.slots_of_service = self._members_now[node_id]
            info.recent_failures = self._failures_now[node_id]
            self._seen[node_id] = info
        return info

    def all(self) -> list[NodeInfo]:
        """The accounts of all nodes, in the order of their ids."""
        node_ids = sorted(node.id for node in self._draft.nodes.values())
        return [info for node_id in node_ids if (info := self.get(node_id)) is not None]

    def ranked(self) -> Iterator[Candidate]:
        """The open nodes, best first, and among them perhaps some that are not. Failures are told by the account only."""
        return heapq.merge(sorted(map(candidate, self._seen.values())), self._unseen(frozenset(self._seen)))

    def _unseen(self, seen: frozenset[NodeId]) -> Iterator[Candidate]:
        """The other nodes by what the order and the counts say: first those that have no task of the service."""
        members = {NodeId(node_id): count for node_id, count in self._members_now.items() if count > 0 and node_id not in seen}
        for load, key in self._order:
            node_id = NodeId(key)
            if node_id not in members and node_id not in seen:
                yield (0, 0, load), node_id
        for level in sorted(set(members.values())):
            there = (node_id for node_id, count in members.items() if count == level)
            yield from sorted(((0, level, self._load(node_id)), node_id) for node_id in there)

    def _open_account(self, node_id: NodeId) -> NodeInfo | None:
        draft = self._draft
        node, status = draft.nodes.get(node_id), draft.node_statuses.get(node_id)
        if node is None or status is None:
            return None
        used = self._used(node_id)
        reserved = used.reserved
        for task in draft.succeeding_on(node_id):
            reserved = minus(reserved, shared_with_predecessor(draft, task) or NOTHING)
        available = unreserved(status.description.resources, reserved)
        info = NodeInfo(node, status, available, set(used.ports), used.live, stopping=used.stopping)
        self._accounts[node_id] = info
        return info


def discount_of(view: View, service: Service, task: Task) -> Discount | None:
    """What the task this one waits for holds: free for it, since it starts only when that one has stopped."""
    predecessor = _predecessor(view, service, task)
    held = _charge_now(view, predecessor.id) if predecessor is not None else None
    if held is None:
        return None
    return Discount(node_id=held.node_id, resources=held.reserved, ports=held.ports, counted=held.live)


def _predecessor(view: View, service: Service, task: Task) -> Task | None:
    if task.gate is not None and task.gate.after:
        return view.tasks.get(task.gate.after)
    if not task.replaces:
        return None
    order = task.order or config_of(service, view.rollouts.get(service.id)).order
    return None if order is UpdateOrder.START_FIRST else view.tasks.get(task.replaces)


def _charge_now(view: View, key: str) -> Charge | None:
    return charge_of(view.tasks.get(key), view.statuses.get(key), view.specs)


def shared_with_predecessor(view: View, task: Task) -> Resources | None:
    """What a successor and its predecessor both hold on one node, though they never will at once."""
    service = view.services.get(task.service_id)
    predecessor = _predecessor(view, service, task) if service is not None else None
    own = _charge_now(view, task.id)
    if predecessor is None or own is None or predecessor.node_id != task.node_id:
        return None
    held = _charge_now(view, predecessor.id)
    if held is None:
        return None
    return overlap(own.reserved, held.reserved)


def takes_over(view: View, service: Service, task: Task) -> bool:
    """Whether the task is prepared on the node of one that it will take the place of: they never run at once."""
    predecessor = _predecessor(view, service, task)
    if predecessor is None or predecessor.node_id != task.node_id:
        return False
    own, held = _charge_now(view, task.id), _charge_now(view, predecessor.id)
    return own is not None and held is not None and own.live and held.live
