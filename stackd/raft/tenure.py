"""Leadership as those see it who decide: when it begins and ends, and what they have asked for under it.

A node leads, for them, once everything from before its term is applied; not any more as soon as it is on its way to
another member. Whatever was asked for is answered once, and when leadership ends nothing stays unanswered: an entry that is
not committed by then may still be, so its outcome is unknown.
"""

from __future__ import annotations

from stackd.base.errors import StackdError
from stackd.raft.consensus import Leadership, NotLeader, OutcomeUnknown
from stackd.raft.reads import Reads
from stackd.raft.ticket import Ticket


class Tenure:
    """The terms that one node leads, one after the other."""

    def __init__(self) -> None:
        self.reads = Reads()
        self.roles: list[Leadership] = []
        """What is to be told, in order."""
        self.done: list[Ticket] = []
        """What is to be answered."""
        self.term = 0
        """The term that this member leads, having applied what came before; 0 when it doesn't."""
        self._announced = 0
        self._waiting: dict[int, Ticket] = {}
        """Entries that are not applied: index to ticket."""
        self._unwritten: list[int] = []

    @property
    def is_deciding(self) -> bool:
        """Whether those who decide have been told that they may."""
        return self._announced > 0

    @property
    def unwritten(self) -> int:
        """How many of the entries asked for are not in the file yet."""
        return len(self._unwritten)

    def begin(self, term: int) -> None:
        self.term = term
        self.resume()

    def suspend(self) -> None:
        """Leadership is on its way to another member."""
        self._announce(0)

    def resume(self) -> None:
        self._announce(self.term)

    def end(self, why: str, leader: str) -> None:
        """This member leads no longer; `leader` does, if anyone is known to."""
        self._announce(0)
        self.term = 0
        for ticket in self._waiting.values():
            self.refuse(ticket, OutcomeUnknown(why))
        self._waiting.clear()
        self._unwritten.clear()
        for ticket in self.reads.give_up():
            self.refuse(ticket, NotLeader(leader))

    def expect(self, index: int) -> Ticket:
        """The entry at `index` was appended for someone, and isn't written yet."""
        self._waiting[index] = ticket = Ticket()
        self._unwritten.append(index)
        return ticket

    def written(self) -> None:
        self._unwritten.clear()

    def not_written(self, error: StackdError) -> None:
        """The entries that were to be written are undone."""
        for index in self._unwritten:
            self.refuse(self._waiting.pop(index), error)
        self._unwritten.clear()

    def applied(self, index: int) -> None:
        if ticket := self._waiting.pop(index, None):
            self.answer(ticket, index)

    def answer(self, ticket: Ticket, index: int) -> None:
        ticket.index = index
        self.done.append(ticket)

    def refuse(self, ticket: Ticket, error: StackdError) -> Ticket:
        ticket.error = error
        self.done.append(ticket)
        return ticket

    def _announce(self, term: int) -> None:
        if self._announced:
            self.roles.append(Leadership(self._announced, is_leader=False))
        if term:
            self.roles.append(Leadership(term, is_leader=True))
        self._announced = term
