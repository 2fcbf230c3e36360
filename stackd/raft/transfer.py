"""Leadership on its way to another member, by the will of who has it (Ongaro's thesis, section 3.10).

The leader stops deciding, waits until the other one has its whole log, and asks it to campaign at once. If that one
doesn't take over in time, for whatever reason, the leader goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set

from stackd.base.errors import Refused, Unavailable
from stackd.raft.hardened import Hardened
from stackd.raft.journal import Journal
from stackd.raft.settings import Settings
from stackd.raft.tenure import Tenure
from stackd.raft.ticket import Ticket


class Transfer:
    """At most one under way."""

    def __init__(
        self, me: str, raft: Hardened, journal: Journal, tenure: Tenure, clock: Callable[[], float], settings: Settings
    ) -> None:
        self._me = me
        self._raft = raft
        self._journal = journal
        self._tenure = tenure
        self._clock = clock
        self._patience_seconds = 2 * settings.election_max_seconds
        self._ticket: Ticket | None = None
        self._target = ""
        self._until = 0.0
        self._asked = False

    def due_at(self) -> float:
        return self._until if self._ticket else math.inf

    def begin(self, to: str, connected: Set[str]) -> Ticket:
        """Raises Refused("raft.transfer.impossible")."""
        voters = self._journal.membership.voter_ids & connected - {self._me}
        target = to or max(sorted(voters), key=self._raft.match_index, default="")
        if not target:
            raise Refused("raft.transfer.impossible", "no other voting member is connected")
        if target not in voters:
            raise Refused("raft.transfer.impossible", f"{target} is not another voting member that is connected")
        self._ticket, self._target, self._asked = Ticket(), target, False
        self._until = self._clock() + self._patience_seconds
        self._tenure.suspend()
        return self._ticket

    def go_on(self) -> None:
        """Ask the target once it has everything; give up when it has taken too long."""
        if self._ticket is None:
            return
        if self._clock() >= self._until:
            error = Unavailable("raft.transfer.failed", f"{self._target} did not take over in time")
            self._tenure.refuse(self._ticket, error)
            self._ticket = None
            self._tenure.resume()
        elif not self._asked and self._raft.match_index(self._target) == self._journal.last.index:
            self._asked = True
            self._raft.hand_over(self._target)

    def end(self) -> None:
        """This member leads no longer: that is what was asked for."""
        if self._ticket is not None:
            self._tenure.answer(self._ticket, self._journal.last.index)
            self._ticket = None
