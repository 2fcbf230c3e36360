"""Jobs: services whose tasks are to complete (semantics 7).

A replicated job completes as many runs as it has replicas, at most `max_concurrent` of them at a time; a global job one run
on every node. Each submission of another spec is another iteration and starts from nothing; other settings change the one
that is under way. A run that has failed is repeated as the restart policy says. When that says no the slot is given up, and
with it the iteration can't complete any more: nothing else takes its place.
"""

from __future__ import annotations

from itertools import count, islice

from stackd.base.ids import NodeId
from stackd.engine.dirty import Scope, SlotKey
from stackd.engine.draft import Draft
from stackd.engine.model import Service
from stackd.engine.orchestrate.fill import empty_slot, fill_slot
from stackd.engine.orchestrate.runs import runs_of, wanted_slots
from stackd.engine.orchestrate.slots import slots_of
from stackd.engine.tasks import remove_task, stop_task
from stackd.engine.taskstate import is_terminal


def reconcile_replicated(draft: Draft, service: Service, scope: Scope) -> None:
    """Start as many runs as are missing and may run at once; take back what is too much."""
    _end_earlier_iterations(draft, service, scope)
    runs = runs_of(draft, service, scope)
    wanted = service.settings.replicas
    missing = wanted - len(runs)
    if missing < 0:
        for slot in sorted(runs.active.values(), key=lambda slot: slot.key)[missing:]:
            del runs.active[slot.key]
            empty_slot(draft, slot, f"only {wanted} completions are wanted")
    starting = max(0, min(missing, (service.settings.max_concurrent or wanted) - runs.number_active))
    unused = (key for number in count(1) if not runs.have(key := (number, NodeId(""))))
    _fill(draft, service, list(islice(unused, starting)))
    for key, slot in slots_of(draft, service, scope).items():
        if not runs.have(key) and key[0] > wanted:
            empty_slot(draft, slot, f"only {wanted} completions are wanted")


def reconcile_global(draft: Draft, service: Service, scope: Scope) -> None:
    """Run once on every node that takes tasks; a node that joins later runs the job as well."""
    _end_earlier_iterations(draft, service, scope)
    runs = runs_of(draft, service, scope)
    _fill(draft, service, [key for key in wanted_slots(draft, service, scope) if not runs.have(key)])
    for (_, node_id), slot in slots_of(draft, service, scope).items():
        if node_id not in draft.nodes:
            empty_slot(draft, slot, "the node is gone")


def _fill(draft: Draft, service: Service, keys: list[SlotKey]) -> None:
    slots = slots_of(draft, service, set(keys))
    for key in draft.budgeted(service.id, keys):
        fill_slot(draft, service, key, slots.get(key))


def _end_earlier_iterations(draft: Draft, service: Service, scope: Scope) -> None:
    """What still runs of them goes with its record; what is over stays as history."""
    for slot in slots_of(draft, service, scope).values():
        for task in slot.tasks:
            if task.iteration == service.iteration:
                continue
            if is_terminal(draft.status_of(task.id).state):
                stop_task(draft, task, "the job has been started anew")
            else:
                remove_task(draft, task, "the job has been started anew")
