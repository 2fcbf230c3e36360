"""What the scenarios of the audit need of a cluster, whoever's members it has. Everything happens by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TICK_SECONDS = 0.15
"""Above the interval at which a leader sends, so each tick of a leader sends something."""

MAX_IN_FLIGHT = 1000


@dataclass
class Outcome:
    """What the proposer was told: "", "committed", or "failed", and then why."""

    state: str = ""
    why: str = ""


@dataclass(frozen=True)
class Flight:
    """A message on its way. Its `kind` is one of append, snapshot, ack, vote, granted, and others that no scenario names."""

    sender: str
    receiver: str
    kind: str
    message: Any


def all_of_them(flight: Flight) -> bool:
    return True


class Cluster:
    """Members that act when a scenario says so; what they send stays in `in_flight` until it is carried."""

    is_stock = False

    def __init__(self) -> None:
        self.now = 1000.0
        self.in_flight: list[Flight] = []
        self.members: dict[str, Any] = {}
        self.connections: set[tuple[str, str]] = set()
        self.errors: list[Exception] = []
        """What escaped from a member; the library's own thread would log it and go on."""

    # -- to be overridden

    def tick(self, name: str) -> None:
        raise AssertionError("to be overridden")

    def hand_over(self, flight: Flight) -> None:
        """Let the receiver have it, whatever has happened since."""
        raise AssertionError("to be overridden")

    def tell_connection(self, name: str, peer: str, *, is_up: bool) -> None:
        """Tell `name` that its connection with `peer` is up, or down."""
        raise AssertionError("to be overridden")

    def begin_snapshot(self, name: str) -> None:
        """The member has begun to write a snapshot, and is not ready yet."""
        raise AssertionError("to be overridden")

    def compact(self, name: str) -> None:
        """The member takes a snapshot and drops its log below it."""
        raise AssertionError("to be overridden")

    def campaign(self, name: str) -> None:
        """The member's election timeout has passed."""
        raise AssertionError("to be overridden")

    def propose(self, name: str, data: bytes, then: Callable[[], None] | None = None) -> Outcome:
        """`then` is what the proposer does when told; it may raise."""
        raise AssertionError("to be overridden")

    def leads(self, name: str) -> bool:
        raise AssertionError("to be overridden")

    def term(self, name: str) -> int:
        raise AssertionError("to be overridden")

    def last_index(self, name: str) -> int:
        raise AssertionError("to be overridden")

    def commit_index(self, name: str) -> int:
        raise AssertionError("to be overridden")

    def voters(self, name: str) -> set[str]:
        """The members whose votes count, as `name` knows them."""
        raise AssertionError("to be overridden")

    def add_member(self, leader: str, name: str) -> None:
        """Ask the leader to take `name` in."""
        raise AssertionError("to be overridden")

    def remove_member(self, leader: str, name: str) -> Outcome:
        """Ask the leader to take `name` out."""
        raise AssertionError("to be overridden")

    def request_to_add(self, sender: str, receiver: str, name: str) -> Flight:
        """What a member that doesn't lead may say to have `name` taken in."""
        raise AssertionError("to be overridden")

    def use_newest_version(self, leader: str) -> None:
        """Ask the leader to let all use what the newest software can."""
        raise AssertionError("to be overridden")

    def restart(self, name: str) -> None:
        """The member's process ends and begins again, told what it was told at first."""
        raise AssertionError("to be overridden")

    def transfer(self, leader: str, to: str) -> None:
        """Ask the leader to let `to` lead."""
        raise AssertionError("to be overridden")

    def vote_request(self, sender: str, receiver: str, term: int) -> Flight:
        """A request for a vote of a candidate with an empty log."""
        raise AssertionError("to be overridden")

    def granted_vote(self, sender: str, receiver: str, term: int) -> Flight:
        raise AssertionError("to be overridden")

    def poison(self, value: bytes) -> None:
        """Whoever applies `value` from now on raises."""
        raise AssertionError("to be overridden")

    def counted(self, leader: str, follower: str) -> int:
        """Up to which entry the leader believes the follower's log to be as its own."""
        raise AssertionError("to be overridden")

    def applied(self, name: str) -> list[bytes]:
        raise AssertionError("to be overridden")

    # -- the same for all

    def carry(self, allowed: Callable[[Flight], bool] = all_of_them, rounds: int = 500) -> list[Flight]:
        """Deliver what is in flight, and what that causes; returns what was not `allowed`, in order."""
        held = []
        for _ in range(rounds):
            if not self.in_flight:
                break
            flight = self.in_flight.pop(0)
            if allowed(flight) and flight.receiver in self.members:
                self.hand_over(flight)
            else:
                held.append(flight)
        return held

    def pass_time(self, ticks: int = 6, allowed: Callable[[Flight], bool] = all_of_them) -> list[Flight]:
        """Ticks of all members, each followed by the messages; returns those that were held back."""
        held = []
        for _ in range(ticks):
            self.now += TICK_SECONDS
            for name in sorted(self.members):
                self.tick(name)
                held += self.carry(allowed)
        return held

    def elect(self, name: str, allowed: Callable[[Flight], bool] = all_of_them) -> None:
        """The member campaigns, and wins."""
        self.campaign(name)
        self.carry(allowed)
        assert self.leads(name)

    def send(self, sender: str, receiver: str, kind: str, message: Any) -> None:
        """As a transport does: what has no connection is dropped."""
        if len(self.in_flight) >= MAX_IN_FLIGHT:
            raise OverflowError("nobody can carry so much")
        if (sender, receiver) in self.connections:
            self.in_flight.append(Flight(sender, receiver, kind, message))

    def connect(self, one: str, other: str) -> None:
        for pair in ((one, other), (other, one)):
            self.connections.add(pair)
            self.tell_connection(*pair, is_up=True)

    def cut(self, one: str, other: str) -> None:
        """Break a connection; what is in flight on it is lost."""
        for pair in ((one, other), (other, one)):
            self.connections.discard(pair)
            self.tell_connection(*pair, is_up=False)
        self.in_flight = [flight for flight in self.in_flight if {flight.sender, flight.receiver} != {one, other}]

    def isolate(self, name: str) -> None:
        for peer in set(self.members) - {name}:
            self.cut(name, peer)

    def rejoin(self, name: str) -> None:
        for peer in set(self.members) - {name}:
            self.connect(name, peer)
