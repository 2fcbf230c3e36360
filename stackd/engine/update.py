"""The rolling updater (semantics 8), level-triggered: it looks at the slots as they are and takes the next steps.

What differs from SwarmKit on purpose:
- New tasks of the next slots are made ahead and held at READY, so pulling and creating overlap with the rolling.
- An old task that runs is told to stop only when its successor is READY. One that can't be prepared or placed costs nothing.
- Whatever becomes possible through a report happens in the same decision: nothing is polled, nothing waits for a pause.

A slot is *in transition* while its new task has been let go and doesn't run yet; at most `parallelism` slots are, counting
those that rest for the update delay. A new spec in the middle needs no special case: what matches it counts as done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from stackd.base.time import MILLISECOND, Instant, after
from stackd.engine.draft import Draft
from stackd.engine.model import Rollout, RolloutState, Service, Task
from stackd.engine.orchestrate.slots import Slot, Wanted, is_finished, is_live, slots_of, still_stopping, takes_tasks
from stackd.engine.restart_policy import may_restart
from stackd.engine.rollout import ACTIVE, PAUSED, config_of, open_rollout, put_rollout
from stackd.engine.tasks import make_task, release_task, remove_task, start_after, stop_task
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import UpdateConfig, UpdateOrder

LOOKAHEAD_MAX = 4
"""Slots prepared ahead of their turn: enough to hide a pull, few enough that a bad image costs little."""


@dataclass(slots=True)
class _Place:
    """A slot as the updater sees it: the live task of the wanted spec, if any, and the other live ones."""

    slot: Slot
    new: Task | None
    old: list[Task]
    up: bool
    clean_end: bool

    @property
    def dirty(self) -> bool:
        return bool(self.old) or (self.new is None and not self.clean_end)

    @property
    def held(self) -> bool:
        """Whether the new task is prepared and waits for its turn."""
        return self.new is not None and self.slot.is_held(self.new)


def advance(draft: Draft, service: Service) -> None:
    """Take the next steps of the service's update, if it has one to make."""
    wanted = Wanted(draft, service)
    for place in _places(draft, service, wanted):
        _settle(draft, place)
    places = _places(draft, service, wanted)
    todo = [place for place in places if place.dirty and not _given_up(draft, wanted, place)]
    moving = sum(_in_transition(draft, place.slot) for place in places if not place.dirty)
    rollout = open_rollout(draft, service, len(todo), moving)
    if rollout is None:
        return
    rollout = _count_done(draft, service, rollout, places)
    if rollout.state in PAUSED:
        _withdraw(draft, places)
    elif rollout.state in ACTIVE:
        _roll(draft, service, rollout, places, todo)


def _places(view: View, service: Service, wanted: Wanted) -> list[_Place]:
    """The slots that may be updated: filled, and (of a global service) on a node that takes tasks."""
    return [
        _place(view, wanted, slot)
        for slot in slots_of(view, service).values()
        if (slot.live or is_finished(view, slot)) and takes_tasks(view, service, wanted.spec, slot.key)
    ]


def _place(view: View, wanted: Wanted, slot: Slot) -> _Place:
    live = slot.live
    clean = [task for task in live if wanted.is_clean(task)]
    new = max(clean, key=lambda task: (task.desired, view.status_of(task.id).state), default=None)
    old = [task for task in live if new is None or task.id != new.id]
    up = any(view.status_of(task.id).state in (TaskState.STARTING, TaskState.RUNNING) for task in old)
    return _Place(slot, new, old, up, clean_end=not live and wanted.is_clean(slot.latest))


def _settle(draft: Draft, place: _Place) -> None:
    """Drop what the slot doesn't need: old tasks once the new one runs; of several old ones all but the latest that runs;
    prepared ones of a spec no longer wanted."""
    new_runs = place.new is not None and _runs(draft, place.new)
    standing = next((task for task in reversed(place.old) if _runs(draft, task)), None)
    for task in place.old:
        if place.slot.is_held(task) and len(place.slot.live) > 1:
            remove_task(draft, task, "prepared for an update that is no longer wanted")
        elif new_runs:
            stop_task(draft, task, "the new task runs")
        elif standing is not None and task.id != standing.id:
            stop_task(draft, task, "started by an update that is no longer wanted")


def _runs(view: View, task: Task) -> bool:
    return view.status_of(task.id).state is TaskState.RUNNING


def _given_up(view: View, wanted: Wanted, place: _Place) -> bool:
    """Whether the slot keeps its old task because its new one failed and its restart policy allows no further attempt."""
    latest = place.slot.latest
    return bool(
        place.old
        and place.new is None
        and not is_live(latest)
        and wanted.is_clean(latest)
        and view.status_of(latest.id).state in (TaskState.FAILED, TaskState.REJECTED, TaskState.COMPLETE)
        and not may_restart(view, latest)
    )


def _count_done(draft: Draft, service: Service, rollout: Rollout, places: Iterable[_Place]) -> Rollout:
    """Count the slots whose new task runs (or has failed), once each, and let their workers rest for the update delay."""
    config = config_of(service, rollout)
    done = 0
    for task in [task for place in places for task in place.slot.tasks if task.replaces]:
        runs_or_ran = draft.status_of(task.id).state in (TaskState.RUNNING, TaskState.COMPLETE)
        if runs_or_ran or task.id in rollout.failed:
            draft.put(msgspec.structs.replace(task, replaces=""))
            done += task.rollout == rollout.generation
    if not done:
        return rollout
    resting = tuple(at for at in rollout.not_before if at > draft.now)
    if config.delay_ns:
        resting += (after(draft.now, config.delay_ns),) * done
    return put_rollout(draft, rollout, done=rollout.done + done, not_before=resting)


