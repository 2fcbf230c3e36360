"""Slots: the places of a service that tasks come and go in (semantics 4).

A replicated service has slots 1..N, a global one has a slot per node. Everything here reads; the orchestrators, the restart
stage and the updater write.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stackd.base.ids import NodeId, SpecDigest
from stackd.engine.dirty import EVERYWHERE, Scope, SlotKey, key_of
from stackd.engine.model import Node, Service, SpecRow, Task
from stackd.engine.orchestrate.fence import fence_end
from stackd.engine.orchestrate.room import has_room
from stackd.engine.parts import Availability, NodeState
from stackd.engine.restart_policy import may_restart
from stackd.engine.schedule.constraints import matches
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.digest import without_placement
from stackd.spec.stack import TaskSpec, UpdateOrder


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
        """The newest task whose record is kept: one that was only prepared and dropped says nothing about the slot. The newest
        of all where all of them go."""
        return next((task for task in reversed(self.tasks) if task.desired is not TaskState.REMOVE), self.tasks[-1])

    def is_held(self, task: Task) -> bool:
        """Whether the task is only prepared and starts when the updater says so. One that is moved to is not the updater's."""
        if task.desired is not TaskState.READY or task.order is UpdateOrder.START_FIRST:
            return False
        return task.gate is None or any(task.replaces == other.id for other in self.live)


def is_live(task: Task) -> bool:
    return task.desired <= TaskState.COMPLETE


def slots_of(view: View, service: Service, scope: Scope = None) -> dict[SlotKey, Slot]:
    """The service's slots in `scope` with at least one task on record, in the order of their keys."""
    if scope is None:
        return grouped(view.tasks_of_service(service.id))
    return grouped(view.tasks_in_slots(service.id, scope))


def grouped(tasks: list[Task]) -> dict[SlotKey, Slot]:
    """Tasks of one service by slot, in the order of the slots' keys and oldest first. Sorts the list it is given."""
    slots: dict[SlotKey, Slot] = {}
    tasks.sort(key=lambda task: (key_of(task), task.version, task.id))
    for task in tasks:
        key = key_of(task)
        slot = slots.get(key)
        if slot is None:
            slot = slots[key] = Slot(key)
        slot.tasks.append(task)
    return slots


def nodes_in(view: View, scope: Scope) -> list[Node]:
    """The nodes whose slots are in `scope`, in the order of their ids."""
    if scope is None:
        return sorted(view.nodes.values(), key=lambda node: node.id)
    return [node for _, node_id in sorted(scope) if (node := view.nodes.get(node_id)) is not None]


def in_flux(view: View, service: Service, scope: Scope) -> Scope:
    """`scope` with the slots in which something takes the place of something else, or waits to start."""
    if scope is None:
        return None
    return scope | {key_of(task) for task in view.tasks_in_flux(service.id)}


def is_finished(view: View, slot: Slot) -> bool:
    """Whether the slot counts as filled though nothing of it will run again: its last task is over (or being stopped) and
    its restart policy says no. Only a new spec replaces such a task, in its turn."""
    return not slot.live and slot.latest.desired is not TaskState.REMOVE and not may_restart(view, slot.latest)


def still_stopping(view: View, slot: Slot) -> Task | None:
    """The task of the slot that has been told to stop and is longest in the way: one that was started before one that was not,
    and then the latest."""
    stopping = [
        present
        for task in slot.tasks
        if (present := view.tasks.get(task.id)) is not None and not is_live(present) and not is_down(view, present)
    ]
    return max(reversed(stopping), key=lambda task: view.status_of(task.id).state >= TaskState.STARTING, default=None)


def refreshed(view: View, service: Service, slot: Slot) -> Slot:
    """The slot as it is by now, with what has been made since it was read."""
    return slots_of(view, service, {slot.key}).get(slot.key) or Slot(slot.key)


def is_down(view: View, task: Task) -> bool:
    """Whether the task will not run on, as far as anybody can tell: it has ended, was never handed to a node, or its node
    is lost. A fenced task that was lost is down only when its node has certainly stopped it."""
    state = view.status_of(task.id).state
    if state < TaskState.ASSIGNED and not is_live(task):
        return True
    if not is_terminal(state) and not is_lost(view, task):
        return False
    return fence_end(view, task) <= view.now


def has_completed(view: View, task: Task) -> bool:
    """Whether the task is a run of a job that has succeeded: it is over, and nothing follows. One whose record goes doesn't
    count, though it may have come to its end before it was stopped."""
    counts = task.iteration and task.desired is not TaskState.REMOVE
    return bool(counts) and view.status_of(task.id).state is TaskState.COMPLETE


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
    constraints, or has become too small for it. The last two count only on active nodes (semantics 14)."""
    if not task.node_id:
        return ""
    if reason := why_evicting(view, task.node_id):
        return reason
    if is_paused(view, task.node_id):
        return ""
    if not node_suits(view, spec_of(view, task.spec), task.node_id):
        return "the node no longer satisfies the task's constraints"
    return "" if has_room(view, task) else "the node no longer has room for the task"


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
    if service.settings.mode not in EVERYWHERE:
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
