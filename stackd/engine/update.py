"""The rolling updater (semantics 8), level-triggered: it looks at the slots as they are and takes the next steps.

What differs from SwarmKit on purpose:
- New tasks of the next slots are made ahead and held at READY, so pulling and creating overlap with the rolling.
- An old task that runs is told to stop only when its successor is READY. One that can't be prepared or placed costs nothing.
- Whatever becomes possible through a report happens in the same decision: nothing is polled, nothing waits for a pause.

- A start-first task is let go when its node has taken it on. If it fits nowhere beside the task that it replaces, and never
  will, its slot is updated stop-first (`assign` finds that out).

A slot is *in transition* while its new task has been let go and doesn't run yet; at most `parallelism` slots are, counting
those that rest for the update delay. What can't run mostly shows it at once, so a slot rests for the first moment of its
monitor window in any case: a broken image breaks `parallelism` tasks, not some more that were let go meanwhile.
A new spec in the middle needs no special case: what matches it counts as done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain

import msgspec

from stackd.base.time import MILLISECOND, SECOND, Duration, Instant, after
from stackd.engine.dirty import Scope
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.move import is_mover
from stackd.engine.orchestrate.slots import Wanted, is_live, still_stopping
from stackd.engine.parts import RolloutState
from stackd.engine.places import BEYOND_ALL, Place, is_due, places_of, upcoming
from stackd.engine.restart import attempts_so_far
from stackd.engine.rollout import (
    ACTIVE,
    PAUSED,
    active_rollout,
    config_of,
    open_rollout,
    progress_due,
    put_rollout,
    what_it_waits_for,
)
from stackd.engine.status import Rollout
from stackd.engine.tasks import make_task, release_task, remove_task, start_after, stop_task
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.spec.stack import REPLICAS_MAX, UpdateConfig, UpdateOrder

ROOM_NS = Duration(10 * SECOND)
"""How long a slot in which nothing runs waits for a node before what is prepared for others gives way: longer than it takes
to stop a task, so that room which is about to be free is waited for."""

FIRST_MOMENT = Duration(500 * MILLISECOND)
"""In which a program that can't run has mostly ended: a missing file, a wrong setting, a refused connection."""

LOOKAHEAD_MAX = 4
"""Slots prepared ahead of their turn: enough to hide a pull, few enough that a bad image costs little."""


def advance(draft: Draft, service: Service, scope: Scope) -> None:
    """Take the next steps of the service's update, if it has one to make. A job has none: it is started anew."""
    if service.iteration:
        return
    rollout = active_rollout(draft, service)
    if rollout is not None and rollout.sweep:
        scope = None
    if not _advance(draft, service, scope):
        _advance(draft, service, None)


def _advance(draft: Draft, service: Service, scope: Scope) -> bool:
    """The same, looking at `scope` and at what is in flux. Returns False if that doesn't tell what is to be done: where a
    rollout is to begin or to end, all slots have to be looked at."""
    wanted = Wanted(draft, service)
    for place in places_of(draft, service, wanted, scope):
        _settle(draft, place)
    places = places_of(draft, service, wanted, scope)
    todo = [place for place in places if is_due(draft, wanted, place)]
    moving = sum(place.moving for place in places if not place.dirty)
    if scope is not None and todo and not _is_open(draft, service):
        return False
    rollout = open_rollout(draft, service, len(todo), moving)
    if rollout is None:
        return True
    rollout = _count_done(draft, service, rollout, places)
    if rollout.state in PAUSED:
        _withdraw(draft, places)
    if rollout.state not in ACTIVE:
        return True
    known = {place.slot.key for place in places}
    unseen = iter(()) if scope is None else upcoming(draft, service, wanted, rollout, known)
    return _Turn(draft, service, rollout, whole=scope is None).take(places, todo, unseen)


def _is_open(view: View, service: Service) -> bool:
    """Whether there is a rollout of what the service is now, going on or paused."""
    rollout = view.rollouts.get(service.id)
    if rollout is None or rollout.spec_version != service.spec_version:
        return False
    return rollout.state in ACTIVE or rollout.state in PAUSED


def _settle(draft: Draft, place: Place) -> None:
    """Drop what the slot doesn't need: old tasks once the new one runs; of several old ones all but the latest that runs, and
    what is to take over from that one; prepared ones of a spec no longer wanted."""
    new_runs = place.new is not None and _runs(draft, place.new)
    standing = next((task for task in reversed(place.old) if _runs(draft, task)), None)
    for task in place.old:
        if place.slot.is_held(task) and len(place.slot.live) > 1:
            remove_task(draft, task, "prepared for an update that is no longer wanted")
        elif new_runs:
            stop_task(draft, task, "the new task runs")
        elif standing is not None and task.id != standing.id and not (is_mover(task) and task.replaces == standing.id):
            stop_task(draft, task, "started by an update that is no longer wanted")


