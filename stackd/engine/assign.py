"""Gives waiting tasks a node: fills in the accounts of the nodes, lets `schedule` place group by group, writes the result.

A task that can't be placed stays PENDING with a reason code and a sentence; it is looked at again when a node changes or
room appears, never by a timer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from stackd.base.ids import NodeId, ServiceId, SpecDigest, TaskId
from stackd.base.time import MINUTE, Duration
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.ledger import Charge, Usage, charge_of, holds
from stackd.engine.model import Service, Task, TaskStatus
from stackd.engine.orchestrate.slots import is_live, spec_of
from stackd.engine.rollout import config_of
from stackd.engine.schedule.nodes import Discount, NodeInfo
from stackd.engine.schedule.placement import Group, Verdict, place
from stackd.engine.schedule.resources import beyond, minus
from stackd.engine.tasks import task_name
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import UpdateOrder

FAILURE_WINDOW = Duration(5 * MINUTE)
"""How long a failure counts against a node (semantics 12.6)."""

PART = 200
"""Tasks of a group that are placed before the room in the entry is looked at again."""

Guard = Callable[[ServiceId, Callable[[], None]], None]
"""Runs a piece of work for one service so that its failure touches no other."""


def assign(draft: Draft, dirty: Dirty, guard: Guard) -> None:
    """Place the waiting tasks of the dirty services."""
    groups = _groups(draft, dirty)
    if not groups:
        return
    accounts = _accounts(draft)
    for (service_id, digest), tasks in groups.items():
        guard(service_id, partial(_assign_group, draft, service_id, digest, tasks, accounts))


def _groups(draft: Draft, dirty: Dirty) -> dict[tuple[ServiceId, SpecDigest], list[Task]]:
    """Waiting tasks by service and spec, the oldest service first."""
    waiting = [task for task in draft.waiting_tasks() if is_live(task) and task.service_id in dirty.services]
    waiting.sort(key=lambda task: (task.created_at, task.service_id, task.slot, task.id))
    groups: dict[tuple[ServiceId, SpecDigest], list[Task]] = {}
    for task in waiting:
        groups.setdefault((task.service_id, task.spec), []).append(task)
    return groups


def _assign_group(
    draft: Draft, service_id: ServiceId, digest: SpecDigest, tasks: list[Task], accounts: dict[NodeId, NodeInfo]
) -> None:
    service = draft.services.get(service_id)
    if service is None or service.frozen:
        return
    _count_for_group(draft, service, digest, accounts)
    spec = spec_of(draft, digest)
    for part in _parts(draft, service_id, tasks):
        discounts = {task.id: found for task in part if (found := _discount(draft, service, task)) is not None}
        placements = place(Group(service=service, spec=spec, tasks=part), list(accounts.values()), discounts)
        for task in part:
            if task.id in placements.assigned:
                _assign_task(draft, task, placements.assigned[task.id])
        _leave_waiting(
            draft, service, [(task, placements.unplaced[task.id]) for task in part if task.id in placements.unplaced]
        )


def _parts(draft: Draft, service_id: ServiceId, tasks: list[Task]) -> Iterator[list[Task]]:
    """Tasks made in this decision, which are in the entry anyway, then as many of the others as the entry has room for."""
    fresh = [task for task in tasks if draft.is_new(task)]
    if fresh:
        yield fresh
    rest = [task for task in tasks if not draft.is_new(task)]
    yield from draft.budgeted(service_id, [rest[at : at + PART] for at in range(0, len(rest), PART)])


def _assign_task(draft: Draft, task: Task, node_id: NodeId) -> None:
    draft.put(msgspec.structs.replace(task, node_id=node_id))
    status = draft.status_of(task.id)
    draft.put(
        msgspec.structs.replace(
            status, state=TaskState.ASSIGNED, at=draft.now, message="assigned to a node", error="", reason=""
        )
    )


def _leave_waiting(draft: Draft, service: Service, refused: list[tuple[Task, Verdict]]) -> None:
    """Say why on each task; an event tells once per service that something could not be placed."""
    news = False
    for task, verdict in refused:
        status = draft.status_of(task.id)
        news = news or not status.reason
        draft.put(
            msgspec.structs.replace(
                status,
                state=TaskState.PENDING,
                at=status.at if status.state is TaskState.PENDING else draft.now,
                message="waiting for a node",
                error=verdict.sentence,
                reason=verdict.code,
            )
        )
    if news:
        task, verdict = refused[0]
        others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        draft.event("task.unplaceable", task_name(service, task) + others, verdict.sentence, stack=service.stack)


def _discount(view: View, service: Service, task: Task) -> Discount | None:
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
    config = config_of(service, view.rollouts.get(service.id))
    return None if config.order is UpdateOrder.START_FIRST else view.tasks.get(task.replaces)


def _accounts(draft: Draft) -> dict[NodeId, NodeInfo]:
    """The account of every node: what the ledger says, with the changes of this decision. A successor that waits for its
    predecessor is charged only with what it needs beyond that."""
    usage = {node.id: draft.ledger.usage(node.id) for node in draft.nodes.values()}
    for key in draft.changed_tasks():
        _rebook(usage, draft.ledger.charge(TaskId(key)), _charge_now(draft, key))
    for task in draft.succeeding_tasks():
        if task.node_id in usage and (shared := _shared(draft, task)) is not None:
            usage[task.node_id] = usage[task.node_id].minus(shared)
    accounts: dict[NodeId, NodeInfo] = {}
    for node_id in sorted(usage):
        node, status = draft.nodes.get(node_id), draft.node_statuses.get(node_id)
        if node is not None and status is not None:
            used = usage[node_id]
            available = minus(status.description.resources, used.reserved)
            accounts[node_id] = NodeInfo(node, status, available, set(used.ports), used.live)
    return accounts


def _charge_now(view: View, key: str) -> Charge | None:
    return charge_of(view.tasks.get(key), view.statuses.get(key), view.specs)


def _rebook(usage: dict[NodeId, Usage], before: Charge | None, after: Charge | None) -> None:
    if before is not None and before.node_id in usage:
        usage[before.node_id] = usage[before.node_id].minus(before)
    if after is not None and after.node_id in usage:
        usage[after.node_id] = usage[after.node_id].plus(after)


def _shared(view: View, task: Task) -> Charge | None:
    """What a successor and its predecessor both hold on one node, though they never will at once."""
    service = view.services.get(task.service_id)
    predecessor = _predecessor(view, service, task) if service is not None else None
    own = _charge_now(view, task.id)
    if predecessor is None or own is None or predecessor.node_id != task.node_id:
        return None
    held = _charge_now(view, predecessor.id)
    if held is None:
        return None
    both = minus(own.reserved, beyond(own.reserved, held.reserved))
    return Charge(task.node_id, both, frozenset(), live=False)


def _count_for_group(draft: Draft, service: Service, digest: SpecDigest, accounts: dict[NodeId, NodeInfo]) -> None:
    """The two counts of an account that are about the group: active tasks of its service, recent failures of its spec."""
    tasks = draft.tasks_of_service(service.id)
    active = Counter(task.node_id for task in tasks if is_live(task) and holds(task, draft.statuses.get(task.id)))
    failures = Counter(
        task.node_id for task in tasks if task.spec == digest and _failed_recently(draft, draft.status_of(task.id))
    )
    for node_id, info in accounts.items():
        info.tasks_of_service = active[node_id]
        info.recent_failures = failures[node_id]


def _failed_recently(draft: Draft, status: TaskStatus) -> bool:
    return status.state in (TaskState.FAILED, TaskState.REJECTED) and status.at > draft.now - FAILURE_WINDOW
