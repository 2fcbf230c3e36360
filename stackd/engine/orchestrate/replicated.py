"""Fills the slots of replicated services and empties those that are too many (semantics 4 and 5).

New tasks get the present spec at once: scaling up during an update does not go through the updater.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from itertools import count

from stackd.base.ids import NodeId
from stackd.engine.dirty import UNFILLED, Scope, SlotKey, key_of
from stackd.engine.draft import Draft
from stackd.engine.model import Service
from stackd.engine.orchestrate.fill import empty_slot, fill_slot
from stackd.engine.orchestrate.slots import Slot, grouped, is_finished, is_live, slots_of
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View


def reconcile(draft: Draft, service: Service, scope: Scope) -> None:
    """Bring the number of filled slots to the wanted one. Slots that died and aren't filled again lose their history.

    Only the service changes how many are wanted; otherwise there is something to do if a slot has died, or if an earlier entry
    had no room for all of them."""
    if scope is not None and UNFILLED not in scope and not _has_lost_any(draft, service, scope):
        return
    tasks = draft.tasks_of_service(service.id)
    up = {key_of(task) for task in tasks if is_live(task)}
    slots = grouped([task for task in tasks if key_of(task) not in up])
    kept = up | {slot.key for slot in slots.values() if is_finished(draft, slot)}
    replicas = service.settings.replicas
    if len(kept) > replicas:
        slots = grouped(tasks)
        kept = {slot.key for slot in choose_survivors(draft, [slots[key] for key in sorted(kept)], replicas)}
    missing = [(number, NodeId("")) for number, _ in zip(free_numbers(kept), range(replicas - len(kept)), strict=False)]
    surplus = [slots[key] for key in sorted(slots.keys() - kept - set(missing))]
    for slot in draft.budgeted(service.id, surplus):
        empty_slot(draft, slot, f"scaled to {replicas}")
    for key in draft.filling(service.id, missing):
        fill_slot(draft, service, key, slots.get(key))


def _has_lost_any(view: View, service: Service, scope: Scope) -> bool:
    """Whether a slot has lost its last task. One that is being removed was given up, and is no loss."""
    return any(
        not slot.live and not is_finished(view, slot) and slot.latest.desired is not TaskState.REMOVE
        for slot in slots_of(view, service, scope).values()
    )


def free_numbers(filled: Container[SlotKey]) -> Iterator[int]:
    """The slot numbers that are not filled, lowest first."""
    return (number for number in count(1) if (number, NodeId("")) not in filled)


def choose_survivors(view: View, slots: Sequence[Slot], wanted: int) -> list[Slot]:
    """The slots that stay when there are more than `wanted` (semantics 5): those that go first are unplaced or in
    the middle of an update, then the extra copies on the fullest nodes, there the ones that don't run and the highest
    numbers."""
    ordered = sorted(slots, key=lambda slot: (not _runs(view, slot), slot.key))
    on_node: Counter[NodeId] = Counter()
    ranked: list[tuple[int, int, Slot]] = []
    for position, slot in enumerate(ordered):
        tasks = slot.live or [slot.latest]
        node_id = tasks[0].node_id if len(tasks) == 1 else NodeId("")
        if node_id:
            on_node[node_id] += 1
        ranked.append((on_node[node_id] if node_id else len(slots) + 1, position, slot))
    ranked.sort(key=lambda each: each[:2])
    return [slot for _, _, slot in ranked[:wanted]]


def _runs(view: View, slot: Slot) -> bool:
    return any(view.status_of(task.id).state is TaskState.RUNNING for task in slot.live)