def _runs(view: View, task: Task) -> bool:
    return view.status_of(task.id).state is TaskState.RUNNING


def _count_done(draft: Draft, service: Service, rollout: Rollout, places: Iterable[Place]) -> Rollout:
    """Count the slots whose new task runs (or has failed), once each, and let their workers rest before the next ones."""
    config = config_of(service, rollout)
    done = 0
    for place in places:
        for task in place.slot.tasks:
            runs_or_ran = draft.status_of(task.id).state in (TaskState.RUNNING, TaskState.COMPLETE)
            if task.replaces and not is_mover(task) and (runs_or_ran or task.id in rollout.failed):
                draft.put(msgspec.structs.replace(task, replaces="", order=None))
                counted = place.slot.key in rollout.failed_slots and task.id not in rollout.failed
                done += task.rollout == rollout.generation and not counted
    if not done:
        return rollout
    resting = tuple(at for at in rollout.not_before if at > draft.now)
    if rest := max(config.delay_ns, min(config.monitor_ns, FIRST_MOMENT)):
        resting += (after(draft.now, rest),) * done
    return put_rollout(draft, rollout, done=rollout.done + done, not_before=resting, progress_at=draft.now)


def _withdraw(draft: Draft, places: Iterable[Place]) -> None:
    """The update is paused: nothing more is taken down, and what was made for slots that still have their old task goes."""
    for place in places:
        if place.old and place.new is not None:
            remove_task(draft, place.new, "the update is paused")


