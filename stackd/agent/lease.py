"""How long this node may still count on the cluster counting on it: the lease behind `x-stackd.fence`.

A manager answers each heartbeat, and what it answers is good for a while from the moment in which the heartbeat was sent:
the manager can't have heard of the node earlier than that, so the node is always the first to know that its lease has run
out. Before the first answer there is none, but for what an earlier life of the agent has noted since the machine was started:
a restart makes no lease longer. Pure: times are arguments, counted by `SteadyClock.elapsed`.
"""

from __future__ import annotations

from dataclasses import dataclass

from stackd.base.time import Duration

UNANSWERED_MAX = 100
"""Heartbeats without an answer that are remembered; a session ends long before there are so many."""

FOR_EVER = Duration(2**63 - 1)
"""What is left of a lease that doesn't end."""

_OVER = (Duration(-1), Duration(1))
"""Since when and how long: over when the machine was started."""


@dataclass(frozen=True, slots=True)
class LeaseNote:
    """What the next life of the agent has to know: since when the lease runs in which run of the machine, and how long (0: for
    ever)."""

    boot: str
    since: Duration
    lasts: Duration


class Lease:
    """The lease of one node. `note` is what there is to note of it."""

    def __init__(self, boot: str, noted: LeaseNote | None = None) -> None:
        """`boot` is the machine's present run, `noted` what was noted last, in whichever run."""
        self.note = noted if noted is not None and noted.boot == boot != "" else LeaseNote(boot, *_OVER)
        self._asked: dict[int, Duration] = {}
        self._number = 0

    def ask(self, now: Duration) -> int:
        """A heartbeat is about to be sent: the number it has to carry."""
        self._number += 1
        self._asked[self._number] = now
        if len(self._asked) > UNANSWERED_MAX:
            del self._asked[next(iter(self._asked))]
        return self._number

    def grant(self, number: int, lasts: Duration | None = None) -> None:
        """A manager has answered heartbeat `number`, and may have said how long leases last (0: for ever), as it does with the
        first answer of each session."""
        asked = self._asked.get(number)
        if asked is None:
            return
        since = max(self.note.since, asked)
        self.note = LeaseNote(self.note.boot, since, self.note.lasts if lasts is None else lasts)
        self._asked = {other: at for other, at in self._asked.items() if other > number}

    def left(self, now: Duration) -> Duration:
        """Until it runs out; 0 once it has."""
        if not self.note.lasts:
            return FOR_EVER
        return Duration(max(0, self.note.since + self.note.lasts - now))
