"""Slots as the updater sees them: which task is the new one, which are old, and what is dirty (semantics 8.2).

Reads only. A rolling update of thousands of slots can't look at all of them at every step: `upcoming` goes on from where the
rollout has come to.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from stackd.base.ids import NodeId
from stackd.engine.dirty import EVERYWHERE, Scope, SlotKey
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.move import is_mover
from stackd.engine.orchestrate.slots import Slot, Wanted, grouped, in_flux, is_finished, is_live, slots_of, takes_tasks
from stackd.engine.restart_policy import may_restart
from stackd.engine.status import Rollout
from stackd.engine.taskstate import BY_ITSELF, TaskState
from stackd.engine.view import SLOTS_PER_BLOCK, View

BEYOND_ALL: SlotKey = (2**31, NodeId(""))
"""A key behind those of all slots."""


@dataclass(slots=True)
class Place:
    """A slot as the updater sees it: the live task of the wanted spec, if any, and the other live ones. `up`: one of those
    runs or starts. `clean_end`: nothing runs and nothing has to, because the last task has the wanted spec and is done.
    `moving`: the slot is in transition."""

    slot: Slot
    new: Task | None
    old: list[Task]
    up: bool
    clean_end: bool
    moving: bool

    @property
    def dirty(self) -> bool:
        return bool(self.old) or (self.new is None and not self.clean_end)

    @property
    def held(self) -> bool:
        """Whether the new task is prepared and waits for its turn."""
        return self.new is not None and self.slot.is_held(self.new)


def places_of(view: View, service: Service, wanted: Wanted, scope: Scope) -> list[Place]:
    """The slots that may be updated, those in `scope` and those in flux, in the order of their keys."""
    slots = slots_of(view, service, in_flux(view, service, scope))
    return [place for slot in slots.values() if (place := _place(view, service, wanted, slot)) is not None]


def _place(view: View, service: Service, wanted: Wanted, slot: Slot) -> Place | None:
    """None if the slot is not to be updated: it isn't filled, or (of a global service) its node takes no task."""
    live = slot.live
    if not (live or is_finished(view, slot)) or not takes_tasks(view, service, wanted.spec, slot.key):
        return None
    clean = {task.id: task for task in live if wanted.is_clean(task)}
    movers = {task.id for task in clean.values() if is_mover(task) and task.replaces in clean}
    new = max(clean.values(), key=lambda task: (task.desired, view.status_of(task.id).state), default=None)
    old = [task for task in live if task is not new and task.id not in movers]
    up = any(view.status_of(task.id).state in (TaskState.STARTING, TaskState.RUNNING) for task in old)
    clean_end = not live and wanted.is_clean(slot.latest)
    return Place(slot, new, old, up, clean_end, moving=_is_in_transition(view, wanted, slot))


def is_due(view: View, wanted: Wanted, place: Place) -> bool:
    """Whether the updater has something to do in the slot. One that was given up keeps its old task, because its new one
    failed and its restart policy allows no further attempt."""
    return place.dirty and not _is_given_up(view, wanted, place)


def _is_given_up(view: View, wanted: Wanted, place: Place) -> bool:
    latest = place.slot.latest
    return bool(
        place.old
        and place.new is None
        and not is_live(latest)
        and wanted.is_clean(latest)
        and view.status_of(latest.id).state in BY_ITSELF
        and not may_restart(view, latest)
    )


def _is_in_transition(view: View, wanted: Wanted, slot: Slot) -> bool:
    """Whether a new task of the slot has been let go and doesn't run yet. One of an update that was overtaken counts only if
    it has been started: else nobody waits for it."""
    for task in slot.live:
        state = view.status_of(task.id).state
        let_go = task.replaces and not slot.is_held(task) and state < TaskState.RUNNING
        if let_go and (state >= TaskState.STARTING or wanted.is_clean(task)):
            return True
    return False


def upcoming(view: View, service: Service, wanted: Wanted, rollout: Rollout, known: Container[SlotKey]) -> Iterator[Place]:
    """The slots from the rollout's cursor on in which there is something to do, except those that are known already."""
    for slot in _slots_from(view, service, rollout):
        if slot.key >= rollout.cursor and slot.key not in known:
            place = _place(view, service, wanted, slot)
            if place is not None and is_due(view, wanted, place):
                yield place


def _slots_from(view: View, service: Service, rollout: Rollout) -> Iterator[Slot]:
    """The slots from about the cursor on, in the order of their keys."""
    if rollout.cursor >= BEYOND_ALL:
        return
    if service.settings.mode in EVERYWHERE:
        for node in view.nodes_from(rollout.cursor[1]):
            yield from slots_of(view, service, {(0, node.id)}).values()
        return
    for block in range(rollout.cursor[0] // SLOTS_PER_BLOCK, rollout.last_slot // SLOTS_PER_BLOCK + 1):
        yield from grouped(view.tasks_in_block(service.id, block)).values()
