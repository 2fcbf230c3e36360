"""All workers of a node, and the assignments applied to them.

The invariant: after a complete set the workers are exactly the tasks in it (others are on their way out), and an increment
applies only to the message before it. Contents of configs and secrets live here, in memory alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stackd.agent.executor.base import Executor, TaskContext
from stackd.agent.taskfiles import StoredTask, TaskStateStore
from stackd.agent.worker import RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS, Worker
from stackd.api.dispatch import Assignment, Assignments
from stackd.base.errors import StackdError
from stackd.base.ids import BlobDigest, NodeId, ServiceId, SpecDigest, TaskId
from stackd.base.time import Clock, Instant
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import ContainerSpec, NetworkSpec, TaskSpec

log = logging.getLogger(__name__)

ADOPTION_SECONDS = 10.0
"""How long the agent waits for restored tasks to be looked for before it talks to a manager; the rest is found later."""


class OutOfStep(StackdError):
    """The manager's message doesn't follow the one before: the session starts over with a complete set."""

    def __init__(self, why: str) -> None:
        super().__init__("agent.assignments.out_of_step", why)


class Workforce:
    """The workers of node `node_id`. They run in `group` and end with it; the tasks themselves don't."""

    def __init__(
        self,
        node_id: NodeId,
        executor: Executor,
        store: TaskStateStore,
        report: Callable[[TaskStatus], None],
        clock: Clock,
        group: asyncio.TaskGroup,
    ) -> None:
        self._node_id = node_id
        self._executor = executor
        self._store = store
        self._report = report
        self._clock = clock
        self._group = group
        self._workers: dict[TaskId, Worker] = {}
        self._specs: dict[SpecDigest, TaskSpec] = {}
        self._contents: dict[BlobDigest, bytes] = {}
        self._networks: dict[str, NetworkSpec] = {}
        self._sequence = 0
        self._fenced = False
        self._swept = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Returns once no task is left on the host: each was discarded and removed."""
        await self._idle.wait()

    def worker(self, task_id: TaskId) -> Worker | None:
        return self._workers.get(task_id)

    def statuses(self) -> dict[TaskId, TaskStatus]:
        return {task_id: worker.status for task_id, worker in self._workers.items()}

    def waiting(self) -> list[str]:
        """What each task waits for that can't go on without a manager."""
        return [what for worker in self._workers.values() if (what := worker.waits_for)]

    @property
    def has_tasks_to_fence(self) -> bool:
        """Whether any task here has to end when the node's lease does."""
        return any(worker.is_to_be_fenced for worker in self._workers.values())

    def fence(self) -> None:
        """The cluster may count on this node no longer: of the tasks that are to be fenced none goes on, and none begins."""
        self._fenced = True
        for worker in self._workers.values():
            worker.fence()

    def unfence(self) -> None:
        """The cluster counts on this node again: what was not begun may be."""
        self._fenced = False
        for worker in self._workers.values():
            worker.unfence()

    async def restore(self) -> None:
        """Take up the tasks of an earlier life; returns once each was looked for on the host."""
        for stored in self._store.load():
            self._employ(stored)
        try:
            async with asyncio.timeout(ADOPTION_SECONDS):
                for worker in tuple(self._workers.values()):
                    await worker.adopted.wait()
        except TimeoutError:
            log.warning("some tasks are not adopted yet: seconds=%s", ADOPTION_SECONDS)

    def apply(self, message: Assignments) -> None:
        """Make the message true. Raises OutOfStep if one before it is missing: then only a complete set helps."""
        if message.complete:
            self._specs.clear()
            self._contents.clear()
            self._networks.clear()
        elif message.sequence != self._sequence + 1:
            raise OutOfStep(f"assignments {message.sequence} after {self._sequence}")
        self._sequence = message.sequence
        self._specs.update((content.digest, content.spec) for content in message.specs)
        self._contents.update((content.digest, content.data) for content in message.files)
        self._networks.update((network.name, network) for network in message.networks)
        for assignment in message.tasks:
            self._assign(assignment)
        for task_id in self._departed(message):
            self._workers[task_id].discard()
        for name in message.dropped:
            self._specs.pop(SpecDigest(name), None)
            self._contents.pop(BlobDigest(name), None)
        for name in message.dropped_networks:
            self._networks.pop(name, None)
        if message.files or message.networks:
            self._supply()
        if message.complete and not self._swept:
            self._swept = True
            self._group.create_task(self._sweep(), name="sweep")

    def _assign(self, assignment: Assignment) -> None:
        if worker := self._workers.get(assignment.id):
            worker.assign(assignment)
            return
        spec = self._specs.get(assignment.spec_digest)
        if spec is None:
            raise OutOfStep(f"no spec {assignment.spec_digest} for task {assignment.id}")
        self._employ(StoredTask(assignment=assignment, spec=spec, status=assignment.status))

    def _departed(self, message: Assignments) -> list[TaskId]:
        """Tasks with a worker that the manager has no more."""
        if not message.complete:
            return [task_id for task_id in message.removed if task_id in self._workers]
        staying = {assignment.id for assignment in message.tasks}
        return [task_id for task_id in self._workers if task_id not in staying]

    def _supply(self) -> None:
        """Contents or networks have come: whoever waits for them goes on."""
        for worker in self._workers.values():
            worker.reconsider()

    def _employ(self, stored: StoredTask) -> Worker:
        context = TaskContext(stored.assignment, stored.spec, self._contents, self._networks)
        controller = self._executor.controller(context)
        worker = Worker(stored, controller, context, self._store, self._report, self._clock)
        self._workers[stored.assignment.id] = worker
        if self._fenced:
            worker.fence()
        self._idle.clear()
        self._group.create_task(self._run(worker), name=f"task {stored.assignment.id}")
        return worker

    async def _run(self, worker: Worker) -> None:
        await worker.run()
        del self._workers[worker.assignment.id]
        if not self._workers:
            self._idle.set()

    async def _sweep(self) -> None:
        """Remove what earlier lives of this agent left on the host and nobody assigns any more."""
        pause = RETRY_FIRST_SECONDS
        while True:
            try:
                found = await self._executor.known_tasks()
                break
            except StackdError as error:
                log.info("leftovers not listed yet: error=%s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_MAX_SECONDS)
        for task_id in found:
            if task_id not in self._workers:
                log.info("removing a task nobody assigns: task=%s", task_id)
                self._employ(_leftover(task_id, self._node_id)).discard()


def _leftover(task_id: TaskId, node_id: NodeId) -> StoredTask:
    """All that is known of a task found on the host alone: its id. That is enough to remove it."""
    status = TaskStatus(id=task_id, state=TaskState.SHUTDOWN, at=Instant(0))
    assignment = Assignment(
        id=task_id,
        service_id=ServiceId(""),
        stack="",
        service="",
        slot=0,
        node_id=node_id,
        spec_digest=SpecDigest(""),
        desired=TaskState.SHUTDOWN,
        status=status,
    )
    return StoredTask(assignment=assignment, spec=TaskSpec(container=ContainerSpec(image="")), status=status)
