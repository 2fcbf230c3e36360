"""Cluster time, as the leader tells it: the wall clock, but never before the latest entry, and never standing still.

The leader before may have had a clock that was ahead, or this machine's was set back. What is due in cluster time then must not
wait until the wall clock has caught up: time goes on at half speed until that is so.
"""

from __future__ import annotations

import asyncio

from stackd.base.time import SECOND, Clock, Instant


class ClusterTime:
    """To be asked in the event loop, whose own clock nobody sets."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told = Instant(0)
        self._told_at = 0.0

    def now(self, latest: Instant) -> Instant:
        """The time for the next entry; `latest` is that of the latest one."""
        at = asyncio.get_running_loop().time()
        passed = int((at - self._told_at) * SECOND)
        self._told = max(self._clock.now(), latest, Instant(self._told + passed // 2))
        self._told_at = at
        return self._told
