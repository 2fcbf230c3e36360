"""Evening out what runs when a node has joined or come back: optional, a few tasks at a time.

A task is moved only from a node that has at least two tasks of its service more than another one which would take it, and the
task that takes over has to run before the old one is stopped. A node must have been ready for a while first, so that one that
comes and goes moves nothing. A task that could not be moved is left where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from stackd.base.ids import NodeId, ServiceId
from stackd.base.time import SECOND, Duration, after
from stackd.engine.accounts import Accounts
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.move import earlier_mover, is_mover, move_task
from stackd.engine.orchestrate.slots import Slot, Wanted, is_live, slots_of
from stackd.engine.rollout import active_rollout
from stackd.engine.schedule.filters import concerned, refusal
from stackd.engine.schedule.nodes import Demand, NodeInfo
from stackd.engine.tasks import task_name
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import ServiceMode

SETTLED_AFTER = Duration(30 * SECOND)
"""How long a node has to be ready before tasks are moved to it."""

WORTH = 2
"""The difference between two nodes from which on a move makes it smaller."""

Guard = Callable[[ServiceId, Callable[[], None]], None]


def rebalance(draft: Draft, dirty: Dirty, guard: Guard) -> None:
    """Begin as many moves as the cluster's setting leaves room for."""
    most = draft.cluster.rebalance_tasks if draft.cluster is not None else 0
    if not most:
        return
    budget = most - sum(is_mover(task) and is_live(task) for task in draft.succeeding_tasks())
    accounts: Accounts | None = None
    for service in _candidates(draft, dirty):
        if budget <= 0 or draft.full:
            return
        accounts = accounts or Accounts(draft)
        move = _Move(draft, service, accounts)
        guard(service.id, move.begin)
        budget -= move.begun


def _candidates(draft: Draft, dirty: Dirty) -> Iterator[Service]:
    """The services of this decision; all of them if a node has changed."""
    services = list(draft.services.values()) if dirty.room else map(draft.services.get, list(dirty.services))
    yield from (service for service in services if service is not None and _is_calm(draft, service))


def _is_calm(draft: Draft, service: Service) -> bool:
    """Whether nothing else is going on with the service that moves tasks, and moving them is allowed at all."""
    row = draft.specs.get(service.spec)
    return (
        row is not None
        and not row.spec.fence
        and not row.spec.placement.spread
        and service.settings.mode is ServiceMode.REPLICATED
        and not service.removing
        and not service.frozen
        and active_rollout(draft, service) is None
    )


class _Move:
    """The search for one task of a service that would be better on another node."""

    def __init__(self, draft: Draft, service: Service, accounts: Accounts) -> None:
        self._draft = draft
        self._service = service
        self._accounts = accounts
        self._wanted = Wanted(draft, service)
        self._demand = Demand.of(self._wanted.spec)
        self._filters = concerned(self._demand)
        self.begun = False

    def begin(self) -> None:
        self._accounts.count_for(self._service, self._service.spec)
        nodes = self._accounts.all()
        counts = Counter({info.id: info.tasks_of_service for info in nodes})
        counts.subtract(self._leaving())
        target = min((counts[info.id] for info in nodes if self._takes(info)), default=None)
        if target is None:
            return
        for node_id, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            if count - target < WORTH:
                return
            if (found := self._movable(node_id)) is not None:
                self._move(*found)
                return

    def _leaving(self) -> list[NodeId]:
        """The nodes of the tasks that are being moved already."""
        movers = [task for task in self._draft.tasks_in_flux(self._service.id) if is_mover(task) and is_live(task)]
        old = (self._draft.tasks.get(task.replaces) for task in movers)
        return [task.node_id for task in old if task is not None and is_live(task)]

    def _takes(self, info: NodeInfo) -> bool:
        """Whether the node would take one more task, now; one that has only just become ready is asked again later."""
        if refusal(self._filters, self._demand, info) is not None:
            return False
        settled = after(info.status.at, SETTLED_AFTER)
        self._draft.wake(settled, self._service.id)
        return settled <= self._draft.now

    def _movable(self, node_id: NodeId) -> tuple[Slot, Task] | None:
        """A task on the node that runs as wanted, alone in its slot, and has not been tried to move before."""
        for slot in reversed(slots_of(self._draft, self._service).values()):
            live = slot.live
            task = live[0] if len(live) == 1 and live[0].node_id == node_id else None
            if task is None or not self._wanted.is_clean(task) or task.gate is not None or task.replaces:
                continue
            if self._draft.status_of(task.id).state is TaskState.RUNNING and earlier_mover(slot, task) is None:
                return slot, task
        return None

    def _move(self, slot: Slot, task: Task) -> None:
        move_task(self._draft, self._service, slot, task, task.restarts, "rebalanced")
        name = task_name(self._service, task)
        self._draft.event("task.rebalanced", name, "moves to a node with fewer tasks", stack=self._service.stack)
        self.begun = True
