"""The task state machine: one table for the engine, the agent and the simulator.

Names and order are SwarmKit's (semantics 3); the numbers leave gaps as there. A task only ever moves to a higher
state. The agent walks it with `next_step`, one operation per call.
"""

from __future__ import annotations

import enum


class TaskState(enum.IntEnum):
    """Observed and desired states share this scale."""

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800
    ORPHANED = 832

    @property
    def word(self) -> str:
        """The state as people read it: `running`."""
        return self.name.lower()


DESIRED = frozenset(
    {TaskState.READY, TaskState.RUNNING, TaskState.COMPLETE, TaskState.SHUTDOWN, TaskState.REMOVE},
)
"""The states that may be desired."""


BY_ITSELF = frozenset({TaskState.FAILED, TaskState.REJECTED, TaskState.COMPLETE})
"""The states in which a task ends that nobody has told to stop."""


class Step(enum.Enum):
    """What the agent does next with a task."""

    NOTHING = "nothing"
    ACCEPT = "accept"
    PREPARE = "prepare"
    HOLD_READY = "hold-ready"
    START = "start"
    WAIT = "wait"
    STOP = "stop"


_STEP = {
    TaskState.NEW: Step.ACCEPT,
    TaskState.PENDING: Step.ACCEPT,
    TaskState.ASSIGNED: Step.ACCEPT,
    TaskState.ACCEPTED: Step.PREPARE,
    TaskState.PREPARING: Step.PREPARE,
    TaskState.READY: Step.START,
    TaskState.STARTING: Step.START,
    TaskState.RUNNING: Step.WAIT,
}


def is_terminal(state: TaskState) -> bool:
    """Whether a task observed in `state` will never run again."""
    return state > TaskState.RUNNING


def may_move(old: TaskState, new: TaskState) -> bool:
    """Whether an observed state may follow another: forward only."""
    return new > old


def next_step(observed: TaskState, desired: TaskState) -> Step:
    """The one operation that brings a task nearer to `desired`."""
    if is_terminal(observed):
        return Step.NOTHING
    if desired > TaskState.COMPLETE:
        return Step.STOP
    if observed == TaskState.READY and desired <= TaskState.READY:
        return Step.HOLD_READY
    return _STEP[observed]


def fault_state(observed: TaskState) -> TaskState:
    """Where a fatal fault leads: before the start the task is rejected, afterwards it has failed (semantics 3.4)."""
    return TaskState.REJECTED if observed < TaskState.STARTING else TaskState.FAILED
