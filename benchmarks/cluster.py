"""Five nodes, three of them managers: `make bench NAME=cluster`. Swarm and stackd on the same engines, one after the other.

Forty tasks of one static image on five engines in network namespaces, eight on each; restart delay 0, monitor 1 ns unless said,
the engine's own network. Each row is measured on both sides in the same way and printed with the ratio; `--ours-only` leaves
Swarm out, `--rows` all rows but those named. Needs root and dockerd; nine minutes for both on a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from benchmarks.agents import cpu_seconds, resident_megabytes
from benchmarks.cluster_ground import HOSTS, MANAGERS, TASKS, Engines, Running, engines_on_hosts, wait, watch
from benchmarks.figures import figure
from benchmarks.our_cluster import our_cluster
from benchmarks.peer_swarm_cluster import swarm_cluster

WORKER = HOSTS - 1
IDLE_SECONDS = 30.0
MANY = 300
MANY_ROUNDS = 5
LISTS = 20
WRITE_POLL_SECONDS = 0.05

Figures = dict[str, float]


class Side(Protocol):
    """Swarm or we. Nodes are named by the number of their host; `asked` is the manager that is asked."""

    name: str

    def form(self) -> None: ...
    def ready(self, asked: int = 0) -> int: ...
    def is_down(self, number: int, asked: int = 0) -> bool: ...
    def leader(self) -> int: ...
    def deploy(
        self,
        release: str,
        *,
        parallelism: int = 1,
        order: str = "stop-first",
        asked: int = 0,
        monitor: float = 1e-9,
        failure_action: str = "pause",
    ) -> None: ...
    def rollout(self, asked: int = 0) -> str: ...
    def remove(self) -> None: ...
    def set_availability(self, number: int, availability: str) -> None: ...
    def write(self, asked: int) -> bool: ...
    def kill_manager(self, number: int) -> None: ...
    def restart_manager(self, number: int) -> None: ...
    def pids(self, number: int) -> list[int]: ...
    def create_many(self, number: int, asked: int) -> float: ...
    def list_services(self, asked: int) -> int: ...
    def remove_many(self, asked: int) -> None: ...


class Rows:
    """The table for one side. Each row leaves forty tasks of the last release on all nodes, except the removal, after which
    there are none."""

    def __init__(self, side: Side, engines: Engines) -> None:
        self._side = side
        self._engines = engines
        self._releases = iter(range(1, 1000))
        self._release = ""
        self.figures: Figures = {}

    def run(self, names: Collection[str]) -> Figures:
        """Measure these rows. Forming and creating are what the others stand on, so they are always there."""
        self._form()
        self._create()
        for name, measure in self._rows.items():
            if name in names:
                measure(self)
        return self.figures

    def _note(self, name: str, value: float, unit: str = "s") -> None:
        self.figures[name] = value
        figure(f"{self._side.name}_{name}", value, unit)

    def _form(self) -> None:
        began = time.monotonic()
        self._side.form()
        self._note("form_ready", wait(lambda: self._side.ready() == HOSTS, began))

    def _deploy(self, **settings: Any) -> float:
        """Deploy the next release; returns when that began."""
        self._release = str(next(self._releases))
        began = time.monotonic()
        self._side.deploy(self._release, **settings)
        return began

    def _is_rolled_out(self, running: Running) -> bool:
        return running.by_release == {self._release: TASKS}

    def _create(self) -> None:
        began = self._deploy()
        self._note("create_40", watch(self._engines, self._is_rolled_out, began).seconds)

    def _rolls(self) -> None:
        for order in ("stop-first", "start-first"):
            for parallelism in (1, 4, 10):
                self._roll(parallelism, order)

    def _roll(self, parallelism: int, order: str) -> None:
        began = self._deploy(parallelism=parallelism, order=order)
        seen = watch(self._engines, self._is_rolled_out, began)
        name = f"roll_{order}_{parallelism}"
        self._note(name, seen.seconds)
        if order == "stop-first":
            self._note(f"{name}_lowest", seen.lowest, "tasks")
        else:
            self._note(f"{name}_highest", seen.highest, "tasks")
        wait(lambda: self._side.rollout() == "completed")

    def _fails(self) -> None:
        self._fail_and_pause()
        self._fail_and_roll_back()

    def _deploy_bad(self, action: str) -> float:
        """Begin an update that can't work, at parallelism 4."""
        began = time.monotonic()
        self._side.deploy("bad", parallelism=4, monitor=2.0, failure_action=action)
        return began

    def _fail_and_pause(self) -> None:
        began = self._deploy_bad("pause")
        self._note("failed_update_paused", wait(lambda: self._side.rollout() == "paused", began))
        self._note("failed_update_broken", TASKS - self._engines.running().total, "tasks")
        self._spread()

    def _fail_and_roll_back(self) -> None:
        began, rolled_back = self._deploy_bad("rollback"), 0.0

        def is_undone(running: Running) -> bool:
            nonlocal rolled_back
            if not rolled_back and self._side.rollout() == "rollback_completed":
                rolled_back = time.monotonic() - began
            return rolled_back > 0 and self._is_rolled_out(running)

        seen = watch(self._engines, is_undone, began)
        self._note("failed_update_rolled_back", rolled_back)
        self._note("failed_update_all_old_running", seen.seconds)
        self._note("failed_update_lowest", seen.lowest, "tasks")

    def _drain(self) -> None:
        had = self._engines.running().by_host[WORKER]
        began = time.monotonic()
        self._side.set_availability(WORKER, "drain")
        self._note("drain_gone", watch(self._engines, lambda seen: seen.by_host[WORKER] == 0, began).seconds)
        self._note("drain_replaced", watch(self._engines, self._is_rolled_out, began).seconds)
        figure(f"{self._side.name}_drained", had, "tasks")
        self._side.set_availability(WORKER, "active")
        self._spread()

    def _spread(self) -> None:
        """Tasks on every node again."""
        began = self._deploy(parallelism=10)
        watch(self._engines, self._is_rolled_out, began)
        wait(lambda: self._side.rollout() == "completed")

    def _cut_off(self) -> None:
        host = self._engines.hosts[WORKER]
        began = time.monotonic()
        self._engines.network.pull(host)
        self._note("cut_down", wait(lambda: self._side.is_down(WORKER), began))
        elsewhere = watch(self._engines, lambda seen: seen.total - seen.by_host[WORKER] == TASKS, began)
        self._note("cut_40_elsewhere", elsewhere.seconds)
        began = time.monotonic()
        self._engines.network.plug(host)
        self._note("healed_ready", wait(lambda: self._side.ready() == HOSTS, began))
        self._note("healed_duplicates_gone", watch(self._engines, self._is_rolled_out, began).seconds)
        self._spread()

    def _lose_leader(self) -> None:
        """Kill -9 of the leader in the middle of an update."""
        leader = self._side.leader()
        asked = next(number for number in range(MANAGERS) if number != leader)
        self._deploy(parallelism=1, order="stop-first")
        watch(self._engines, lambda seen: seen.by_release[self._release] >= TASKS // 4)
        began = time.monotonic()
        self._side.kill_manager(leader)
        self._note("leader_killed_next_write", wait(lambda: self._side.write(asked), began, WRITE_POLL_SECONDS))
        self._note("leader_killed_node_down", wait(lambda: self._side.is_down(leader, asked), began))

        def elsewhere(seen: Running) -> bool:
            return seen.total - seen.by_host[leader] == TASKS

        self._note("leader_killed_40_elsewhere", watch(self._engines, elsewhere, began).seconds)
        self._note("leader_killed_update_completed", wait(lambda: self._side.rollout(asked) == "completed", began))
        began = time.monotonic()
        self._side.restart_manager(leader)
        self._note("leader_restarted_all_ready", wait(lambda: self._side.ready(asked) == HOSTS, began))
        watch(self._engines, self._is_rolled_out)
        self._spread()

    def _lose_quorum(self) -> None:
        """Two of three managers are gone: the third refuses, and all tasks run on."""
        leader = self._side.leader()
        dead = [number for number in range(MANAGERS) if number != leader]
        for number in dead:
            self._side.kill_manager(number)
        began = time.monotonic()
        accepted = self._side.write(leader)
        self._note("no_quorum_refused_after", time.monotonic() - began)
        if accepted:
            raise AssertionError("a write without a quorum was accepted")
        self._note("no_quorum_running", self._engines.running().total, "tasks")
        began = time.monotonic()
        with ThreadPoolExecutor(len(dead)) as pool:
            list(pool.map(self._side.restart_manager, dead))
        self._note("quorum_back_next_write", wait(lambda: self._side.write(leader), began, WRITE_POLL_SECONDS))
        wait(lambda: self._side.ready(leader) == HOSTS)
        watch(self._engines, self._is_rolled_out)

    def _idle(self) -> None:
        places = {"leader": 0, "follower": 1, "worker": WORKER}
        pids = {place: self._side.pids(number) for place, number in places.items()}
        before = {place: sum(map(cpu_seconds, of)) for place, of in pids.items()}
        time.sleep(IDLE_SECONDS)
        for place, of in pids.items():
            self._note(f"idle_cpu_{place}", (sum(map(cpu_seconds, of)) - before[place]) * 60 / IDLE_SECONDS, "CPU s a minute")
            self._note(f"idle_rss_{place}", sum(map(resident_megabytes, of)), "MiB")

    def _remove(self) -> None:
        began = time.monotonic()
        self._side.remove()
        self._note("remove_40", wait(lambda: not self._engines.running().total and not self._engines.containers(), began))

    def _many(self) -> None:
        """Asked of the leader, and of a manager that has to carry each call on to it: in turns, so that whatever else the
        machine does meets both alike. The medians of the rounds."""
        created, listed = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        for _ in range(MANY_ROUNDS):
            leader = self._side.leader()
            for role, asked in (("leader", leader), ("follower", (leader + 1) % MANAGERS)):
                created[role].append(self._side.create_many(MANY, asked))
                listed[role] += [self._list_time(asked) for _ in range(LISTS)]
                self._side.remove_many(asked)
        for role in created:
            self._note(f"create_300_services_by_{role}", statistics.median(created[role]))
            self._note(f"list_300_services_by_{role}", statistics.median(listed[role]))

    def _list_time(self, asked: int) -> float:
        began = time.monotonic()
        found = self._side.list_services(asked)
        took = time.monotonic() - began
        if found < MANY:
            raise AssertionError(f"{found} services are listed of {MANY}")
        return took

    _rows: Mapping[str, Callable[[Rows], None]] = {
        "idle": _idle,
        "rolls": _rolls,
        "fails": _fails,
        "drain": _drain,
        "cut": _cut_off,
        "leader": _lose_leader,
        "quorum": _lose_quorum,
        "remove": _remove,
        "many": _many,
    }
    names = tuple(_rows)


def main(arguments: Sequence[str] = ()) -> int:
    """Measure Swarm, then us, and print a figure per line."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    parser.add_argument("--ours-only", action="store_true", help="skip the peer: print our seconds without ratios")
    parser.add_argument("--rows", nargs="+", choices=Rows.names, default=Rows.names, help="only these")
    options = parser.parse_args(arguments)
    peer: Figures = {}
    with engines_on_hosts() as engines:
        if not options.ours_only:
            with swarm_cluster(engines) as swarm:
                peer = Rows(swarm, engines).run(options.rows)
        with our_cluster(engines) as side:
            ours = Rows(side, engines).run(options.rows)
    for name in ours:
        if peer.get(name):
            figure(f"{name}_over_swarm", ours[name] / peer[name], "ratio", ours=ours[name], base=peer[name])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
