"""Checks a state, and a step from one state to the next, against what must always hold.

Shared by the tests and the simulator (after each commit). A finding is a sentence; no findings is well.
What nodes do by themselves (crash, fail, vanish) is no violation: only what the engine decides is judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from stackd.base.ids import NodeId
from stackd.engine.check_allocation import check_allocation, check_placements
from stackd.engine.check_services import check_services
from stackd.engine.ledger import UNUSED, Usage, charge_of
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.move import is_mover
from stackd.engine.orchestrate.slots import Wanted, is_live, slots_of, takes_tasks, why_leaving
from stackd.engine.parts import Availability, NodeState
from stackd.engine.rollout import ACTIVE, config_of
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import UpdateOrder


def check_state(view: View) -> list[str]:
    """What is wrong with a state, whatever led to it."""
    return [
        *_check_references(view),
        *_check_slots(view),
        *_check_listeners(view),
        *_check_ledger(view),
        *check_allocation(view),
    ]


def _check_references(view: View) -> Iterator[str]:
    for service in view.services.values():
        if service.spec not in view.specs:
            yield f"{service.name} names the spec {service.spec}, which is missing"
        elif service.previous is not None and service.previous.spec not in view.specs:
            yield f"{service.name} could be rolled back to the spec {service.previous.spec}, which is missing"
    for task in view.tasks.values():
        if task.service_id not in view.services:
            yield f"task {task.id} belongs to the service {task.service_id}, which is missing"
        if task.spec not in view.specs:
            yield f"task {task.id} names the spec {task.spec}, which is missing"
        if TaskState.ASSIGNED <= view.status_of(task.id).state <= TaskState.RUNNING and not task.node_id:
            yield f"task {task.id} is assigned to no node"
    for status in view.statuses.values():
        if status.id not in view.tasks:
            yield f"there is a status of task {status.id}, which is missing"


def _check_slots(view: View) -> Iterator[str]:
    """A slot has one task that should run; beside it the one that it is updated to, and the one that it is moved to."""
    for service in view.services.values():
        for key, slot in slots_of(view, service).items():
            free = [task for task in slot.live if not slot.is_held(task) and task.desired is not TaskState.READY]
            rollout = view.rollouts.get(service.id)
            updates = rollout is not None or config_of(service, rollout).order is UpdateOrder.START_FIRST
            moves = any(is_mover(task) for task in slot.live)
            if len(free) > 1 + updates + moves:
                yield f"slot {key} of {service.name} has {len(free)} tasks that should run"


def _check_listeners(view: View) -> Iterator[str]:
    """No port of a node is held twice by tasks that run or start, as far as the node is known to be there."""
    for node in view.nodes.values():
        held: Counter[tuple[str, int]] = Counter()
        for task in view.tasks_of_node(node.id):
            row = view.specs.get(task.spec)
            if row is None or not TaskState.STARTING <= view.status_of(task.id).state <= TaskState.RUNNING:
                continue
            held.update((port.protocol, port.published) for port in row.spec.ports if port.published)
        for (protocol, port), count in held.items():
            if count > 1:
                yield f"node {node.id} has {count} tasks on port {port}/{protocol}"


def _check_ledger(view: View) -> Iterator[str]:
    """The derived accounts say what a count of all tasks says."""
    counted: dict[NodeId, Usage] = {}
    for task in view.tasks.values():
        charge = charge_of(task, view.statuses.get(task.id), view.specs)
        if charge is not None:
            counted[charge.node_id] = counted.get(charge.node_id, UNUSED).plus(charge)
    for node in view.nodes.values():
        if view.ledger.usage(node.id) != counted.get(node.id, UNUSED):
            yield f"the account of node {node.id} does not say what its tasks take up"


def check_transition(old: View, new: View) -> list[str]:
    """What is wrong with the step from one state to the next."""
    return [
        *_check_monotonic(old, new),
        *_check_assignments(old, new),
        *_check_floor(old, new),
        *check_placements(old, new),
        *check_services(old, new),
    ]


def _check_monotonic(old: View, new: View) -> Iterator[str]:
    if new.now < old.now:
        yield "cluster time went back"
    for before in old.tasks.values():
        after = new.tasks.get(before.id)
        if after is None:
            continue
        if after.desired < before.desired:
            yield f"the desired state of task {before.id} fell from {before.desired.word} to {after.desired.word}"
        if before.node_id and after.node_id != before.node_id:
            yield f"task {before.id} moved from node {before.node_id} to {after.node_id}"
        if after.spec != before.spec or after.slot != before.slot:
            yield f"task {before.id} changed what it is"
    for status in old.statuses.values():
        later = new.statuses.get(status.id)
        if later is not None and later.state < status.state:
            yield f"task {status.id} went back from {status.state.word} to {later.state.word}"


def _check_assignments(old: View, new: View) -> Iterator[str]:
    for task in new.tasks.values():
        was = old.status_of(task.id).state
        now = new.status_of(task.id).state
        if was >= TaskState.ASSIGNED or not TaskState.ASSIGNED <= now <= TaskState.RUNNING:
            continue
        node = new.nodes.get(task.node_id)
        status = new.node_statuses.get(task.node_id)
        if node is None or status is None or status.state is not NodeState.READY:
            yield f"task {task.id} was given to node {task.node_id}, which is not ready"
        elif node.availability is not Availability.ACTIVE:
            yield f"task {task.id} was given to node {task.node_id}, which is set to {node.availability}"


def _check_floor(old: View, new: View) -> Iterator[str]:
    """Tasks taken down by an update are at most `parallelism` slots at once. Taking down for another reason (scaling,
    eviction, removal, a service frozen) is not the updater's doing."""
    for service in new.services.values():
        taken = _slots_taken_down(old, new, service)
        if not taken:
            continue
        config = config_of(service, new.rollouts.get(service.id))
        width = config.parallelism or len(slots_of(new, service))
        moving = _slots_in_transition(new, service)
        if moving > width:
            yield f"{moving} slots of {service.name} are in transition, its update allows {width}"


def _slots_taken_down(old: View, new: View, service: Service) -> int:
    """Slots in which this step told a running task to stop for a successor that doesn't run yet. An old task that is told
    to stop because its successor runs takes nothing down."""
    rollout = new.rollouts.get(service.id)
    if service.removing or rollout is None or rollout.state not in ACTIVE:
        return 0
    return sum(
        any(_was_replaced(old, new, task) for task in slot.tasks)
        and not any(new.status_of(task.id).state is TaskState.RUNNING for task in slot.live)
        for slot in slots_of(new, service).values()
    )


def _was_replaced(old: View, new: View, task: Task) -> bool:
    """Whether this step took down a running task that could have stayed."""
    before = old.tasks.get(task.id)
    if before is None or not is_live(before) or task.desired is not TaskState.SHUTDOWN:
        return False
    return not why_leaving(new, task) and new.status_of(task.id).state is TaskState.RUNNING


def _slots_in_transition(view: View, service: Service) -> int:
    """Slots whose new task has been let go by the updater and doesn't run yet. What was begun by an update that was overtaken
    is on its way only once it has been started; a slot whose node takes no more tasks is no longer the updater's."""
    moving: set[tuple[int, NodeId]] = set()
    wanted = Wanted(view, service)
    for key, slot in slots_of(view, service).items():
        for task in slot.live if takes_tasks(view, service, wanted.spec, key) else ():
            state = view.status_of(task.id).state
            let_go = task.replaces and not slot.is_held(task) and state < TaskState.RUNNING
            if let_go and (wanted.is_clean(task) or state >= TaskState.STARTING):
                moving.add(key)
    return len(moving)
