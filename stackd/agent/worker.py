"""Walks one task through its states: one operation at a time, chosen by `taskstate.next_step`.

The worker decides nothing of its own: not whether a failed task runs again, and not where. It turns wishes (`assign`,
`discard`) into calls of the executor and their results into statuses. A wish that needs another operation cancels the one
under way; operations are idempotent, so what was begun is found again. Invariants: states only rise, a status is on file
before it is reported, and an operation that may have had an effect is preceded by the state that says so (STARTING is
written before `start` is called), so a restarted agent knows what to look for.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import assert_never

import msgspec

from stackd.agent.executor.base import Controller, Exit, Found, Handle, TaskContext, TaskEnded
from stackd.agent.executor.monitor.room import is_full
from stackd.agent.taskfiles import StoredTask, TaskStateStore
from stackd.api.dispatch import Assignment
from stackd.base.errors import Retry, TaskFault
from stackd.base.time import Clock
from stackd.engine.allocate.networks import PREDEFINED
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import Step, TaskState, fault_state, is_terminal, may_move, next_step

log = logging.getLogger(__name__)

RETRY_FIRST_SECONDS = 1.0
"""Pause before an operation is repeated after a passing fault (semantics 3.4)."""

RETRY_MAX_SECONDS = 5.0
"""The pause doubles up to this: an engine that stays away isn't asked all the time, one that is back isn't kept waiting."""

_LEASE = "a lease"

Operation = Callable[[], Awaitable[None]]


class Worker:
    """One task of this node. `run()` returns once every trace of the task is gone from the host.

    `context` holds what the agent has been told for the task, live; `report` is told each status."""

    def __init__(
        self,
        task: StoredTask,
        controller: Controller,
        context: TaskContext,
        store: TaskStateStore,
        report: Callable[[TaskStatus], None],
        clock: Clock,
    ) -> None:
        self.controller = controller
        self.adopted = asyncio.Event()
        """Set once the host was asked what exists of the task, or could not be asked for the moment."""
        self._task = task
        self._context = context
        self._store = store
        self._report = report
        self._clock = clock
        self._host_known = task.status.state <= TaskState.ASSIGNED
        self._discarded = False
        self._removed = False
        self._released = False
        self._prepare_again = False
        self._fenced = False
        self._fenced_off = False
        self._running: Operation | None = None
        self._scope: asyncio.Timeout | None = None

    @property
    def assignment(self) -> Assignment:
        return self._task.assignment

    @property
    def status(self) -> TaskStatus:
        return self._task.status

    def assign(self, assignment: Assignment) -> None:
        """A new wish from the manager. A desired state lower than the known one comes from the past and is ignored."""
        if assignment.desired < self.assignment.desired:
            return
        known = msgspec.structs.replace(self.assignment, status=assignment.status)
        if assignment != known:
            self._wish(assignment)

    def discard(self) -> None:
        """The manager has no such task any more: stop it, remove it, forget it."""
        if not self._discarded:
            self._discarded = True
            self._wish(msgspec.structs.replace(self.assignment, desired=TaskState.REMOVE))

    @property
    def is_to_be_fenced(self) -> bool:
        """Whether the task must not run, or go on to run, without a lease."""
        return self._task.spec.fence and not is_terminal(self.status.state)

    def fence(self) -> None:
        """The node has no lease: if the task asks for that, it ends, or doesn't begin."""
        if self.is_to_be_fenced:
            self._fenced = True
            self._fenced_off = self._fenced_off or self.status.state >= TaskState.STARTING
            self.reconsider()

    def unfence(self) -> None:
        """The node has a lease again. A task that was about to end for want of one does so: another may have begun."""
        self._fenced = False
        self.reconsider()

    def reconsider(self) -> None:
        """Something that the present operation depends on may have changed: if another one is due, switch to it."""
        if self._running is not None and self._scope is not None and self._running != self._operation():
            self._running = None
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Work until the task is discarded and gone. Cancelling leaves the task itself as it is."""
        if self._host_known:
            self.adopted.set()
        while not self._released:
            await self._perform(self._operation())

    def _wish(self, assignment: Assignment) -> None:
        self._task = msgspec.structs.replace(self._task, assignment=assignment)
        try:
            self._store.save(self._task)
        except OSError as exc:
            # Only a wish is lost by a crash now, and the manager repeats its wishes on every connection.
            log.warning("assignment not on file: task=%s error=%s", assignment.id, exc)
        self.reconsider()

    def _operation(self) -> Operation:
        """What is due now."""
        if not self._host_known:
            return self._adopt
        if self._fenced_off and not is_terminal(self.status.state) and self.assignment.desired <= TaskState.COMPLETE:
            return self._fence_off
        match next_step(self.status.state, self.assignment.desired):
            case Step.ACCEPT:
                return self._accept
            case Step.PREPARE:
                return self._once_supplied(self._prepare)
            case Step.HOLD_READY:
                return self._once_supplied(self._restore_ready) if self._prepare_again else self._rest
            case Step.START if self._fenced:
                return self._await_lease
            case Step.START:
                return self._once_supplied(self._restore_ready) if self._prepare_again else self._start
            case Step.WAIT:
                return self._wait
            case Step.STOP:
                return self._stop
            case Step.NOTHING:
                return self._operation_after_the_end()
            case unknown:
                assert_never(unknown)

    def _once_supplied(self, operation: Operation) -> Operation:
        return self._await_supply if self._missing() else operation

    def _operation_after_the_end(self) -> Operation:
        """A task that is over keeps container and logs until its record goes."""
        if self.assignment.desired == TaskState.REMOVE and not self._removed:
            return self._remove
        return self._forget if self._discarded else self._rest

    async def _perform(self, operation: Operation) -> None:
        """Run `operation`, repeating it after passing faults, until it is done or another one is due."""
        self._running = operation
        try:
            async with asyncio.timeout(None) as self._scope:
                await self._repeat(operation)
        except TimeoutError:
            pass  # interrupted by `reconsider`: `_repeat` lets no TimeoutError of its own out
        finally:
            self._running = None

    @property
    def _never_given_up(self) -> tuple[Operation, ...]:
        """Operations that only success ends: a task that can't be stopped or looked at isn't over."""
        return self._adopt, self._stop, self._fence_off, self._remove

    async def _repeat(self, operation: Operation) -> None:
        pause = RETRY_FIRST_SECONDS
        while True:
            try:
                return await operation()
            except TaskFault as exc:
                fault = exc
            except Exception as exc:
                fault = _fault_of(exc)
                if fault.retry is Retry.NEVER:
                    log.exception("operation broke: task=%s operation=%s", self.assignment.name, operation)
            if fault.retry is Retry.NEVER and operation not in self._never_given_up:
                operation = functools.partial(self._fail, fault)
                continue
            self._note(fault)
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_MAX_SECONDS)

    async def _adopt(self) -> None:
        """Find out what is true on the host before anything is done there."""
        try:
            found = await self.controller.adopt()
        finally:
            self.adopted.set()
        self._host_known = True
        state = self.status.state
        if is_terminal(state):
            return
        if found is not None and found.exit is not None:
            self._finish(found.exit, found.handle)
        elif _is_lost(state, found):
            self._move(TaskState.FAILED, "adopted", error="the task is gone from the host")
        elif found is None:
            self._prepare_again = state == TaskState.READY

    async def _accept(self) -> None:
        self._move(TaskState.ACCEPTED, "accepted")

    @property
    def waits_for(self) -> str:
        """What the task can't go on without and only a manager has, in words; "" while it goes on."""
        if self._running == self._await_lease:
            return _LEASE
        return self._missing() if self._running == self._await_supply else ""

    def _missing(self) -> str:
        """What the manager has yet to send, in words; "" if nothing."""
        container = self._task.spec.container
        files = sum(ref.digest not in self._context.files for ref in (*container.configs, *container.secrets))
        known = self._context.networks.keys() | PREDEFINED
        networks = sum(attachment.network not in known for attachment in self._task.spec.networks)
        words = [f"{files} configs or secrets"] if files else []
        return " and ".join([*words, f"{networks} networks"] if networks else words)

    async def _await_supply(self) -> None:
        self._say(f"waiting for {self._missing()} from the manager")
        await self._rest()

    async def _await_lease(self) -> None:
        self._say(f"waiting for {_LEASE} from the manager")
        await self._rest()

    async def _prepare(self) -> None:
        if self.status.state < TaskState.PREPARING:
            self._move(TaskState.PREPARING, "preparing")
        handle = await self.controller.prepare()
        self._move(TaskState.READY, "prepared", handle=handle)

    async def _restore_ready(self) -> None:
        """What was prepared before the agent's restart is no longer there; the state stays READY meanwhile."""
        handle = await self.controller.prepare()
        self._prepare_again = False
        self._say("prepared", handle=handle)

    async def _start(self) -> None:
        if self.status.state < TaskState.STARTING:
            self._move(TaskState.STARTING, "starting")
        try:
            handle = await self.controller.start()
        except TaskEnded as ended:  # before it ran, or before it was healthy: it has an exit code all the same
            self._finish(ended.exit)
            return
        self._move(TaskState.RUNNING, "started", handle=handle)

    async def _wait(self) -> None:
        self._finish(await self.controller.wait())

    async def _stop(self) -> None:
        """A task that is stopped on request is SHUTDOWN, whatever its exit code (semantics 18)."""
        untouched = self.status.state <= TaskState.ACCEPTED
        ended = None if untouched else await self.controller.stop()
        self._move(TaskState.SHUTDOWN, "shutdown", exit_code=None if ended is None else ended.code)

    async def _fence_off(self) -> None:
        """Another node may run this task soon, so it may not run here. That is a failure, as it wasn't asked for."""
        ended = await self.controller.stop()
        error = "fenced: this node was cut off from the cluster for longer than its lease"
        self._move(TaskState.FAILED, "fenced", error=error, exit_code=None if ended is None else ended.code)

    async def _remove(self) -> None:
        await self.controller.remove()
        self._removed = True

    async def _forget(self) -> None:
        self._store.delete(self.assignment.id)
        self._released = True

    async def _rest(self) -> None:
        """Nothing to do until the next wish."""
        await asyncio.get_running_loop().create_future()

    def _finish(self, ended: Exit, handle: Handle | None = None) -> None:
        state = TaskState.COMPLETE if ended.code == 0 and not ended.error else TaskState.FAILED
        self._move(state, "finished", error=ended.error, exit_code=ended.code, handle=handle)

    async def _fail(self, fault: TaskFault) -> None:
        """A fault that repeating doesn't cure."""
        before = self.status
        self._move(fault_state(before.state), before.message, error=fault.message, exit_code=before.exit_code)
        log.info("will not repeat: task=%s code=%s error=%s", self.assignment.name, fault.code, fault.message)

    def _note(self, fault: TaskFault) -> None:
        """A passing fault: the state stays and says what is wrong."""
        if self.status.error != fault.message:
            log.info("will repeat: task=%s code=%s error=%s", self.assignment.name, fault.code, fault.message)
            self._task = msgspec.structs.replace(
                self._task, status=msgspec.structs.replace(self.status, at=self._clock.now(), error=fault.message)
            )
            self._report(self.status)

    def _say(self, message: str, *, handle: Handle | None = None) -> None:
        """The same state with another message."""
        if message != self.status.message or self.status.error:
            self._keep(self.status.state, message, "", self.status.exit_code, handle)

    def _move(
        self,
        state: TaskState,
        message: str,
        *,
        error: str = "",
        exit_code: int | None = None,
        handle: Handle | None = None,
    ) -> None:
        """Enter a higher state."""
        if not may_move(self.status.state, state):
            raise AssertionError(f"task {self.assignment.id} can't go from {self.status.state.word} to {state.word}")
        self._keep(state, message, error, exit_code, handle)

    def _keep(self, state: TaskState, message: str, error: str, exit_code: int | None, handle: Handle | None) -> None:
        """First on file, then to the manager."""
        before = self.status
        status = TaskStatus(
            id=before.id,
            state=state,
            at=self._clock.now(),
            message=message,
            error=error,
            exit_code=exit_code,
            container_id=handle.container_id if handle and handle.container_id else before.container_id,
            pid=0 if is_terminal(state) else handle.pid if handle and handle.pid else before.pid,
            running_at=before.running_at,
        )
        task = msgspec.structs.replace(self._task, status=status)
        try:
            self._store.save(task)
        except OSError as exc:
            raise TaskFault("agent.state.unwritable", f"cannot write the task's state: {exc}", retry=Retry.LATER) from exc
        self._task = task
        self._report(status)


def _fault_of(error: Exception) -> TaskFault:
    """What an executor lets out: a disk without room, which passes, or an error of its own."""
    if is_full(error):
        return TaskFault("agent.host.no_room", f"no room on the host's disk: {error}", retry=Retry.LATER)
    return TaskFault("agent.executor.broken", f"internal error: {type(error).__name__}: {error}")


def _is_lost(state: TaskState, found: Found | None) -> bool:
    """Whether a task that was started is there no more, or only its shell."""
    if state == TaskState.RUNNING:
        return found is None or not found.running
    return state == TaskState.STARTING and found is None
