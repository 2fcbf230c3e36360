"""Linearizable reads without a write: ReadIndex (Ongaro's thesis, section 6.4).

A leader can't know by itself that nobody has been elected meanwhile. So a read waits until a majority has answered
something that was sent after the read came; what was committed when it came is then what it must see. All reads of a tick
share one round.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stackd.raft.membership import Membership
from stackd.raft.ticket import Ticket


@dataclass(frozen=True, slots=True)
class _Round:
    number: int
    index: int
    tickets: list[Ticket]


class Reads:
    """The reads of one term of one leader."""

    def __init__(self) -> None:
        self._new: list[Ticket] = []
        self._rounds: deque[_Round] = deque()
        self._heard: dict[str, int] = {}

    def ask(self) -> Ticket:
        ticket = Ticket()
        self._new.append(ticket)
        return ticket

    @property
    def are_waiting(self) -> bool:
        return bool(self._new or self._rounds)

    def begin_round(self, number: int, commit_index: int) -> bool:
        """Begin round `number` if a read waits for one."""
        if not self._new:
            return False
        self._rounds.append(_Round(number, commit_index, self._new))
        self._new = []
        return True

    def answered(self, peer: str, number: int) -> None:
        self._heard[peer] = max(number, self._heard.get(peer, 0))

    def confirmed(self, me: str, membership: Membership) -> list[tuple[int, Ticket]]:
        """The reads that a majority has confirmed, with the index that each must see."""
        found = []
        while self._rounds:
            first = self._rounds[0]
            heard = {peer for peer, number in self._heard.items() if number >= first.number}
            if not membership.is_quorum(heard | {me}):
                break
            self._rounds.popleft()
            found += [(first.index, ticket) for ticket in first.tickets]
        return found

    def give_up(self) -> list[Ticket]:
        """All that are not confirmed: the term is over."""
        tickets = [ticket for waiting in self._rounds for ticket in waiting.tickets] + self._new
        self._new, self._rounds, self._heard = [], deque(), {}
        return tickets
