"""What happened in a set of histories, and what should have happened and didn't.

A history that never drains a node proves nothing about draining. So each kind of thing that a history is there for is
named here, counted, and missed when it is missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from stackd.base.ids import TaskId
from stackd.engine.model import Event
from stackd.engine.parts import RolloutState
from stackd.engine.schedule.filters import FILTERS
from stackd.engine.status import Rollout, TaskStatus
from stackd.engine.store import Changes
from stackd.engine.taskstate import Step, TaskState, is_terminal, next_step
from stackd.engine.view import View

Counts = Counter[tuple[str, str]]
"""How often something happened: its group and its name."""

Moves = Counter[tuple[TaskState, TaskState]]
"""How often tasks went from state to state."""

_LADDER = (
    TaskState.ASSIGNED,
    TaskState.ACCEPTED,
    TaskState.PREPARING,
    TaskState.READY,
    TaskState.STARTING,
    TaskState.RUNNING,
)
"""The states an agent takes a task through."""

_HANDED_ON = ("fence", "the slot goes on elsewhere")

_REFUSALS = {one.code: re.escape(one.explain(2)).replace(re.escape("2 nodes"), r"\d+ nodes?") for one in FILTERS}


class Recorder:
    """Observes one history entry by entry (see `Checker`)."""

    def __init__(self) -> None:
        self.counts: Counts = Counter()

    def observe(self, past: View, present: View, changes: Changes) -> None:
        for row in changes.puts:
            match row:
                case TaskStatus():
                    self._status(past, present, row)
                case Rollout():
                    before = past.rollouts.get(row.key)
                    if before is not None and before.state is not row.state and before.generation == row.generation:
                        self.counts["rollout", f"{before.state} -> {row.state}"] += 1
                case Event():
                    self.counts["event", row.kind] += 1
                case _:
                    pass

    def add_moves(self, moves: Moves) -> None:
        """The moves on a host, as its agent made them; reports of them are merged on their way."""
        self.counts.update({("task", _move(before, after)): count for (before, after), count in moves.items()})

    def add_handed_on(self, slots: int) -> None:
        """Fenced slots that went on on another host than before."""
        self.counts.update({_HANDED_ON: slots} if slots else {})

    def _status(self, past: View, present: View, row: TaskStatus) -> None:
        before = past.status_of(TaskId(row.id)).state
        if before < TaskState.ASSIGNED and row.state is not before:
            self.counts["task", _move(before, row.state)] += 1
        task = present.tasks.get(row.id)
        if task is not None and row.state >= TaskState.ASSIGNED:
            self.counts["agent", next_step(row.state, task.desired).value] += 1
        for code, refusal in _REFUSALS.items():
            if row.reason and re.search(refusal, row.error):
                self.counts["filter", code] += 1


def required() -> set[tuple[str, str]]:
    """What a large enough set of histories has to show, but for changes, faults and branches, which name themselves."""
    return {
        *(("task", move) for move in _task_moves()),
        *(("agent", step.value) for step in Step if step is not Step.NOTHING),
        *(("filter", one.code) for one in FILTERS),
        *(("rollout", move) for move in _rollout_moves()),
        _HANDED_ON,
    }


def _task_moves() -> Iterator[str]:
    """Each step up the ladder, and each end from each state that has it."""
    yield _move(TaskState.NEW, TaskState.PENDING)
    yield _move(TaskState.NEW, TaskState.ASSIGNED)
    for lower, upper in pairwise(_LADDER):
        yield _move(lower, upper)
    for state in (TaskState.PENDING, *_LADDER):
        if state is not TaskState.ACCEPTED:  # what is accepted is being prepared in the same instant
            yield _move(state, TaskState.SHUTDOWN)
    yield _move(TaskState.PENDING, TaskState.ASSIGNED)
    yield _move(TaskState.PREPARING, TaskState.REJECTED)
    yield _move(TaskState.STARTING, TaskState.FAILED)
    yield _move(TaskState.RUNNING, TaskState.FAILED)
    yield _move(TaskState.RUNNING, TaskState.COMPLETE)


def _rollout_moves() -> Iterator[str]:
    """What may become of an update, within itself: to go back is another one, and so is a new submission."""
    yield _arrow(RolloutState.UPDATING, RolloutState.PAUSED)
    yield _arrow(RolloutState.UPDATING, RolloutState.COMPLETED)
    yield _arrow(RolloutState.PAUSED, RolloutState.COMPLETED)
    yield _arrow(RolloutState.ROLLBACK_STARTED, RolloutState.ROLLBACK_COMPLETED)
    yield _arrow(RolloutState.ROLLBACK_STARTED, RolloutState.ROLLBACK_PAUSED)


def _move(before: TaskState, after: TaskState) -> str:
    return f"{before.word} -> {after.word}{' (end)' if is_terminal(after) else ''}"


def _arrow(before: RolloutState, after: RolloutState) -> str:
    return f"{before} -> {after}"


def table(counts: Counts, wanted: Iterable[tuple[str, str]]) -> list[str]:
    """The counts as lines, by group; what is wanted and hasn't happened stands there with a 0 and a mark."""
    rows = sorted({*counts, *wanted})
    return [f"{counts[row]:>9}{'  ' if counts[row] else ' !'}{row[0]:<8}{row[1]}" for row in rows]


def missing(counts: Counts, wanted: Iterable[tuple[str, str]]) -> list[str]:
    """What should have happened and didn't."""
    return [f"{group}: {name}" for group, name in sorted(set(wanted) - set(counts))]
