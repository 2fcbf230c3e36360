"""A simulated cluster: hosts, the network between them, those who use it, and the checks that watch all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from raft_checks import Checks, Violation
from raft_clock import VirtualTime
from raft_host import Host
from raft_network import Network
from stackd.raft.consensus import Entry
from stackd.raft.frame import Kind
from stackd.raft.membership import Membership, decode_membership
from stackd.raft.message import Vote, decode_message
from stackd.raft.node import Node, Output, Settings, Ticket

SUPERVISE_SECONDS = 0.1
"""Between two looks at all hosts."""

UNUSABLE = "raft.log.unusable"
"""How a member fails whose disk does; a restart may help."""

BOOT_SECONDS = 0.01

REMOVED = "raft.member.removed"
"""How a member fails that isn't one any more."""

TOO_OLD = "raft.feature_level.newer"
"""How a member fails, or refuses to start, whose software is older than what the cluster uses."""

NEWEST_LEVEL = 2
"""Of the software. Some machines have the one before, at times."""

TRACE_LENGTH = 60


@dataclass(slots=True)
class Waiting:
    """Somebody waits for a ticket of one life of a host; `answer` is told the ticket, or None if that life has ended."""

    life: int
    ticket: Ticket
    answer: Callable[[Ticket | None], None]