def _withdraw(draft: Draft, places: Iterable[_Place]) -> None:
    """The update is paused: nothing more is taken down, and what was made for slots that still have their old task goes."""
    for place in places:
        if place.old and place.new is not None:
            remove_task(draft, place.new, "the update is paused")


def _roll(draft: Draft, service: Service, rollout: Rollout, places: list[_Place], todo: list[_Place]) -> None:
    config = config_of(service, rollout)
    moving = sum(_in_transition(draft, place.slot) for place in places)
    waiting = [place for place in todo if not _in_transition(draft, place.slot)]
    if not todo and not moving:
        _complete(draft, rollout, config)
        return
    rollout = put_rollout(draft, rollout, monitor_until=Instant(0))
    resting = [at for at in rollout.not_before if at > draft.now]
    for at in resting:
        draft.wake(at, service.id)
    width = config.parallelism or len(places)
    free = width - moving - len(resting)
    waiting.sort(key=lambda place: (place.up, place.slot.key))
    later: list[_Place] = []
    for place in draft.budgeted(service.id, waiting):
        if free > 0 and _may_take_turn(draft, config, place):
            _take_turn(draft, service, rollout, config, place)
            free -= 1
        else:
            later.append(place)
    _prepare_ahead(draft, service, rollout, later, max(free, 0) + min(width, LOOKAHEAD_MAX))


def _in_transition(view: View, slot: Slot) -> bool:
    """Whether a new task of the slot has been let go and doesn't run yet."""
    return any(
        task.replaces and not slot.is_held(task) and view.status_of(task.id).state < TaskState.RUNNING for task in slot.live
    )


def _may_take_turn(view: View, config: UpdateConfig, place: _Place) -> bool:
    """Stop-first with a running old task: only with a READY successor. Otherwise nothing is lost by going ahead."""
    new = place.new
    if new is not None and new.gate is not None and new.gate.not_before > view.now:
        return False
    if not place.up or config.order is UpdateOrder.START_FIRST:
        return True
    return new is not None and view.status_of(new.id).state is TaskState.READY


def _take_turn(draft: Draft, service: Service, rollout: Rollout, config: UpdateConfig, place: _Place) -> None:
    new = place.new or _make_new(draft, service, rollout, place)
    if place.up and config.order is UpdateOrder.START_FIRST:
        release_task(draft, new, "its turn in the update has come")
        return
    for task in place.old:
        stop_task(draft, task, "replaced by the update")
    predecessor = place.old[-1] if place.old else still_stopping(draft, place.slot)
    stopping = draft.tasks.get(predecessor.id) if predecessor is not None else None
    start_after(draft, new, stopping, draft.now, "its turn in the update has come")


def _prepare_ahead(draft: Draft, service: Service, rollout: Rollout, waiting: list[_Place], limit: int) -> None:
    prepared = sum(place.held and place.new is not None and place.new.rollout == rollout.generation for place in waiting)
    for place in draft.budgeted(service.id, waiting):
        if place.new is None and place.up and prepared < limit:
            place.new = _make_new(draft, service, rollout, place)
            prepared += 1


def _make_new(draft: Draft, service: Service, rollout: Rollout, place: _Place) -> Task:
    replaced = place.old[-1] if place.old else place.slot.latest
    return make_task(
        draft,
        service,
        place.slot.key,
        desired=TaskState.READY,
        reason=f"update to {service.spec[:12]}",
        rollout=rollout.generation,
        replaces=replaced.id,
    )


def _complete(draft: Draft, rollout: Rollout, config: UpdateConfig) -> None:
    """All slots are done: wait out the monitor window, then close. A window below a millisecond is none."""
    until = rollout.monitor_until
    if config.monitor_ns >= MILLISECOND and not until:
        until = after(draft.now, config.monitor_ns)
        rollout = put_rollout(draft, rollout, monitor_until=until)
    if until > draft.now:
        draft.wake(until, rollout.service_id)
        return
    rolled_back = rollout.state is RolloutState.ROLLBACK_STARTED
    put_rollout(
        draft,
        rollout,
        state=RolloutState.ROLLBACK_COMPLETED if rolled_back else RolloutState.COMPLETED,
        completed_at=draft.now,
        message=_closing_words(rollout, "rollback" if rolled_back else "update"),
    )


def _closing_words(rollout: Rollout, what: str) -> str:
    if rollout.cause:
        return f"{what} completed; its cause was: {rollout.cause}"
    if rollout.failed:
        return f"{what} completed, {len(rollout.failed)} tasks failed on the way"
    return f"{what} completed"


def describe(draft: Draft, service: Service) -> None:
    """Say in the rollout why it does not get on, after placement has been tried."""
    rollout = draft.rollouts.get(service.id)
    if rollout is None or rollout.state not in ACTIVE:
        return
    what = "rollback" if rollout.state is RolloutState.ROLLBACK_STARTED else "update"
    stuck = _first_unplaced(draft, service)
    going = f"{what} in progress: {rollout.cause}" if rollout.cause else f"{what} in progress"
    message = going if stuck is None else f"{what} waits for {stuck}"
    put_rollout(draft, rollout, message=message)


def _first_unplaced(view: View, service: Service) -> str | None:
    for slot in slots_of(view, service).values():
        for task in slot.live:
            status = view.status_of(task.id)
            if status.reason and status.state < TaskState.ASSIGNED:
                return f"a node for {service.name}.{task.slot or task.node_id}: {status.error}"
    return None
