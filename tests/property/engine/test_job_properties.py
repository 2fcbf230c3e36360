"""How far a job has come, told from a look at few of its slots, is what a look at all of them says."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st
from stackd.base.ids import NodeId, ServiceId, TaskId
from stackd.base.records import encode
from stackd.base.time import SECOND, Instant
from stackd.engine.dirty import SlotKey, key_of
from stackd.engine.draft import Draft
from stackd.engine.model import Service, SpecRow, Task
from stackd.engine.orchestrate.runs import Runs, runs_of
from stackd.engine.status import TaskStatus
from stackd.engine.store import Store, Transaction
from stackd.engine.taskstate import TaskState
from stackd.spec.digest import spec_digest
from stackd.spec.stack import ContainerSpec, RestartCondition, RestartPolicy, ServiceMode, ServiceSettings, TaskSpec

NOW = Instant(1_000 * SECOND)
SPECS = (
    TaskSpec(container=ContainerSpec(image="patient"), restart=RestartPolicy(max_attempts=1, window_ns=10 * SECOND)),
    TaskSpec(container=ContainerSpec(image="once"), restart=RestartPolicy(condition=RestartCondition.NONE)),
)
NODES = tuple(NodeId(f"n{number}") for number in range(6))


class Drawn:
    """A job, runs of its present iteration and of the one before, and changes of them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        mode = self._chance.choice([ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB])
        numbered = mode is ServiceMode.REPLICATED_JOB
        self.slots: list[SlotKey] = [(at, NodeId("")) for at in range(1, 7)] if numbered else [(0, node) for node in NODES]
        self.job = Service(
            id=ServiceId("s1"),
            stack="shop",
            name="shop_job",
            spec=spec_digest(self._chance.choice(SPECS)),
            settings=ServiceSettings(mode=mode),
            created_at=NOW,
            updated_at=NOW,
            iteration=2,
        )
        self.tasks: list[Task] = []
        for number in range(self._chance.randint(0, 14)):
            self.tasks.append(self.task(number))

    def task(self, number: int) -> Task:
        """The next run in a slot; those before it there have been stopped."""
        slot, node_id = key = self._chance.choice(self.slots)
        self.tasks = [self._stopped(task) if key_of(task) == key else task for task in self.tasks]
        return Task(
            id=TaskId(f"t{number}"),
            service_id=self.job.id,
            slot=slot,
            node_id=node_id,
            spec=self.job.spec,
            desired=self._chance.choice([TaskState.COMPLETE] * 3 + [TaskState.READY, TaskState.SHUTDOWN, TaskState.REMOVE]),
            created_at=NOW,
            version=number,
            iteration=self._chance.choice([1, 2, 2, 2]),
            restarts=(Instant(NOW - 5 * SECOND),) * self._chance.randint(0, 2),
        )

    def _stopped(self, task: Task) -> Task:
        stopped = max(task.desired, self._chance.choice([TaskState.SHUTDOWN, TaskState.REMOVE]))
        return msgspec.structs.replace(task, desired=stopped)

    def status(self, task: Task) -> TaskStatus:
        at = Instant(NOW + self._chance.choice([0, 20]) * SECOND)
        return TaskStatus(id=task.id, state=self._chance.choice(list(TaskState)), at=at)

    def change(self, draft: Draft) -> None:
        """Something that one decision may write."""
        for task in self._chance.sample(self.tasks, min(len(self.tasks), self._chance.randint(0, 4))):
            draft.put(self._chance.choice([self.status(task), self._stopped(task)]))
        for number in range(20, 20 + self._chance.randint(0, 2)):
            known, new = self.tasks, self.task(number)
            for before, after in zip(known, self.tasks, strict=True):
                if before != after:
                    draft.put(self._stopped(draft.tasks.get(before.id) or before))
            draft.put(new)
            self.tasks.append(new)

    def scope(self) -> set[SlotKey]:
        return set(self._chance.sample(self.slots, self._chance.randint(0, 3)))


def facts(runs: Runs, slots: list[SlotKey]) -> tuple[int, int, int, list[bool]]:
    return len(runs), runs.number_active, runs.number_completed, [runs.have(key) for key in slots]


@given(st.integers(0, 2**32))
@options(max_examples=200, deadline=None)
def test_a_look_at_some_slots_of_a_job_says_what_a_look_at_all_of_them_says(seed: int) -> None:
    drawn = Drawn(seed)
    store = Store()
    specs = [SpecRow(digest=spec_digest(spec), spec=spec) for spec in SPECS]
    rows = [row for task in drawn.tasks for row in (task, drawn.status(task))]
    store.apply(1, encode(Transaction(now=NOW, puts=(drawn.job, *specs, *rows))))
    draft = Draft(store.view, NOW, random.Random(1))
    drawn.change(draft)
    told = facts(runs_of(draft, drawn.job, drawn.scope()), drawn.slots)
    assert told == facts(runs_of(draft, drawn.job), drawn.slots)
    if (transaction := draft.transaction()) is not None:
        store.apply(2, encode(transaction))
    deletes = tuple(("tasks", task.id) for task in drawn.tasks[::3])
    store.apply(3, encode(Transaction(now=NOW, deletes=deletes)))
    for view in (store.view, store.fork().view, Store.restore(b"".join(store.freeze().chunks())).view):
        told = facts(runs_of(view, drawn.job, drawn.scope()), drawn.slots)
        assert told == facts(runs_of(view, drawn.job), drawn.slots)