@dataclass(slots=True)
class Cluster:
    """Everything of one seed. `settings` are those of its nodes."""

    seed: int
    founders: int
    settings: Settings
    time: VirtualTime = field(init=False)
    network: Network = field(init=False)
    checks: Checks = field(default_factory=Checks)
    hosts: dict[str, Host] = field(default_factory=dict)
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=TRACE_LENGTH))
    _waiting: dict[str, list[Waiting]] = field(default_factory=dict)
    _events: int = 0
    _names: int = 0
    _on_vote: Callable[[Host], None] | None = None
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.time = VirtualTime(self.seed)
        self._random = self.time.random("cluster")
        self.network = Network(self.time)
        self.network.watch = self._watch
        founders = [self.next_name() for _ in range(self.founders)]
        initial = Membership(epoch=0, voters=tuple((name, address(name)) for name in founders))
        for name in founders:
            self.add_host(name, initial, self.settings.feature_level)
        self._supervise()

    def note(self, text: str) -> None:
        """Into the trace that a failure prints."""
        self.trace.append(f"{self.time.now:8.4f} {text}")

    def next_event(self) -> int:
        """A place in the one order of all calls and returns."""
        self._events += 1
        return self._events

    def when_someone_votes(self, then: Callable[[Host], None]) -> None:
        """Call `then`, once, a moment after the next vote was sent."""
        self._on_vote = then

    def _watch(self, sender: str, receiver: str, message: bytes) -> None:
        self.checks.saw_message(self.hosts[sender], receiver, message)
        if self._on_vote is not None and isinstance(decode_message(message), Vote):
            then, self._on_vote = self._on_vote, None
            self.time.after(self._random.uniform(0.0, 0.05), lambda: then(self.hosts[sender]))

    # -- hosts

    def add_host(self, name: str, initial: Membership, feature_level: int, former_lives: int = 0) -> Host:
        """A new machine; its process starts at once."""
        settings = replace(self.settings, feature_level=feature_level)
        host = self.hosts[name] = Host(self.time, self.network, name, settings, initial, self._observe)
        host.lives = former_lives
        self._waiting[name] = []
        self._start(host)
        return host

    def crash(self, host: Host, *, silently: bool, down_seconds: float) -> None:
        """Kill the process, or if `silently` the machine; it starts again after a while."""
        host.down_until = self.time.now + down_seconds
        if host.node is not None:
            self.note(f"{host.name} {'loses power' if silently else 'is killed'}")
            host.end(silently=silently)
        self.time.at(host.down_until + BOOT_SECONDS, lambda: self._start_if_down(host))

    def retire(self, host: Host) -> None:
        """The machine is gone for good."""
        host.retired = True
        if host.node is not None:
            self.note(f"{host.name} is lost")
            host.end(silently=True)

    def set_software(self, host: Host, feature_level: int) -> None:
        """Restart the process with another version of the software."""
        if host.feature_level == feature_level:
            return
        self.note(f"{host.name} gets software of level {feature_level}")
        host.feature_level = feature_level
        self.crash(host, silently=False, down_seconds=0.0)

    def recover(self) -> None:
        """Every machine loses power. One is made the only member, mostly one that has all that was agreed on; what it lacks is
        given up. Of the others some come back, who don't know, but too few to go on by themselves: the rest is lost."""
        hosts = [host for host in self.hosts.values() if not host.retired]
        for host in hosts:
            if host.node is not None:
                host.end(silently=True)
            host.repair_disk()
        kept = {host.name: self.checks.agrees_up_to(host.history()) for host in hosts if not host.is_of_the_past}
        if max(kept.values()) < len(self.checks.agreed):
            raise Violation(f"no machine has entry {len(self.checks.agreed)} any more")
        whole = [name for name in sorted(kept) if kept[name] == len(self.checks.agreed)]
        one = self.hosts[self._random.choice(whole if self._random.random() < 0.5 else sorted(kept))]
        self.checks.give_up(kept[one.name])
        others = [host for host in hosts if host is not one]
        back = self._too_few_to_elect(self._random.sample(others, len(others)))
        for host in others:
            if host in back:
                host.is_of_the_past = True
                self.crash(host, silently=True, down_seconds=0.0)
            else:
                self.retire(host)
        one.recover()
        self.note(f"{one.name} is recovered from entry {kept[one.name]}; {[host.name for host in back]} don't know")
        self.crash(one, silently=True, down_seconds=0.0)

    def _too_few_to_elect(self, hosts: list[Host]) -> list[Host]:
        """The first of `hosts` that are no majority of any membership that one of them has heard of."""
        found: list[Host] = []
        for host in hosts:
            names = {one.name for one in (*found, host)}
            if not any(membership.is_quorum(names) for one in (*found, host) for membership in _memberships_on(one)):
                found.append(host)
        return found

    def _start_if_down(self, host: Host) -> None:
        if host.node is None and not host.retired and self.time.now >= host.down_until:
            self._start(host)

    def _start(self, host: Host) -> None:
        self.note(f"{host.name} starts")
        if host.start() and host.node is not None:
            if not host.is_of_the_past:
                self.checks.saw_start(host, host.node)
        elif host.refusal is not None:
            self.note(f"{host.name} refuses to start: {host.refusal.message}")
            if host.refusal.code == TOO_OLD and host.feature_level < NEWEST_LEVEL:
                host.down_until = self.time.now + 1.0
            elif not host.has_bad_disk:
                raise Violation(f"{host.name} can't start from what was left to it: {host.refusal.message}")

    def unanswered(self) -> list[str]:
        """Hosts that somebody waits for."""
        return [name for name, waiting in self._waiting.items() if waiting]

    def _supervise(self) -> None:
        """Start what has stopped, as a service manager does, and look at everything."""
        for host in list(self.hosts.values()):
            node = host.node
            if node is not None and node.failure is not None:
                if node.failure.code not in (REMOVED, UNUSABLE, TOO_OLD):
                    raise Violation(f"{host.name} ends: {node.failure.message}")
                host.retired = node.failure.code == REMOVED
                self.note(f"{host.name} stops{' for good' if host.retired else ''}: {node.failure.message}")
                host.close()
                host.down_until = self.time.now + self._random.uniform(0.1, 1.0)
            if host.node is None:
                self._answer(host)
                self._start_if_down(host)
        self._start_new_members()
        self.checks.saw_running({host.name: node for host, node in self.running() if not host.is_of_the_past})
        self.time.after(SUPERVISE_SECONDS, self._supervise)

    def _start_new_members(self) -> None:
        """Who joins is told by the leader who the members are. One that was a member before a recovery has been emptied."""
        leader = self.leader()
        if leader is None or leader.node is None:
            return
        for name in sorted(leader.node.membership.addresses):
            former = self.hosts.get(name)
            if former is None:
                self.add_host(name, leader.node.membership, NEWEST_LEVEL)
            elif former.retired and former.is_of_the_past:
                self._answer(former)
                self.checks.forget(name)
                self.add_host(name, leader.node.membership, NEWEST_LEVEL, former.lives)

    def next_name(self) -> str:
        """For the next host: two that were asked to join under one name would be one member."""
        self._names += 1
        return f"m{self._names}"

    def running(self) -> Iterator[tuple[Host, Node]]:
        for host in self.hosts.values():
            if host.node is not None:
                yield host, host.node

    def leader(self) -> Host | None:
        """The running host that believes to lead the highest term of the last epoch."""
        leaders = [(node.membership.epoch, node.term, host.name) for host, node in self.running() if node.leads]
        return self.hosts[max(leaders)[2]] if leaders else None

    def ask(self, host: Host, request: Callable[[Node], Ticket], answer: Callable[[Ticket | None], None]) -> None:
        """Ask the process on `host` something; `answer` gets the ticket when it is done, or None if the process ends."""
        node = host.node
        assert node is not None
        asked: list[Ticket] = []
        if not host.act(lambda: asked.append(request(node))):
            self.note(f"{host.name} crashes")
            answer(None)
        elif asked[0].is_done:
            answer(asked[0])
        else:
            self._waiting[host.name].append(Waiting(host.lives, asked[0], answer))
            host.soon()

    # -- what is seen

    def _observe(self, host: Host, output: Output) -> None:
        node = host.node
        assert node is not None
        if host.is_of_the_past:
            self._answer(host)
            return
        for role in output.roles:
            self.note(f"{host.name} {'leads' if role.is_leader else 'follows in'} term {role.term}")
            self.checks.saw_role(host, node.membership.epoch, role)
        for item in output.items:
            if isinstance(item, Entry):
                self.checks.saw_applied(host, item)
            else:
                self.note(f"{host.name} installs a snapshot at {item.index}")
                self.checks.saw_installed(host, item)
        if node.leads:
            self.checks.saw_level(self.hosts, node.membership)
        self.checks.saw_commit(host, node.commit_index, undone=host.has_bad_disk)
        self._answer(host)
        host.snapshot_if_due()

    def _answer(self, host: Host) -> None:
        waiting = self._waiting[host.name]
        if not waiting:
            return
        self._waiting[host.name] = []
        for one in waiting:
            if one.life != host.lives or host.node is None:
                one.answer(None)
            elif one.ticket.is_done:
                one.answer(one.ticket)
            else:
                self._waiting[host.name].append(one)


def _memberships_on(host: Host) -> list[Membership]:
    """All that it has heard of."""
    history = host.history()
    bodies = [entry.data for entry in history.entries if entry.kind == Kind.MEMBERS]
    return [history.membership, history.told, *map(decode_membership, bodies)]


def address(name: str) -> str:
    return f"{name}:1"
