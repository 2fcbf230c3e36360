"""When which service has to be looked at again. Nothing fires here: the writer loop asks what is due."""

from __future__ import annotations

import heapq

from stackd.base.ids import ServiceId
from stackd.base.time import Instant


class Timers:
    """Holds the earliest instant per service; an entry that an earlier one has overtaken is skipped."""

    def __init__(self) -> None:
        self._heap: list[tuple[Instant, ServiceId]] = []
        self._earliest: dict[ServiceId, Instant] = {}

    def add(self, at: Instant, service: ServiceId) -> None:
        known = self._earliest.get(service)
        if known is None or at < known:
            self._earliest[service] = at
            heapq.heappush(self._heap, (at, service))

    def next_at(self) -> Instant | None:
        """The earliest instant that still counts."""
        while self._heap and self._earliest.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: Instant) -> tuple[ServiceId, ...]:
        """Remove and return every service whose instant has come, the earliest first."""
        due: list[ServiceId] = []
        while (at := self.next_at()) is not None and at <= now:
            _, service = heapq.heappop(self._heap)
            del self._earliest[service]
            due.append(service)
        return tuple(due)

    def clear(self) -> None:
        self._heap.clear()
        self._earliest.clear()
