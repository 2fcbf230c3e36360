"""How long this node may still count on the cluster counting on it: the lease behind `x-stackd.fence`.

A manager answers each heartbeat, and what it answers is good for a while from the moment in which the heartbeat was sent:
the manager can't have heard of the node earlier than that, so the node is always the first to know that its lease has run
out. Before the first answer nothing is known; then a node has as long as the usual lease lasts. Pure: times are arguments,
in seconds.
"""

from __future__ import annotations

import math

UNTOLD_SECONDS = 15.0
"""The lease of a node that no manager has told its length since it began."""

UNANSWERED_MAX = 100
"""Heartbeats without an answer that are remembered; a session ends long before there are so many."""


class Lease:
    """The lease of one node; it is held from the beginning."""

    def __init__(self, now: float) -> None:
        self._seconds = UNTOLD_SECONDS
        self._since = now
        self._asked: dict[int, float] = {}
        self._number = 0

    def ask(self, now: float) -> int:
        """A heartbeat is about to be sent: the number it has to carry."""
        self._number += 1
        self._asked[self._number] = now
        if len(self._asked) > UNANSWERED_MAX:
            del self._asked[next(iter(self._asked))]
        return self._number

    def grant(self, number: int, seconds: float | None = None) -> None:
        """A manager has answered heartbeat `number`, and may have said how long leases last (0: for ever)."""
        asked = self._asked.get(number)
        if asked is None:
            return
        self._since = max(self._since, asked)
        self._asked = {other: at for other, at in self._asked.items() if other > number}
        if seconds is not None:
            self._seconds = seconds or math.inf

    def left(self, now: float) -> float:
        """Seconds until it runs out; 0 once it has."""
        return max(0.0, self._since + self._seconds - now)
