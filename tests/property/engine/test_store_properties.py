"""The store against plain dictionaries."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from stackd.base.ids import NodeId, ServiceId, TaskId
from stackd.base.records import encode
from stackd.engine.model import Task
from stackd.engine.store import Store, Transaction
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.digest import spec_digest

from engine_builders import START, a_spec

DIGEST = spec_digest(a_spec())
keys = st.sampled_from([f"t{number}" for number in range(12)])
owners = st.sampled_from(["s1", "s2", "s3"])
nodes = st.sampled_from(["", "n1", "n2"])


class Tasks(RuleBasedStateMachine):
    """Tasks come, move and go in the store and in a dictionary; forks and snapshots stay what they were."""

    forks = Bundle("forks")

    @initialize()
    def begin(self) -> None:
        self.store = Store()
        self.model: dict[str, Task] = {}

    @rule(key=keys, service=owners, node=nodes)
    def put(self, key: str, service: str, node: str) -> None:
        task = Task(
            id=TaskId(key),
            service_id=ServiceId(service),
            node_id=NodeId(node),
            slot=1,
            spec=DIGEST,
            desired=TaskState.RUNNING,
            created_at=START,
        )
        self.model[key] = task
        self._apply(Transaction(now=START, puts=(task,)))

    @rule(removed=st.lists(keys, max_size=3))
    def delete(self, removed: list[str]) -> None:
        for key in removed:
            self.model.pop(key, None)
        self._apply(Transaction(now=START, deletes=tuple(("tasks", key) for key in removed)))

    @rule(data=st.binary(max_size=20))
    def garbage(self, data: bytes) -> None:
        self.store.apply(self.store.index + 1, b"\xc1" + data)

    @rule(target=forks)
    def fork(self) -> tuple[View, dict[str, Task]]:
        return self.store.freeze().view, dict(self.model)

    @rule(fork=forks)
    def a_fork_is_what_it_was(self, fork: tuple[View, dict[str, Task]]) -> None:
        assert_same(*fork)

    @rule()
    def restart(self) -> None:
        self.store = Store.restore(b"".join(self.store.freeze().chunks()))

    @invariant()
    def the_store_is_the_model(self) -> None:
        if hasattr(self, "store"):
            assert_same(self.store.view, self.model)

    def _apply(self, transaction: Transaction) -> None:
        self.store.apply(self.store.index + 1, encode(transaction))


def assert_same(view: View, model: dict[str, Task]) -> None:
    assert {task.id: task for task in view.tasks.values()} == model
    assert len(view.tasks) == len(model)
    for service in ("s1", "s2", "s3"):
        found = {task.id for task in view.tasks_of_service(ServiceId(service))}
        assert found == {task.id for task in model.values() if task.service_id == service}
    for node in ("", "n1", "n2"):
        found = {task.id for task in view.tasks_of_node(NodeId(node))}
        assert found == {task.id for task in model.values() if task.node_id == node}


TestTasks = Tasks.TestCase
TestTasks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