class _Turn:
    """One look at a rollout under way: which slots go on, which are begun, and which are prepared.

    If it isn't about the `whole` service, the slots that are neither marked nor in flux are found one by one, from the
    rollout's cursor on. Both ways lead to the same decision."""

    def __init__(self, draft: Draft, service: Service, rollout: Rollout, *, whole: bool) -> None:
        self._draft = draft
        self._service = service
        self._rollout = rollout
        self._config = config_of(service, rollout)
        self._whole = whole

    def take(self, places: list[Place], todo: list[Place], unseen: Iterator[Place]) -> bool:
        """Let go, stop and prepare what the settings allow. Returns False if the whole service has to be looked at first."""
        draft, config = self._draft, self._config
        self._take_over(places)
        moving = sum(place.moving for place in places)
        if not todo and not moving:
            first = next(unseen, None)
            if first is None:
                if self._whole:
                    _complete(draft, self._rollout, config)
                return self._whole
            unseen = chain((first,), unseen)
        self._rollout = put_rollout(draft, self._rollout, monitor_until=Instant(0))
        resting = [at for at in self._rollout.not_before if at > draft.now]
        for at in (*resting, progress_due(self._rollout, config)):
            draft.wake(at, self._service.id)
        width = config.parallelism or REPLICAS_MAX
        free = width - moving - len(resting)
        waiting = [place for place in todo if not place.moving]
        later = self._let_go(sorted(waiting, key=lambda place: (place.up, place.slot.key)), free)
        free -= len(waiting) - len(later)
        limit = max(free, 0) + min(width, LOOKAHEAD_MAX)
        if waits := [place.new for place in places if place.new and _waits_for_its_node(draft, place, place.new)]:
            limit = 0  # what is prepared could take the very port or memory that these need
            self._make_room([task for task in waits if not task.node_id], later)
        self._prepare_ahead(later, unseen, limit)
        if self._whole:
            put_rollout(draft, self._rollout, last_slot=max((place.slot.key[0] for place in places), default=0))
        return True

    def _take_over(self, places: Iterable[Place]) -> None:
        """What an earlier update prepared is part of this one, and counts in it if it fails. Under other settings it may count
        on what the old task holds on its node, though; to start beside it, it has to be placed anew."""
        for place in places:
            new = place.new
            if new is None or not (place.held and new.replaces) or new.rollout == self._rollout.generation:
                continue
            beside = place.up and _order_of(self._config, new) is UpdateOrder.START_FIRST
            if beside and new.node_id == place.old[-1].node_id:
                remove_task(self._draft, new, "prepared to start when the old task has stopped")
                place.new = None
            else:
                place.new = msgspec.structs.replace(new, rollout=self._rollout.generation)
                self._draft.put(place.new, "part of another update now")

    def _let_go(self, waiting: list[Place], free: int) -> list[Place]:
        """Begin with as many slots as may be in transition; returns the others."""
        later: list[Place] = []
        for place in self._draft.budgeted(self._service.id, waiting):
            if free > 0 and _may_take_turn(self._draft, self._config, place):
                self._take_turn(place)
                free -= 1
            else:
                later.append(place)
        return later

    def _take_turn(self, place: Place) -> None:
        draft = self._draft
        new = place.new = self._part_of_it(place.new, place.old) if place.new is not None else self._make_new(place)
        place.moving = True
        if place.up and _order_of(self._config, new) is UpdateOrder.START_FIRST:
            release_task(draft, new, "its turn in the update has come")
            return
        for task in place.old:
            stop_task(draft, task, "replaced by the update")
        start_after(draft, new, still_stopping(draft, place.slot), draft.now, "its turn in the update has come")

    def _part_of_it(self, new: Task, old: Sequence[Task]) -> Task:
        """The task with which the slot goes on. One that was there before the old ones, and never ran, takes over from them."""
        if new.replaces or not old:
            return new
        taken = msgspec.structs.replace(new, replaces=old[-1].id, rollout=self._rollout.generation)
        self._draft.put(taken, "part of the update now")
        return taken

    def _make_room(self, nowhere: Sequence[Task], later: Iterable[Place]) -> None:
        """What is prepared gives way if a task has waited `ROOM_NS` for a node: each would wait for the other."""
        if not nowhere:
            return
        due = after(min(task.created_at for task in nowhere), ROOM_NS)
        if due > self._draft.now:
            self._draft.wake(due, self._service.id)
            return
        for place in later:
            if place.held and place.up and place.new is not None and not _has_ended(self._draft, place.new):
                remove_task(self._draft, place.new, "makes room for a slot that waits for a node")
                place.new = None

    def _prepare_ahead(self, later: list[Place], unseen: Iterator[Place], limit: int) -> None:
        """Make the new tasks of the next slots, and note where those begin that have none. While nothing runs in one of those
        it is looked for everywhere, since it goes before the others."""
        generation = self._rollout.generation
        prepared = sum(place.held and place.new is not None and place.new.rollout == generation for place in later)
        without = sorted((place for place in later if place.new is None), key=lambda place: place.slot.key)
        left = None
        for place in self._draft.budgeted(self._service.id, merge(without, unseen, key=lambda place: place.slot.key)):
            if not place.up:
                left = left or place
            elif prepared < limit:
                self._make_new(place)
                prepared += 1
            else:
                left = left or place
                break
        self._rollout = put_rollout(
            self._draft,
            self._rollout,
            cursor=left.slot.key if left is not None else BEYOND_ALL,
            sweep=self._draft.full or any(not place.up for place in (*without, left) if place is not None),
        )

    def _make_new(self, place: Place) -> Task:
        replaced = place.old[-1] if place.old else place.slot.latest
        return make_task(
            self._draft,
            self._service,
            place.slot.key,
            held=True,
            reason=f"update to {self._service.spec[:12]}",
            rollout=self._rollout.generation,
            replaces=replaced.id,
            restarts=attempts_so_far(self._draft, self._service, place.slot),
        )


def _has_ended(view: View, task: Task) -> bool:
    return is_terminal(view.status_of(task.id).state)


def _order_of(config: UpdateConfig, new: Task) -> UpdateOrder:
    return new.order or config.order


def _waits_for_its_node(view: View, place: Place, new: Task) -> bool:
    """Whether nothing runs in the slot, and its new task was let go and no node has taken it up yet."""
    return place.moving and not place.up and view.status_of(new.id).state <= TaskState.ASSIGNED


def _may_take_turn(view: View, config: UpdateConfig, place: Place) -> bool:
    """Only with a new task that has got somewhere: stop-first READY, start-first taken on by its node. Where no old task runs
    nothing is lost by going ahead."""
    new = place.new
    if new is not None and new.gate is not None and new.gate.not_before > view.now:
        return False
    if not place.up:
        return True
    if new is None:
        return False
    state = view.status_of(new.id).state
    if _order_of(config, new) is UpdateOrder.START_FIRST:
        return state > TaskState.ASSIGNED
    return state is TaskState.READY


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
    going = f"{what} in progress: {rollout.cause}" if rollout.cause else f"{what} in progress"
    stuck = any(
        is_live(task) and status.reason and status.state < TaskState.ASSIGNED
        for task in draft.tasks_in_flux(service.id)
        for status in (draft.status_of(task.id),)
    )
    put_rollout(draft, rollout, message=f"{what} waits for {what_it_waits_for(draft, service)}" if stuck else going)
