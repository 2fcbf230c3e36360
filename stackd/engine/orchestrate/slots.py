"""Slots: the places of a service that tasks come and go in (semantics 4).

A replicated service has slots 1..N, a global one has a slot per node. Everything here reads; the orchestrators, the restart
stage and the updater write.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stackd.base.ids import NodeId, SpecDigest
from stackd.engine.model import Availability, NodeState, Service, SpecRow, Task
from stackd.engine.restart_policy import may_restart
from stackd.engine.schedule.constraints import matches
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.digest import without_placement
from stackd.spec.stack import ServiceMode, TaskSpec

SlotKey = tuple[int, NodeId]
"""What identifies a slot within its service: number and "", or 0 and the node."""


def slot_key(service: Service, task: Task) -> SlotKey:
    if service.settings.mode is ServiceMode.GLOBAL:
        return 0, task.node_id
    return task.slot, NodeId("")


@dataclass(slots=True)
class Slot:
    """All tasks on record of one slot, oldest first."""

    key: SlotKey
    tasks: list[Task] = field(default_factory=list)

    @property
    def live(self) -> list[Task]:
        """The tasks that should run, now or later (SwarmKit: runnable)."""
        return [task for task in self.tasks if is_live(task)]

    @property
    def latest(self) -> Task:
        return self.tasks[-1]

    def is_held(self, task: Task) -> bool:
        """Whether the task is only prepared and starts when the updater says so."""
        if task.desired is not TaskState.READY:
            return False
        return task.gate is None or any(task.replaces == other.id for other in self.live)


def is_live(task: Task) -> bool:
    return task.desired <= TaskState.COMPLETE


def slots_of(view: View, service: Service) -> dict[SlotKey, Slot]:
    """The service's slots with at least one task on record, in the order of their keys."""
    slots: dict[SlotKey, Slot] = {}
    tasks = view.tasks_of_service(service.id)
    tasks.sort(key=lambda task: (task.slot, task.node_id if not task.slot else "", task.version, task.id))
    for task in tasks:
        key = slot_key(service, task)
        slot = slots.get(key)
        if slot is None:
            slot = slots[key] = Slot(key)
        slot.tasks.append(task)
    return slots


def is_finished(view: View, slot: Slot) -> bool:
    """Whether the slot counts as filled though nothing of it will run again: its last task is over (or being stopped) and
    its restart policy says no. Only a new spec replaces such a task, in its turn."""
    return not slot.live and slot.latest.desired is not TaskState.REMOVE and not may_restart(view, slot.latest)


def still_stopping(view: View, slot: Slot) -> Task | None:
    """The latest task of the slot that has been told to stop and hasn't yet."""
    return next((task for task in reversed(slot.tasks) if not is_live(task) and not is_down(view, task)), None)


def is_down(view: View, task: Task) -> bool:
    """Whether the task will not run on, as far as anybody can tell: it has ended, was never handed to a node, or its node
    is lost."""
    state = view.status_of(task.id).state
    if is_terminal(state):
        return True
    if state < TaskState.ASSIGNED and not is_live(task):
        return True
    return is_lost(view, task)


def is_lost(view: View, task: Task) -> bool:
    """Whether the task was handed to a node that is down or gone."""
    if not task.node_id:
        return False
    status = view.node_statuses.get(task.node_id)
    return status is None or status.state is NodeState.DOWN


def why_evicting(view: View, node_id: NodeId) -> str:
    """Why tasks have to leave the node, "" if they don't. Paused, unknown and disconnected nodes keep their tasks."""
    node = view.nodes.get(node_id)
    status = view.node_statuses.get(node_id)
    if node is None or status is None:
        return "the node is gone"
    if status.state is NodeState.DOWN:
        return "the node is down"
    return "the node is being drained" if node.availability is Availability.DRAIN else ""


def is_paused(view: View, node_id: NodeId) -> bool:
    """Whether the node is to be left as it is: whatever becomes of its labels, nothing comes and nothing goes."""
    node = view.nodes.get(node_id)
    return node is not None and node.availability is Availability.PAUSE


def why_leaving(view: View, task: Task) -> str:
    """Why the task has to leave its node, "" if it may stay: the node loses all tasks, or no longer satisfies the task's own
    constraints. Those count only on active nodes (semantics 14)."""
    if not task.node_id:
        return ""
    if reason := why_evicting(view, task.node_id):
        return reason
    if is_paused(view, task.node_id) or node_suits(view, spec_of(view, task.spec), task.node_id):
        return ""
    return "the node no longer satisfies the task's constraints"


class Wanted:
    """What a service wants its tasks to be; remembers the comparison with each other spec it meets."""

    def __init__(self, view: View, service: Service) -> None:
        self._view = view
        self._digest = service.spec
        self.spec = spec_of(view, service.spec)
        self._only_placement_differs: dict[SpecDigest, bool] = {}

    def is_clean(self, task: Task) -> bool:
        """Whether the task may stay: it has the wanted spec, or one that differs in placement only while its node satisfies
        the new constraints (semantics 8.2)."""
        if task.spec == self._digest:
            return True
        return self._differs_in_placement_only(task.spec) and self._suits(task.node_id)

    def _differs_in_placement_only(self, digest: SpecDigest) -> bool:
        known = self._only_placement_differs.get(digest)
        if known is None:
            row = self._view.specs.get(digest)
            known = row is not None and without_placement(row.spec) == without_placement(self.spec)
            self._only_placement_differs[digest] = known
        return known

    def _suits(self, node_id: NodeId) -> bool:
        return node_suits(self._view, self.spec, node_id)


def node_suits(view: View, spec: TaskSpec, node_id: NodeId) -> bool:
    """Whether the node exists and satisfies the constraints of `spec`."""
    node = view.nodes.get(node_id)
    status = view.node_statuses.get(node_id)
    return node is not None and status is not None and matches(spec.placement.constraints, node, status)


def takes_tasks(view: View, service: Service, spec: TaskSpec, slot: SlotKey) -> bool:
    """Whether the slot may get a new task. Slots of a replicated service always may: a node is looked for. A slot of a
    global service is its node, which has to suit and to be active."""
    if service.settings.mode is ServiceMode.REPLICATED:
        return True
    node_id = slot[1]
    node = view.nodes.get(node_id)
    active = node is not None and node.availability is Availability.ACTIVE
    return active and not why_evicting(view, node_id) and node_suits(view, spec, node_id)


def spec_of(view: View, digest: SpecDigest) -> TaskSpec:
    """The spec with this digest. A missing one is a broken state (LookupError), which freezes the service."""
    row: SpecRow | None = view.specs.get(digest)
    if row is None:
        raise LookupError(f"spec {digest} is not in the state")
    return row.spec
