"""Whatever happens to tasks and contents, a complete set with all increments after it equals a fresh complete set."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from stackd.api.dispatch import Assignment, Assignments
from stackd.base.ids import BlobDigest, NetworkId, SpecDigest, TaskId
from stackd.base.time import Instant
from stackd.engine.model import Network
from stackd.engine.taskstate import DESIRED, TaskState
from stackd.manager.assignments import NodeAssignments
from stackd.spec.stack import NetworkAttachment, NetworkSpec, TaskSpec

from manager_builders import NODE, Desk, a_secret, a_service, a_spec, a_spec_row, a_task, a_task_status, opened

CONTENTS = (b"a", b"b", b"c")
NETWORKS = ("shop_a", "shop_b", "shop_c")


def on(networks: Iterable[str], spec: TaskSpec) -> TaskSpec:
    return msgspec.structs.replace(spec, networks=tuple(NetworkAttachment(network=name) for name in networks))


SPECS = tuple(on((*NETWORKS[:n], "host"), a_spec(f"img:v{n}", files=CONTENTS[:n])) for n in range(4))
TASKS = [f"t{n}" for n in range(5)]
OBSERVED = [TaskState.NEW, TaskState.PENDING, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.FAILED]


class Replica:
    """What an agent holds after applying messages, the simplest way."""

    def __init__(self) -> None:
        self.tasks: dict[TaskId, tuple[SpecDigest, TaskState]] = {}
        self.specs: dict[SpecDigest, TaskSpec] = {}
        self.files: dict[BlobDigest, bytes] = {}
        self.networks: dict[str, NetworkSpec] = {}

    def apply(self, messages: Iterable[Assignments]) -> None:
        for message in messages:
            self.specs.update((one.digest, one.spec) for one in message.specs)
            self.files.update((one.digest, one.data) for one in message.files)
            self.networks.update((one.name, one) for one in message.networks)
            self.tasks.update((one.id, _essence(one)) for one in message.tasks)
            for task_id in message.removed:
                del self.tasks[task_id]
            for name in message.dropped:
                assert (self.specs.pop(SpecDigest(name), None) is None) != (self.files.pop(BlobDigest(name), None) is None)
            for name in message.dropped_networks:
                del self.networks[name]


def a_network(name: str) -> Network:
    spec = NetworkSpec(name=name)
    return Network(name=name, id=NetworkId(name), spec=spec, created_at=Instant(0), updated_at=Instant(0))


def _essence(assignment: Assignment) -> tuple[SpecDigest, TaskState]:
    return assignment.spec_digest, assignment.desired


def churn(desk: Desk, chance: random.Random) -> str:
    """One random change of one task; returns the task."""
    task_id = chance.choice(TASKS)
    row = desk.store.view.tasks.get(task_id)
    kind = chance.random()
    if row is None or kind < 0.4:
        node = chance.choice([NODE, NODE, "n2"]) if row is None else row.node_id
        spec = chance.choice(SPECS)
        desk.write(a_task(task_id, spec=spec, node=node, desired=chance.choice(sorted(DESIRED))))
    elif kind < 0.8:
        desk.write(a_task_status(task_id, chance.choice(OBSERVED)))
    else:
        desk.write(delete=[row, a_task_status(task_id)])
    return task_id


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_a_complete_set_and_its_increments_equal_a_fresh_complete_set(seed: int, steps: list[int]) -> None:
    chance = random.Random(seed)
    desk = Desk(a_service(), *map(a_spec_row, SPECS), *map(a_secret, CONTENTS), *map(a_network, NETWORKS))
    for _ in range(5):
        churn(desk, chance)
    told, replica = NodeAssignments(desk.store.view, NODE, opened), Replica()
    replica.apply(told.complete())
    for count in steps:
        replica.apply(told.changes({TaskId(churn(desk, chance)) for _ in range(count)}))
        fresh = Replica()
        fresh.apply(NodeAssignments(desk.store.view, NODE, opened).complete())
        assert vars(replica) == vars(fresh)
        _check_supplies(desk, replica)


def _check_supplies(desk: Desk, replica: Replica) -> None:
    """No content and no network is on the node without a live task that uses it."""
    used = [
        replica.specs[digest]
        for task_id, (digest, desired) in replica.tasks.items()
        if desired <= TaskState.COMPLETE and desk.store.view.status_of(task_id).state <= TaskState.RUNNING
    ]
    assert set(replica.files) == {ref.digest for spec in used for ref in spec.container.secrets}
    assert set(replica.networks) == {one.network for spec in used for one in spec.networks} - {"host"}
