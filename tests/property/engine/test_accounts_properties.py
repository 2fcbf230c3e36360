"""Placing looks at the nodes that come up, and nothing else; what it decides is what a look at all of them would."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st
from stackd.base.ids import NodeId, ServiceId, SpecDigest, TaskId
from stackd.base.records import encode
from stackd.base.time import MINUTE, SECOND, Instant
from stackd.engine import assign
from stackd.engine.accounts import FAILURE_WINDOW, Accounts, shared_with_predecessor, takes_over
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.failures import failure_of
from stackd.engine.ledger import UNUSED, Usage, charge_of
from stackd.engine.model import Node, Row, Service, SpecRow, Task
from stackd.engine.parts import Availability, NodeDescription, NodeState, StartGate
from stackd.engine.schedule.filters import is_open
from stackd.engine.schedule.nodes import NodeInfo
from stackd.engine.schedule.resources import NOTHING, minus, unreserved
from stackd.engine.schedule.spread import Candidate, candidate
from stackd.engine.status import NodeStatus, TaskStatus
from stackd.engine.store import Store, Transaction
from stackd.engine.tally import running_of, underway_of
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.digest import spec_digest
from stackd.spec.stack import (
    GenericResource,
    Placement,
    Port,
    PublishMode,
    Resources,
    ServiceSettings,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)

from engine_builders import a_spec

NOW = Instant(1_700_000_000 * SECOND)
CORE = 10**9

SPECS: tuple[TaskSpec, ...] = (
    a_spec("plain"),
    a_spec("cpu", reservations=Resources(nano_cpus=CORE)),
    a_spec("gpu", reservations=Resources(generic=(GenericResource(kind="gpu", amount=1),))),
    a_spec("port", ports=(Port(target=80, published=80, mode=PublishMode.HOST),)),
    a_spec("one each", placement=Placement(max_per_node=1)),
    a_spec("racks", placement=Placement(spread=("node.labels.rack",), max_per_node=2)),
    a_spec("rack a", placement=Placement(constraints=("node.labels.rack == a",)), reservations=Resources(nano_cpus=CORE)),
)
DIGESTS = tuple(map(spec_digest, SPECS))


class PlainAccounts:
    """What `Accounts` has to come to: all tasks counted, all nodes looked at."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._placed: dict[ServiceId, Counter[NodeId]] = {}
        charges = [charge_of(task, draft.statuses.get(task.id), draft.specs) for task in draft.tasks.values()]
        self._charges = [charge for charge in charges if charge is not None]
        self._by_id = {node.id: self._account(node) for node in draft.nodes.values() if draft.node_statuses.get(node.id)}

    def _account(self, node: Node) -> NodeInfo:
        draft, used = self._draft, UNUSED
        for charge in self._charges:
            used = used.plus(charge) if charge.node_id == node.id else used
        reserved = used.reserved
        for task in draft.succeeding_tasks():
            if task.node_id == node.id:
                reserved = minus(reserved, shared_with_predecessor(draft, task) or NOTHING)
        status = draft.node_statuses.get(node.id)
        assert status is not None
        available = unreserved(status.description.resources, reserved)
        return NodeInfo(node, status, available, set(used.ports), used.live, stopping=used.stopping)

    def count_for(self, service: Service, digest: SpecDigest) -> None:
        draft = self._draft
        members = Counter(charge.node_id for charge in self._charges if charge.live and charge.service_id == service.id)
        members.update(self._placed.get(service.id, Counter()))
        members.subtract(task.node_id for task in draft.tasks_in_flux(service.id) if takes_over(draft, service, task))
        failures = [failure_of(task, draft.statuses.get(task.id)) for task in draft.tasks.values()]
        recent = [one for one in failures if one is not None and one.spec == digest and one.at > draft.now - FAILURE_WINDOW]
        counts = Counter(one.node_id for one in recent)
        for info in self._by_id.values():
            info.tasks_of_service = info.slots_of_service = members[info.id]
            info.recent_failures = counts[info.id]

    def placed(self, service_id: ServiceId, node_ids: Iterable[NodeId]) -> None:
        self._placed.setdefault(service_id, Counter()).update(node_ids)

    def get(self, node_id: NodeId) -> NodeInfo | None:
        return self._by_id.get(node_id)

    def all(self) -> Sequence[NodeInfo]:
        return list(self._by_id.values())

    def ranked(self) -> Iterator[Candidate]:
        return iter(sorted(map(candidate, self._by_id.values())))


