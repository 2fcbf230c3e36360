"""Cluster time: what everything that is due is measured by, and what entries and records are stamped with.

It goes on from the latest entry by a clock that nobody sets, and draws near to the leader's wall clock slowly: at least half as
fast as time itself, and at most half as fast again. So no host's wall clock, and no change of leaders between clocks that
differ, makes a span shorter than two thirds of what it is, or longer than twice. It never goes back.

A fence is more than a span: if it ends early a task runs twice. While one is waited for, cluster time is never faster than time
itself, so that the wait is as long as it says or longer (`orchestrate.fence`). A node's lease runs by a clock of the same kind.

The wall clock is taken at once by a manager that has nothing else to go by: one that leads and, since it was started, has heard
of no entry from another leader (a cluster of one that starts; all managers were off). Also then it lets the fences end first.
"""

from __future__ import annotations

from collections.abc import Callable

from stackd.base.time import MILLISECOND, SECOND, Duration, Instant, SteadyClock
from stackd.engine.orchestrate.fence import fence_end
from stackd.engine.view import View

SLOWEST, FASTEST = 0.5, 1.5
"""How fast cluster time goes at least and at most, of time itself, until it is what the wall clock says."""

NEAR = Duration(50 * MILLISECOND)
"""A wall clock that is ahead by less isn't worth catching up with: clocks that are kept right are never much nearer."""

IsFencing = Callable[[Instant], bool]
"""Whether, at this cluster time, a fence is waited for. Asked only where the answer matters; it costs a look at all tasks."""


class ClusterTime:
    """As one manager tells it, from its start on. Asked in the event loop."""

    def __init__(self, clock: SteadyClock) -> None:
        self._clock = clock
        self._told = Instant(0)
        self._told_at = Duration(0)
        self._has_base = False
        self._hurries = False

    def heard(self, latest: Instant) -> None:
        """An entry with this time has just come from another leader: cluster time is that, but for the way here."""
        self._told, self._told_at, self._has_base = latest, self._clock.elapsed(), True

    def now(self, latest: Instant, is_fencing: IsFencing) -> Instant:
        """The time for the next entry; `latest` is that of the latest one."""
        at = self._clock.elapsed()
        if latest > self._told:
            self._told, self._told_at = latest, at
        passed = Duration(at - self._told_at)
        self._told, self._told_at = Instant(self._told + self._advance(passed, is_fencing)), at
        return self._told

    def seconds_until(self, instant: Instant) -> float:
        """How long to wait, from when the time was last told, before `instant` can have come."""
        left = max(0, instant - self._told) / SECOND
        return left / FASTEST if self._hurries else left

    def _advance(self, passed: Duration, is_fencing: IsFencing) -> int:
        """How far cluster time goes on while so much time has passed."""
        wanted = self._clock.now() - self._told
        self._hurries = False
        if wanted <= passed:
            self._has_base = True
            return max(wanted, int(passed * SLOWEST))
        if (self._has_base and wanted <= passed + NEAR) or is_fencing(self._told):
            return passed
        if not self._has_base:
            self._has_base = True
            return wanted
        self._hurries = True
        return min(wanted, int(passed * FASTEST))


def is_fencing(view: View, now: Instant) -> bool:
    """Whether any task that is to be fenced is out of reach, and not yet certain to have stopped."""
    fenced = {row.digest for row in view.specs.values() if row.spec.fence}
    if not fenced:
        return False
    return any(task.spec in fenced and fence_end(view, task) > now for task in view.tasks.values())
