"""How far a job has come: the slots of its present iteration by what has become of their runs (semantics 7). Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from stackd.base.ids import NodeId
from stackd.engine.dirty import SlotKey
from stackd.engine.model import NodeState, Service
from stackd.engine.orchestrate.slots import Slot, has_completed, is_live, slots_of, spec_of, takes_tasks
from stackd.engine.restart_policy import may_restart
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode


@dataclass(slots=True)
class Runs:
    """The slots of the present iteration by what has become of them."""

    completed: dict[SlotKey, Slot]
    active: dict[SlotKey, Slot]
    given_up: dict[SlotKey, Slot]

    @property
    def keys(self) -> set[SlotKey]:
        return {*self.completed, *self.active, *self.given_up}


def runs_of(view: View, service: Service) -> Runs:
    """How far the present iteration of a job has come."""
    runs = Runs({}, {}, {})
    for key, slot in slots_of(view, service).items():
        own = [task for task in slot.tasks if task.iteration == service.iteration]
        present = Slot(key, own)
        if any(has_completed(view, task) for task in own):
            runs.completed[key] = present
        elif own and _is_given_up(view, present):
            runs.given_up[key] = present
        elif present.live:
            runs.active[key] = present
    return runs


def _is_given_up(view: View, slot: Slot) -> bool:
    """Whether the last run has ended, or was stopped, and nothing follows. One that was removed was not wanted any more."""
    latest = slot.latest
    over = is_terminal(view.status_of(latest.id).state) or not is_live(latest)
    return over and latest.desired is not TaskState.REMOVE and not may_restart(view, latest)


def wanted_slots(view: View, service: Service) -> list[SlotKey]:
    """The slots of a global job: the nodes that may run it now."""
    spec = spec_of(view, service.spec)
    keys: list[SlotKey] = sorted((0, node.id) for node in view.nodes.values())
    return [key for key in keys if takes_tasks(view, service, spec, key) and _is_ready(view, key[1])]


def _is_ready(view: View, node_id: NodeId) -> bool:
    status = view.node_statuses.get(node_id)
    return status is not None and status.state is NodeState.READY


def wanted_completions(view: View, service: Service) -> int:
    """How many runs of the present iteration have to complete: a global job's on the nodes that can, and that have."""
    if service.settings.mode is ServiceMode.REPLICATED_JOB:
        return service.settings.replicas
    return len({*wanted_slots(view, service), *runs_of(view, service).completed})