class Chance:
    """Random rows about a few nodes and services."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._pick = chance.choice
        self.nodes = [NodeId(f"n{number}") for number in range(chance.randint(1, 9))]
        self.services = [self.service(number) for number in range(3)]
        self.tasks: list[Task] = []

    def service(self, number: int) -> Service:
        order = self._pick(list(UpdateOrder))
        return Service(
            id=ServiceId(f"s{number}"),
            stack="shop",
            name=f"shop_s{number}",
            spec=self._pick(DIGESTS),
            settings=ServiceSettings(replicas=3, update=UpdateConfig(order=order)),
            created_at=NOW,
            updated_at=NOW,
        )

    def node(self, node_id: NodeId) -> tuple[Node, NodeStatus]:
        pick = self._pick
        rack = pick(["a", "b", ""])
        gpus = (GenericResource(kind="gpu", amount=self._chance.randint(1, 3)),) if pick([True, False]) else ()
        description = NodeDescription(
            hostname=node_id,
            resources=Resources(nano_cpus=self._chance.randint(0, 6) * CORE, generic=gpus),
            executors=pick([("fake",)] * 5 + [()]),
            features=("ports-map",),
        )
        availability = pick([Availability.ACTIVE] * 4 + [Availability.DRAIN])
        state = pick([NodeState.READY] * 4 + [NodeState.DOWN])
        return (
            Node(id=node_id, created_at=NOW, availability=availability, labels=(("rack", rack),) if rack else ()),
            NodeStatus(id=node_id, state=state, at=NOW, description=description),
        )

    def task(self, key: str, *, waiting: bool) -> tuple[Task, TaskStatus]:
        pick = self._pick
        service = pick(self.services)
        digest = pick([service.spec, service.spec, pick(DIGESTS)])
        others = [other for other in self.tasks if other.service_id == service.id]
        before = pick(others) if others and pick([True, False]) else None
        gate = StartGate(not_before=NOW, after=before.id) if before is not None and pick([True, False]) else None
        placed = self._status(key, waiting=waiting)
        node_id = "" if placed.state < TaskState.ASSIGNED and pick([True, True, True, waiting]) else pick([*self.nodes, "gone"])
        task = Task(
            id=TaskId(key),
            service_id=service.id,
            slot=before.slot if before is not None else self._chance.randint(1, 6),
            node_id=NodeId(node_id),
            spec=digest,
            desired=TaskState.RUNNING if waiting else pick([TaskState.RUNNING] * 3 + [TaskState.READY, TaskState.SHUTDOWN]),
            created_at=Instant(NOW - self._chance.randint(0, 3)),
            replaces=before.id if before is not None and (gate is None or pick([True, False])) else TaskId(""),
            gate=gate,
            order=pick([None, None, *UpdateOrder]),
            generic=SPECS[DIGESTS.index(digest)].reservations.generic,
        )
        self.tasks.append(task)
        return task, placed

    def _status(self, key: str, *, waiting: bool) -> TaskStatus:
        if waiting:
            return TaskStatus(id=TaskId(key), state=TaskState.PENDING, at=NOW)
        states = [TaskState.RUNNING] * 5 + [TaskState.FAILED] * 4 + list(TaskState)
        at = Instant(NOW - self._pick([0, 1, 6]) * MINUTE)
        return TaskStatus(id=TaskId(key), state=self._pick(states), at=at)

    def rows(self) -> list[Row]:
        """A whole state."""
        rows: list[Row] = [SpecRow(digest=digest, spec=spec) for digest, spec in zip(DIGESTS, SPECS, strict=True)]
        rows += self.services
        rows += [row for node_id in self.nodes for row in self.node(node_id)]
        return rows + [row for number in range(self._chance.randint(0, 40)) for row in self.task(f"t{number}", waiting=False)]

    def changes(self) -> list[tuple[Row, bool]]:
        """What one decision may write, and whether the row is deleted."""
        changed: list[tuple[Row, bool]] = []
        for task in self._chance.sample(self.tasks, min(len(self.tasks), self._chance.randint(0, 6))):
            row: Row = self._pick(
                [msgspec.structs.replace(task, desired=TaskState.SHUTDOWN), self._status(task.id, waiting=False)]
            )
            changed.append((row, self._pick([True, False, False, False])))
        nodes = self._chance.sample(self.nodes, min(len(self.nodes), self._chance.randint(0, 2)))
        changed += [(self._pick(self.node(node_id)), self._pick([True, False, False, False])) for node_id in nodes]
        changed += [(row, False) for row in self.node(NodeId("joined"))]
        return changed + [
            (row, False) for number in range(self._chance.randint(1, 12)) for row in self.task(f"w{number}", waiting=True)
        ]


def a_store(rows: Iterable[Row]) -> Store:
    store = Store()
    store.apply(1, encode(Transaction(now=NOW, puts=tuple(rows))))
    return store


def decide(store: Store, changes: Sequence[tuple[Row, bool]], accounts: Callable[[Draft], object]) -> Transaction | None:
    """What placing adds to a decision that has made some changes."""
    draft = Draft(store.view, NOW, random.Random(1))
    for row, deleted in changes:
        if deleted:
            draft.delete(type(row), row.key)
        else:
            draft.put(row)
    dirty = Dirty()
    dirty.mark_all(draft)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assign, "Accounts", accounts)
        assign.assign(draft, dirty, lambda _, work: work())
    return draft.transaction()


@given(st.integers(0, 2**32))
@options(max_examples=150, deadline=None)
def test_a_task_is_placed_where_a_look_at_all_nodes_would_place_it(seed: int) -> None:
    drawn = Chance(random.Random(seed))
    store, changes = a_store(drawn.rows()), drawn.changes()
    assert decide(store, changes, Accounts) == decide(store, changes, PlainAccounts)


@given(st.integers(0, 2**32))
@options(max_examples=80, deadline=None)
def test_what_the_ledger_keeps_up_is_what_a_count_of_everything_says(seed: int) -> None:
    drawn = Chance(random.Random(seed))
    store = a_store(drawn.rows())
    fork = store.fork()
    for index, (row, deleted) in enumerate(drawn.changes(), start=2):
        names = {Node: "nodes", NodeStatus: "node_statuses", Task: "tasks", TaskStatus: "statuses"}
        entry = Transaction(now=NOW, deletes=((names[type(row)], row.key),)) if deleted else Transaction(now=NOW, puts=(row,))
        store.apply(index, encode(entry))
        assert_counted(store.view)
    assert_counted(fork.view)
    assert_counted(Store.restore(b"".join(store.freeze().chunks())).view)


def assert_counted(view: View) -> None:
    tasks = [(task, view.statuses.get(task.id)) for task in view.tasks.values()]
    charges = [charge for task, status in tasks if (charge := charge_of(task, status, view.specs)) is not None]
    used: dict[NodeId, Usage] = {}
    for charge in charges:
        used[charge.node_id] = used.get(charge.node_id, UNUSED).plus(charge)
    opened = [node.id for node in view.nodes.values() if is_open(node, view.node_statuses.get(node.id))]
    assert list(view.ledger.by_load) == sorted((used.get(node_id, UNUSED).live, node_id) for node_id in opened)
    assert [node.id for node in view.nodes_from(NodeId(""))] == sorted(node.id for node in view.nodes.values())
    underway, running = (Counter(of(task, status) for task, status in tasks) for of in (underway_of, running_of))
    for service in view.services.values():
        members = Counter(charge.node_id for charge in charges if charge.live and charge.service_id == service.id)
        assert view.ledger.members_of(service.id) == members
        assert view.ledger.underway.count(service.id) == underway[service.id]
        assert view.ledger.running.count(service.id) == running[service.id]
