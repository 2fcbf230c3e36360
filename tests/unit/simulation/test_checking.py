"""The simulator's own eyes: what it must not miss, and what it counts."""

from __future__ import annotations

import asyncio
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from stackd.base.time import SECOND, Instant
from stackd.engine.inputs import SetAvailability
from stackd.engine.model import Row, Task
from stackd.engine.parts import SYSTEM, Availability
from stackd.engine.status import Rollout
from stackd.engine.store import Store, Transaction, encode_transaction
from stackd.engine.taskstate import TaskState
from stackd.simulation.branches import Branches
from stackd.simulation.checker import Checker, differing, left_undone
from stackd.simulation.cluster import SimulatedCluster, Violation
from stackd.simulation.coverage import Recorder, missing, required, table
from stackd.simulation.history import history, play
from stackd.simulation.loop import run
from stackd.simulation.stacks import a_service, a_stack

SHOP = """
def price(age):
    if age < 7:
        return 0
    elif age > 65:
        return 5
    return 10

class Till:
    def open(self, key):
        match key:
            case 'a':
                return True
            case _:
                return False
"""


class Watched:
    """A copy of a cluster's state with a checker on it, to which entries come that no engine would write."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.store: Store = cluster.leader.writer.store.fork()
        self.checker = Checker(self.store.view)

    def put(self, *rows: Row, seconds: int = 0) -> list[str]:
        """What has been found by the time these rows are put, so much later."""
        now = Instant(self.store.view.now + seconds * SECOND)
        changes = self.store.apply(self.store.index + 1, encode_transaction(Transaction(now=now, puts=rows)))
        self.checker.look(self.store.view, changes)
        return self.checker.findings


async def settled(cluster: SimulatedCluster, replicas: int = 2) -> list[Task]:
    await cluster.deploy(a_stack("shop", a_service(replicas=replicas)))
    await cluster.settle()
    return sorted(cluster.view.tasks.values(), key=lambda task: task.slot)


def test_a_task_that_goes_back_is_found() -> None:
    async def story() -> None:
        async with SimulatedCluster(1).running() as cluster:
            task, _ = await settled(cluster)
            watched = Watched(cluster)
            status = cluster.view.status_of(task.id)
            assert watched.put(status) == []
            (finding,) = watched.put(msgspec.structs.replace(status, state=TaskState.READY))
            assert "went back from running to ready" in finding

    run(story())


def test_a_task_that_stays_on_a_drained_node_is_found_late_and_not_early() -> None:
    async def story() -> None:
        async with SimulatedCluster(1).running() as cluster:
            task, _ = await settled(cluster)
            watched = Watched(cluster)
            node = cluster.view.nodes.get(task.node_id)
            assert node is not None
            drained = msgspec.structs.replace(node, availability=Availability.DRAIN)
            for seconds, found in ((0, False), (10, False), (40, True)):
                findings = watched.put(drained, seconds=seconds)
                assert any("long ago" in finding for finding in findings) == found

    run(story())


def test_an_update_that_forgets_its_failures_is_found() -> None:
    async def story() -> None:
        async with SimulatedCluster(1).running() as cluster:
            task, _ = await settled(cluster)
            await cluster.deploy(a_stack("shop", a_service(image="img:v2", replicas=2)))
            (rollout,) = cluster.view.rollouts.values()
            failed: Rollout = msgspec.structs.replace(rollout, failed=(task.id,))
            watched = Watched(cluster)
            watched.put(failed)
            assert any("has forgotten failures" in finding for finding in watched.put(rollout))

    run(story())


def test_what_the_engine_would_still_do_is_found() -> None:
    async def story() -> None:
        async with SimulatedCluster(1).running() as cluster:
            await settled(cluster)
            assert left_undone(cluster.view) == []
            watched = Watched(cluster)
            (service,) = cluster.view.services.values()
            watched.put(msgspec.structs.replace(service, settings=msgspec.structs.replace(service.settings, replicas=3)))
            assert left_undone(watched.store.view)[0].startswith("left undone: Task(")

    run(story())


def test_managers_that_differ_are_found() -> None:
    async def differ(cluster: SimulatedCluster) -> None:
        async with cluster.running():
            task, _ = await settled(cluster)
            await asyncio.sleep(5)
            follower = next(manager for manager in cluster.managers if not manager.leads).writer.store
            assert differing(follower.view, cluster.view) == []
            gone = Transaction(now=cluster.view.now, deletes=(("tasks", task.id), ("statuses", task.id)))
            follower.apply(follower.index, encode_transaction(gone))

    with pytest.raises(ExceptionGroup) as failed:
        run(differ(SimulatedCluster(1, managers=3)))
    assert failed.group_contains(Violation, match="differ in tasks")


def test_what_happens_is_counted_and_what_does_not_is_missed() -> None:
    async def story() -> None:
        recorder = Recorder()
        cluster = SimulatedCluster(1)
        cluster.checker.observers.append(recorder.observe)
        async with cluster.running():
            await settled(cluster)
            node = cluster.nodes[0].id
            await cluster.submit(SetAvailability(id=node, availability=Availability.DRAIN, principal=SYSTEM))
            await cluster.settle()
        for one in cluster.nodes:
            recorder.add_moves(one.host.states.moves)
        counts = recorder.counts
        assert counts["task", "starting -> running"] >= 2
        assert counts["event", "node.availability"] == 1
        lines = missing(counts, required())
        assert "task: starting -> running" not in lines
        assert "task: running -> failed (end)" in lines
        assert any(" !task" in line for line in table(counts, required()))

    run(story())


def loaded(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_branches_are_counted_by_name_in_functions_that_others_have_imported(tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text(SHOP)
    module = loaded(path)
    price, till = module.price, module.Till()
    branches = Branches()
    branches.follow(module)
    assert (price(3), price(30), till.open("a")) == (0, 10, True)
    assert branches.counts == {
        "shop.price: age < 7": 1,
        "shop.price: not (age < 7)": 1,
        "shop.price: not (age > 65)": 1,
        "shop.open: key is 'a'": 1,
    }
    assert set(branches.names) - set(branches.counts) == {"shop.price: age > 65", "shop.open: key is _"}


def test_a_seed_gives_one_history() -> None:
    once, again = (run(history(5, changes=60, faults=5)) for _ in range(2))
    assert once.entries == again.entries
    assert once.counts == again.counts
    assert once.changes >= 60


def test_a_history_that_fails_says_so_and_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackd.simulation.cluster.unsettled", lambda view, hosts: ["nothing is ever right"])
    assert play(3).error == "Violation: seed 3: not settled: nothing is ever right"
