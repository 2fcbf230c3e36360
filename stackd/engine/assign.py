"""Gives waiting tasks a node: fills in the accounts of the nodes, lets `schedule` place group by group, writes the result.

A task that can't be placed stays PENDING with a reason code and a sentence; it is looked at again when a node changes or
room appears, never by a timer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from stackd.base.ids import NodeId, ServiceId, SpecDigest
from stackd.engine.accounts import Accounts, discount_of
from stackd.engine.allocate.networks import NODE_LOCAL, OVERLAY
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.give_way import give_way
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.slots import is_live, spec_of
from stackd.engine.schedule.placement import Group, Verdict, place
from stackd.engine.schedule.resources import Generic
from stackd.engine.tasks import task_name
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import TaskSpec

PART = 200
"""Tasks of a group that are placed before the room in the entry is looked at again."""

Guard = Callable[[ServiceId, Callable[[], None]], None]
"""Runs a piece of work for one service so that its failure touches no other."""


def assign(draft: Draft, dirty: Dirty, guard: Guard) -> None:
    """Place the waiting tasks of the dirty services."""
    groups = _groups(draft, dirty)
    if not groups:
        return
    accounts = Accounts(draft)
    for (service_id, digest), tasks in groups.items():
        guard(service_id, partial(_assign_group, draft, service_id, digest, tasks, accounts))


def _groups(draft: Draft, dirty: Dirty) -> dict[tuple[ServiceId, SpecDigest], list[Task]]:
    """Waiting tasks by service and spec, the oldest service first."""
    waiting = [
        task
        for task in draft.waiting_tasks()
        if is_live(task) and task.service_id in dirty.services and task.id not in dirty.unaddressed
    ]
    waiting.sort(key=lambda task: (task.created_at, task.service_id, task.slot, task.id))
    groups: dict[tuple[ServiceId, SpecDigest], list[Task]] = {}
    for task in waiting:
        groups.setdefault((task.service_id, task.spec), []).append(task)
    return groups


def _assign_group(draft: Draft, service_id: ServiceId, digest: SpecDigest, tasks: list[Task], accounts: Accounts) -> None:
    service = draft.services.get(service_id)
    if service is None or service.frozen:
        return
    accounts.count_for(service, digest)
    spec = spec_of(draft, digest)
    for part in _parts(draft, service_id, tasks):
        discounts = {task.id: found for task in part if (found := discount_of(draft, service, task)) is not None}
        group = Group(service=service, spec=spec, tasks=part, network_drivers=_network_drivers(draft, spec))
        placements = place(group, accounts, discounts)
        if placements.unplaced:
            give_way(draft, group, accounts, placements)
        accounts.placed(service_id, placements.assigned.values())
        for task in part:
            if task.id in placements.assigned:
                _assign_task(draft, task, placements.assigned[task.id], placements.given.get(task.id, ()))
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


def _network_drivers(view: View, spec: TaskSpec) -> list[str]:
    """The drivers that a node needs for the networks of a spec; those that stackd or every node has are not asked for."""
    rows = (view.networks.get(one.network) for one in spec.networks)
    return sorted({row.spec.driver for row in rows if row is not None} - {OVERLAY, *NODE_LOCAL})


def _assign_task(draft: Draft, task: Task, node_id: NodeId, given: Generic) -> None:
    task = draft.tasks.get(task.id) or task  # it may have been given its addresses since it was made
    draft.put(msgspec.structs.replace(task, node_id=node_id, generic=given))
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
