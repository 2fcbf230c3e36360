"""What goes wrong in a simulated cluster, at random, until it is healed.

Each kind is one method; `counts` says how often each has happened, so that a test can tell that none is forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations, permutations
from typing import TypeVar

from raft_cluster import NEWEST_LEVEL, Cluster, address
from raft_host import Host
from raft_network import Conditions
from stackd.raft.node import Node, Ticket

T = TypeVar("T")

MEAN_SECONDS = 0.5
"""Between two faults."""

MAX_HOSTS = 8


class Faults:
    """Faults come from the moment it is made until `heal`."""

    def __init__(self, cluster: Cluster, favourite: str = "") -> None:
        """With a `favourite` that kind comes more often than any other."""
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._random = cluster.time.random("faults")
        self._is_active = True
        kinds: list[tuple[int, Callable[[], None]]] = [
            (4, self.network_heals),
            (3, self.one_is_cut_off),
            (6, self.leader_is_cut_off),
            (2, self.network_splits),
            (3, self.one_direction_fails),
            (2, self.a_bridge_remains),
            (2, self.network_is_slow),
            (2, self.streams_are_reset),
            (1, self.queues_are_short),
            (3, self.process_is_killed),
            (3, self.leader_is_killed),
            (2, self.power_fails),
            (3, self.voter_is_killed),
            (4, self.crash_while_writing),
            (1, self.power_fails_everywhere),
            (2, self.disk_is_slow),
            (2, self.disk_is_full),
            (2, self.disk_has_errors),
            (3, self.process_stands_still),
            (2, self.clock_runs_wrong),
            (1, self.snapshots_are_large),
            (3, self.leadership_is_transferred),
            (2, self.member_is_added),
            (2, self.member_is_removed),
            (1, self.many_are_removed),
            (2, self.software_is_upgraded),
            (1, self.software_is_taken_back),
            (2, self.key_is_rotated),
            (1, self.quorum_is_lost),
        ]
        self.kinds = {kind.__name__: kind for _, kind in kinds}
        self._weights = [weight for weight, _ in kinds]
        # Each seed has a few favourites: histories that differ more find more than an even mixture does.
        self._favourites = [favourite, favourite] if favourite else []
        self._favourites += self._random.sample(sorted(self.kinds), 6)
        self._later()

    def heal(self) -> None:
        """From now on nothing goes wrong, and what was broken is repaired."""
        self._is_active = False
        cluster = self._cluster
        cluster.note("-- all is healed")
        cluster.network.conditions = Conditions()
        cluster.network.lose(set())
        for host in cluster.hosts.values():
            host.repair_disk()
            host.down_until = 0.0
            if host.is_of_the_past:
                cluster.retire(host)  # it is stopped at last, and emptied
            elif host.feature_level < NEWEST_LEVEL:
                cluster.set_software(host, NEWEST_LEVEL)

    def _later(self, at_least: float = 0.0) -> None:
        self._cluster.time.after(at_least + self._random.expovariate(1 / MEAN_SECONDS), self._happen)

    def _happen(self) -> None:
        if not self._is_active:
            return
        if self._random.random() < 0.6:
            name = self._random.choice(self._favourites)
        else:
            name = self._random.choices(list(self.kinds), self._weights)[0]
        self.kinds[name]()
        # Two leaders at a time, of whom one doesn't know it yet: let it be so for a while.
        self._later(1.0 if name == self.leader_is_cut_off.__name__ else 0.0)

    def _did(self, kind: str, details: str = "") -> None:
        self.counts[kind] += 1
        self._cluster.note(f"-- {kind.replace('_', ' ')} {details}")

    def _some(self, choices: list[T], most: int) -> list[T]:
        """At least one and at most `most` of them, if there are any."""
        return self._random.sample(choices, min(len(choices), self._random.randint(1, max(1, most))))

    def _any_host(self) -> Host:
        return self._random.choice(list(self._cluster.hosts.values()))

    def _names(self) -> list[str]:
        return list(self._cluster.hosts)

    def _down_seconds(self) -> float:
        return self._random.choice([0.05, 0.3, 2.0])

    # -- network

    def network_heals(self) -> None:
        self._did("network_heals")
        self._cluster.network.conditions = Conditions()
        self._cluster.network.lose(set())

    def one_is_cut_off(self) -> None:
        one = self._random.choice(self._names())
        self._did("one_is_cut_off", one)
        self._lose_between({one}, set(self._names()) - {one})

    def leader_is_cut_off(self) -> None:
        """Alone, or with some that are too few; it may not know yet that others elect another."""
        if leader := self._cluster.leader():
            others = [name for name in self._names() if name != leader.name]
            kept = self._random.sample(others, self._random.randint(0, max(0, len(others) - 1) // 2))
            self._did("leader_is_cut_off", f"{leader.name} with {kept}")
            self._lose_between({leader.name, *kept}, set(others) - set(kept))

    def network_splits(self) -> None:
        names = self._names()
        part = set(self._some(names, len(names) - 1))
        self._did("network_splits", f"{sorted(part)} | {sorted(set(names) - part)}")
        self._lose_between(part, set(names) - part)

    def one_direction_fails(self) -> None:
        pairs = list(permutations(self._names(), 2))
        lost = self._some(pairs, len(pairs) // 3)
        self._did("one_direction_fails", ", ".join(f"{sender}>{receiver}" for sender, receiver in lost))
        self._cluster.network.lose(set(lost))

    def a_bridge_remains(self) -> None:
        """Some pairs can't talk, though all are connected through others."""
        pairs = list(combinations(self._names(), 2))
        lost = self._some(pairs, len(pairs) - len(self._names()) + 1)
        self._did("a_bridge_remains", str(lost))
        self._cluster.network.lose({pair for one, other in lost for pair in ((one, other), (other, one))})

    def _lose_between(self, one: set[str], other: set[str]) -> None:
        self._cluster.network.lose({pair for a in one for b in other for pair in ((a, b), (b, a))})

    def network_is_slow(self) -> None:
        seconds = self._random.choice([0.03, 0.1, 0.5])
        self._did("network_is_slow", f"up to {seconds} s")
        self._cluster.network.conditions.slowest_seconds = seconds
        self._cluster.network.conditions.bytes_per_second = self._random.choice([50e6, 200e3])

    def streams_are_reset(self) -> None:
        pairs = list(combinations(self._names(), 2))
        self._did("streams_are_reset")
        for one, other in self._some(pairs, len(pairs)):
            self._cluster.network.reset(one, other)

    def queues_are_short(self) -> None:
        self._did("queues_are_short")
        self._cluster.network.conditions.queue_bytes = self._random.choice([2_000, 30_000])

    # -- processes and machines

    def process_is_killed(self) -> None:
        host = self._any_host()
        self._did("process_is_killed", host.name)
        self._cluster.crash(host, silently=False, down_seconds=self._down_seconds())

    def leader_is_killed(self) -> None:
        if host := self._cluster.leader():
            self._did("leader_is_killed", host.name)
            self._cluster.crash(host, silently=self._random.random() < 0.5, down_seconds=self._down_seconds())

    def power_fails(self) -> None:
        host = self._any_host()
        self._did("power_fails", host.name)
        self._cluster.crash(host, silently=True, down_seconds=self._down_seconds())

    def power_fails_everywhere(self) -> None:
        self._did("power_fails_everywhere")
        for host in self._cluster.hosts.values():
            self._cluster.crash(host, silently=True, down_seconds=self._down_seconds())

    def crash_while_writing(self) -> None:
        """Sometimes more than one, at about the same time: a batch is on its way to all of them."""
        hosts = list(self._cluster.hosts.values())
        for host in self._some(hosts, len(hosts)):
            self._did("crash_while_writing", host.name)
            host.trouble.operations_until_crash = self._random.randrange(6)

    def voter_is_killed(self) -> None:
        """Two candidates of one term, and who has voted for the first dies of it and is back before the second one asks."""
        leader = self._cluster.leader()
        if leader is None or len(self._cluster.hosts) < 5:
            return
        self._did("voter_is_killed")
        self._cluster.crash(leader, silently=True, down_seconds=2.0)
        self._cluster.when_someone_votes(lambda host: self._cluster.crash(host, silently=True, down_seconds=0.0))
        candidates = self._random.sample([host for host in self._cluster.hosts.values() if host is not leader], 2)
        candidates[0].trouble.sync_seconds = 0.15
        self._cluster.time.after(3.0, candidates[0].repair_disk)
        for host in candidates:
            host.pause(1.2)  # the others are too few to elect without them; then both wake up at the same time

    def process_stands_still(self) -> None:
        host, seconds = self._any_host(), self._random.choice([0.1, 0.5, 2.0])
        self._did("process_stands_still", f"{host.name} {seconds} s")
        host.pause(seconds)

    def clock_runs_wrong(self) -> None:
        host = self._any_host()
        host.clock_rate = self._random.uniform(0.97, 1.03)
        self._did("clock_runs_wrong", f"{host.name} x{host.clock_rate:.3f}")

    def snapshots_are_large(self) -> None:
        """No fault, but it takes a while to write one, and several pieces to send it."""
        self._did("snapshots_are_large")
        for host in self._cluster.hosts.values():
            host.snapshot_padding_bytes = self._random.choice([0, 300_000, 3_000_000])

    # -- disks

    def disk_is_slow(self) -> None:
        host = self._any_host()
        host.trouble.sync_seconds = self._random.choice([0.01, 0.05, 0.3])
        self._did("disk_is_slow", f"{host.name} {host.trouble.sync_seconds} s")
        self._cluster.time.after(2.0, host.repair_disk)

    def disk_is_full(self) -> None:
        host = self._any_host()
        self._did("disk_is_full", host.name)
        host.fill_disk(self._random.randrange(3_000))
        self._cluster.time.after(self._random.uniform(0.2, 2.0), host.repair_disk)

    def disk_has_errors(self) -> None:
        host = self._any_host()
        self._did("disk_has_errors", host.name)
        host.trouble.error_chance = self._random.choice([0.02, 0.5])
        self._cluster.time.after(self._random.uniform(0.2, 1.0), host.repair_disk)

    # -- the cluster's own changes

    def leadership_is_transferred(self) -> None:
        if host := self._cluster.leader():
            to = self._random.choice(["", *self._names()])
            self._did("leadership_is_transferred", f"{host.name} to {to or 'anyone'}")
            self._ask(host, lambda node: node.transfer_leadership(to))

    def member_is_added(self) -> None:
        """It starts when it is one: see `Cluster`."""
        if (leader := self._cluster.leader()) and self._present() < MAX_HOSTS:
            name = self._cluster.next_name()
            self._did("member_is_added", name)
            self._ask(leader, lambda node: node.add(name, address(name)))

    def member_is_removed(self) -> None:
        if leader := self._cluster.leader():
            name = self._random.choice(self._names())
            self._did("member_is_removed", name)
            self._ask(leader, lambda node: node.remove(name))

    def many_are_removed(self) -> None:
        """An operator removes, at once, who seems to be gone."""
        if leader := self._cluster.leader():
            names = [name for name in self._names() if name != leader.name]
            self._did("many_are_removed")
            if self._random.random() < 0.7:
                self.leader_is_cut_off()
            for name in self._some(names, len(names)):
                self._ask(leader, lambda node, name=name: node.remove(name))

    # -- versions, keys, and the end of a majority

    def software_is_upgraded(self) -> None:
        """On one machine after the other, as operators do, or on all of them."""
        hosts = list(self._cluster.hosts.values())
        for host in self._some(hosts, len(hosts)):
            self._did("software_is_upgraded", host.name)
            self._cluster.set_software(host, NEWEST_LEVEL)

    def software_is_taken_back(self) -> None:
        """Whether the cluster is at the newer level or not: then this member must not take part."""
        host = self._any_host()
        self._did("software_is_taken_back", host.name)
        self._cluster.set_software(host, NEWEST_LEVEL - 1)
        self._cluster.time.after(self._random.uniform(0.5, 3.0), lambda: self._cluster.set_software(host, NEWEST_LEVEL))

    def key_is_rotated(self) -> None:
        """While the process runs, or as it is started again."""
        host = self._any_host()
        self._did("key_is_rotated", host.name)
        if self._random.random() < 0.3:
            self._cluster.crash(host, silently=self._random.random() < 0.5, down_seconds=self._down_seconds())
        host.rotate_key()

    def quorum_is_lost(self) -> None:
        """For good. An operator goes on with one machine, and adds others: new ones, or former members that run on as if
        nothing had happened."""
        self._did("quorum_is_lost")
        self._cluster.recover()
        for seconds in (0.5, 1.0, 1.5):
            add = self._random.choice([self.member_is_added, self._former_member_is_added])
            self._cluster.time.after(seconds, lambda add=add: add() if self._is_active else None)

    def _former_member_is_added(self) -> None:
        former = [host.name for host in self._cluster.hosts.values() if host.is_of_the_past and not host.retired]
        if former and (leader := self._cluster.leader()):
            name = self._random.choice(former)
            self._cluster.note(f"-- {name} is added, which hasn't heard of the recovery")
            self._ask(leader, lambda node: node.add(name, address(name)))

    def _present(self) -> int:
        return sum(not host.retired for host in self._cluster.hosts.values())

    def _ask(self, host: Host, request: Callable[[Node], Ticket]) -> None:
        def told(ticket: Ticket | None) -> None:
            error = "the process ended" if ticket is None else ticket.error.message if ticket.error else "done"
            self._cluster.note(f"   {host.name} answers: {error}")

        if host.node is not None:
            self._cluster.ask(host, request, told)
