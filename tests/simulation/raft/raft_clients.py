"""Those who use a simulated cluster: each reads and writes a few keys, one operation at a time, and keeps a record of it."""

from __future__ import annotations

import enum
from collections.abc import Callable

from linearizability import Operation, Read, Write
from msgspec.structs import replace
from raft_cluster import Cluster
from raft_host import Host
from raft_machine import Put, encode
from stackd.raft.consensus import OutcomeUnknown
from stackd.raft.node import Node, Ticket

PATIENCE_SECONDS = (0.15, 1.5)
"""A client waits one of these for an answer; then it doesn't know, and goes on. Whoever waits long at a leader that was cut
off sees nothing of what happens then."""

KEY_SECONDS = 1.5
"""So long clients use the same keys: short histories are quick to check."""

THINK_SECONDS = 0.06
LARGE_BYTES = 20_000


class Outcome(enum.Enum):
    """What a client knows of a write."""

    DONE = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()


class Client:
    """One client. `history` is what it did and was told."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.history: list[Operation] = []
        self.is_active = True
        self._cluster = cluster
        self._name = f"c{number}"
        self._random = cluster.time.random(f"client/{number}")
        self._count = 0
        self._think()

    def _think(self) -> None:
        self._cluster.time.after(self._random.expovariate(1 / THINK_SECONDS), self._act)

    def _act(self) -> None:
        if not self.is_active:
            return
        host = self._choose_host()
        if host is None:
            self._think()
        elif self._random.random() < 0.5:
            self._read(host)
        else:
            if self._random.random() < 0.1:
                self._burst(host)
            self._write(host)

    def _choose_host(self) -> Host | None:
        """The leader, mostly; sometimes anyone, who may believe to lead."""
        running = [host for host, _ in self._cluster.running()]
        leading = [host for host, node in self._cluster.running() if node.leads]
        choices = leading if leading and self._random.random() < 0.9 else running
        return self._random.choice(choices) if choices else None

    def _key(self) -> str:
        return f"{int(self._cluster.time.now / KEY_SECONDS)}.{self._random.randrange(2)}"

    def _new_value(self) -> str:
        self._count += 1
        return f"{self._name}-{self._count}"

    def _burst(self, host: Host) -> None:
        """Many writes at once whose outcome the client doesn't wait for, some of them large."""
        for _ in range(self._random.randint(2, 12)):
            size = self._random.randrange(LARGE_BYTES) if self._random.random() < 0.1 else 0
            self._propose(host, Put("bulk", self._new_value(), bytes(size)), lambda outcome: None)

    def _write(self, host: Host) -> None:
        key, value, called = self._key(), self._new_value(), self._cluster.next_event()

        def answered(outcome: Outcome) -> None:
            if outcome is Outcome.DONE:
                self.history.append(Operation(key, Write(value), called, self._cluster.next_event()))
            elif outcome is Outcome.UNKNOWN:
                self.history.append(Operation(key, Write(value), called))

        self._propose(host, Put(key, value), self._patiently(answered))

    def _read(self, host: Host) -> None:
        key, called = self._key(), self._cluster.next_event()

        def told(ticket: Ticket | None) -> None:
            if ticket is not None and ticket.index is not None:
                self._cluster.checks.saw_read(host, ticket.index)
                value = host.machine.table.get(key)
                answered(Outcome.DONE, Operation(key, Read(value), called, self._cluster.next_event()))
            else:
                answered(Outcome.REFUSED)

        def keep(outcome: Outcome, *operation: Operation) -> None:
            self.history.extend(operation)

        answered = self._patiently(keep)
        self._cluster.ask(host, lambda node: node.read(), told)

    def _propose(self, host: Host, command: Put, answered: Callable[[Outcome], None]) -> None:
        def told(ticket: Ticket | None) -> None:
            if ticket is None or isinstance(ticket.error, OutcomeUnknown):
                answered(Outcome.UNKNOWN)
            elif ticket.index is not None:
                self._cluster.checks.saw_acknowledgement(host, command.value, ticket.index)
                answered(Outcome.DONE)
            else:
                self._cluster.checks.saw_refusal(command.value)
                answered(Outcome.REFUSED)

        if host.node is None:  # it crashed a moment ago
            answered(Outcome.REFUSED)
        else:
            self._cluster.ask(host, lambda node: node.propose(encode(at_level_of(node, command)), node.term), told)

    def _patiently(self, answered: Callable[..., None]) -> Callable[..., None]:
        """Pass on the first answer, or Outcome.UNKNOWN when patience ends; then think, and do the next thing."""
        waiting = [True]

        def once(*answer: object) -> None:
            if waiting:
                waiting.clear()
                answered(*answer)
                self._think()

        self._cluster.time.after(self._random.choice(PATIENCE_SECONDS), lambda: once(Outcome.UNKNOWN))
        return once


def at_level_of(node: Node, command: Put) -> Put:
    """In the newest form that everyone can read."""
    return replace(command, level=node.membership.feature_level)
