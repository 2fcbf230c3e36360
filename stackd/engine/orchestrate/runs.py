"""How far a job has come: the slots of its present iteration by what has become of their runs (semantics 7). Reads only."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from stackd.base.ids import NodeId
from stackd.engine.dirty import EVERYWHERE, Scope, SlotKey, key_of
from stackd.engine.fates import Fate
from stackd.engine.model import Service
from stackd.engine.orchestrate.slots import Slot, has_completed, is_live, nodes_in, slots_of, spec_of, takes_tasks
from stackd.engine.parts import NodeState
from stackd.engine.restart_policy import may_restart
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The slots that were not looked at, by name: in `done` a run has completed, in `open` one is on its way. Both sets also
    have slots that were looked at, whose own tasks are what counts."""

    done: Set[str] = frozenset()
    open: Set[str] = frozenset()
    looked_at: Set[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return name not in self.looked_at and (name in self.done or name in self.open)

    @property
    def number_done(self) -> int:
        return len(self.done) - len(self.looked_at & self.done)

    @property
    def number_open(self) -> int:
        """Without those that are done as well: a run that was given up for lost has completed after all."""
        counted_as_done = (self.done & self.open) - self.looked_at
        return len(self.open) - len(self.looked_at & self.open) - len(counted_as_done)


@dataclass(slots=True)
class Runs:
    """The slots of the present iteration by what has become of them."""

    completed: dict[SlotKey, Slot] = field(default_factory=dict)
    active: dict[SlotKey, Slot] = field(default_factory=dict)
    given_up: dict[SlotKey, Slot] = field(default_factory=dict)
    elsewhere: Elsewhere = field(default_factory=Elsewhere)

    def have(self, key: SlotKey) -> bool:
        """Whether a run of the slot has been begun and isn't to be begun again."""
        return key in self.completed or key in self.active or key in self.given_up or _name(key) in self.elsewhere

    def __len__(self) -> int:
        return self.number_completed + self.number_active + len(self.given_up)

    @property
    def number_completed(self) -> int:
        return len(self.completed) + self.elsewhere.number_done

    @property
    def number_active(self) -> int:
        return len(self.active) + self.elsewhere.number_open


def runs_of(view: View, service: Service, scope: Scope = None) -> Runs:
    """How far the present iteration of a job has come. With a `scope` only those slots are looked at, those that this decision
    has changed, and those of which the tasks alone can tell."""
    runs = Runs()
    if scope is not None:
        scope = scope | _changed(view, service) | _doubtful(view, service)
        fates = view.ledger.fates
        done, opened = fates.slots(service, Fate.DONE), fates.slots(service, Fate.OPEN)
        runs.elsewhere = Elsewhere(done, opened, {_name(key) for key in scope})
    for key, slot in slots_of(view, service, scope).items():
        own = [task for task in slot.tasks if task.iteration == service.iteration]
        present = Slot(key, own)
        if any(has_completed(view, task) for task in own):
            runs.completed[key] = present
        elif own and _is_given_up(view, present):
            runs.given_up[key] = present
        elif present.live:
            runs.active[key] = present
    return runs


def _changed(view: View, service: Service) -> set[SlotKey]:
    changed = (view.tasks.get(key) for key in view.changed_tasks())
    return {key_of(task) for task in changed if task is not None and task.service_id == service.id}


def _doubtful(view: View, service: Service) -> set[SlotKey]:
    """The slots whose runs are all over: given up, to be repeated, or to be begun again."""
    over, opened, done = (view.ledger.fates.slots(service, fate) for fate in (Fate.OVER, Fate.OPEN, Fate.DONE))
    names = [name for name in over if name not in opened and name not in done]
    everywhere = service.settings.mode in EVERYWHERE
    return {(0, NodeId(name)) if everywhere else (int(name), NodeId("")) for name in names}


def _name(key: SlotKey) -> str:
    """The slot as `fates` knows it."""
    return str(key[0] or key[1])


def _is_given_up(view: View, slot: Slot) -> bool:
    """Whether the last run has ended, or was stopped, and nothing follows. One that was removed was not wanted any more."""
    latest = slot.latest
    over = is_terminal(view.status_of(latest.id).state) or not is_live(latest)
    return over and latest.desired is not TaskState.REMOVE and not may_restart(view, latest)


def wanted_slots(view: View, service: Service, scope: Scope = None) -> list[SlotKey]:
    """The slots of a global job in `scope`: the nodes that may run it now."""
    spec = spec_of(view, service.spec)
    keys: list[SlotKey] = [(0, node.id) for node in nodes_in(view, scope)]
    return [key for key in keys if takes_tasks(view, service, spec, key) and _is_ready(view, key[1])]


def _is_ready(view: View, node_id: NodeId) -> bool:
    status = view.node_statuses.get(node_id)
    return status is not None and status.state is NodeState.READY


def wanted_completions(view: View, service: Service) -> int:
    """How many runs of the present iteration have to complete: a global job's on the nodes that can, and that have."""
    if service.settings.mode is ServiceMode.REPLICATED_JOB:
        return service.settings.replicas
    return len({*wanted_slots(view, service), *runs_of(view, service).completed})
