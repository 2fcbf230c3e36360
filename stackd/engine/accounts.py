"""The accounts of the nodes as a decision sees them: what the ledger says, with the decision's own changes.

A successor that waits for its predecessor on the same node is charged only with what it needs beyond that one, and counts as
no further task there: they never run at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from stackd.base.ids import NodeId, ServiceId, SpecDigest, TaskId
from stackd.base.time import MINUTE, Duration, Instant
from stackd.engine.draft import Draft
from stackd.engine.failures import failure_of
from stackd.engine.ledger import Charge, Usage, charge_of
from stackd.engine.model import Service, Task
from stackd.engine.rollout import config_of
from stackd.engine.schedule.nodes import Discount, NodeInfo
from stackd.engine.schedule.resources import minus, overlap, unreserved
from stackd.engine.view import View
from stackd.spec.stack import Resources, UpdateOrder

FAILURE_WINDOW = Duration(5 * MINUTE)
"""How long a failure counts against a node (semantics 12.6)."""


class Accounts:
    """One account per node, in the order of their ids. Groups that are placed charge them, so that the next one sees it."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._members: dict[ServiceId, Counter[NodeId]] = {}
        self._failures: dict[SpecDigest, Counter[NodeId]] = {}
        self._counted: list[NodeInfo] = []
        usage = {node.id: draft.ledger.usage(node.id) for node in draft.nodes.values()}
        for key in draft.changed_tasks():
            self._follow(usage, key)
        for task in draft.succeeding_tasks():
            if task.node_id in usage and (shared := shared_with_predecessor(draft, task)) is not None:
                used = usage[task.node_id]
                usage[task.node_id] = replace(used, reserved=minus(used.reserved, shared))
        self.nodes = [info for node_id in sorted(usage) if (info := _info(draft, node_id, usage[node_id])) is not None]
        self._by_id = {info.id: info for info in self.nodes}

    def _follow(self, usage: dict[NodeId, Usage], key: str) -> None:
        """Take over what this decision has changed about one task."""
        draft, ledger = self._draft, self._draft.ledger
        before, after = ledger.charge(TaskId(key)), _charge_now(draft, key)
        if before is not None and before.node_id in usage:
            usage[before.node_id] = usage[before.node_id].minus(before)
            self._members.setdefault(before.service_id, Counter())[before.node_id] -= before.live
        if after is not None and after.node_id in usage:
            usage[after.node_id] = usage[after.node_id].plus(after)
            self._members.setdefault(after.service_id, Counter())[after.node_id] += after.live
        failure = failure_of(draft.tasks.get(key), draft.statuses.get(key))
        if failure is not None and not ledger.failures.knows(key):
            self._failures.setdefault(failure.spec, Counter())[failure.node_id] += 1

    def count_for(self, service: Service, digest: SpecDigest) -> list[NodeInfo]:
        """The accounts with the counts that are about one group: active tasks of its service, recent failures of its spec.
        Costs what there is of them, however many nodes there are."""
        for info in self._counted:
            info.tasks_of_service = info.slots_of_service = info.recent_failures = 0
        members = self._members_of(service)
        failures = self._failures_of(digest)
        self._counted = [self._by_id[node_id] for node_id in sorted(members.keys() | failures.keys()) if node_id in self._by_id]
        for info in self._counted:
            info.tasks_of_service = info.slots_of_service = members[info.id]
            info.recent_failures = failures[info.id]
        return self.nodes

    def placed(self, node_ids: Iterable[NodeId]) -> None:
        """Nodes that the last group was given: its counts have changed there."""
        self._counted += [self._by_id[node_id] for node_id in set(node_ids)]

    def _members_of(self, service: Service) -> Counter[NodeId]:
        draft, ledger = self._draft, self._draft.ledger
        counts = Counter(
            {NodeId(node_id): ledger.members(service.id, NodeId(node_id)) for node_id in ledger.nodes_of(service.id)}
        )
        counts.update(self._members.get(service.id, Counter()))
        counts.subtract(task.node_id for task in draft.tasks_in_flux(service.id) if takes_over(draft, service, task))
        return counts

    def _failures_of(self, digest: SpecDigest) -> Counter[NodeId]:
        failures = self._draft.ledger.failures
        since = Instant(self._draft.now - FAILURE_WINDOW)
        counts = Counter({NodeId(one): failures.since(digest, NodeId(one), since) for one in failures.nodes_of(digest)})
        counts.update(self._failures.get(digest, Counter()))
        return counts


def _info(view: View, node_id: NodeId, used: Usage) -> NodeInfo | None:
    node, status = view.nodes.get(node_id), view.node_statuses.get(node_id)
    if node is None or status is None:
        return None
    available = unreserved(status.description.resources, used.reserved)
    return NodeInfo(node, status, available, set(used.ports), used.live, stopping=used.stopping)


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
