"""Virtual time for members that are driven from outside: a heap of what happens when. No asyncio, no threads.

Things of one instant happen in the order in which they were asked for. Each purpose has random numbers of its own, drawn
from the seed and its name, so that one more draw here changes nothing there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random


class VirtualTime:
    """The clock and the agenda of one simulated cluster."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    def random(self, purpose: str) -> Random:
        return Random(f"{self.seed}/{purpose}")

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Do `act` at `time`, or now if that has passed."""
        self._asked += 1
        heapq.heappush(self._agenda, (max(time, self.now), self._asked, act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.now + seconds, act)

    def run_until(self, time: float) -> None:
        while self._agenda and self._agenda[0][0] <= time:
            self.now, _, act = heapq.heappop(self._agenda)
            act()
        self.now = time
