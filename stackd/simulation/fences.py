"""Whether a fenced slot has ever run on two hosts at once: seen where it runs, not read from records.

The engine decides when a lost task has certainly stopped, and the checks of its decisions ask the engine. Here it isn't
asked. Processes begin and end on their hosts in virtual time, and whenever one begins in a slot that is to be fenced,
none may be running there on another host.
"""

from __future__ import annotations

import asyncio

from stackd.base.ids import ServiceId
from stackd.engine.model import Service
from stackd.engine.store import Changes
from stackd.engine.view import View
from stackd.simulation.host import Container, FakeHost, FencedSlot
from stackd.spec.stack import ServiceSettings, UpdateOrder

EXCUSED_SECONDS = 15.0
"""A host without its agent or its engine can't stop anything, and once both are back it needs this long: for the pause before
a stop is tried again, and for the slowest image to stop."""


class Fences:
    """Watches `hosts`. `findings` are sentences, `handed_on` counts slots that went on on another host than before."""

    def __init__(self, hosts: list[FakeHost]) -> None:
        self.findings: list[str] = []
        self.handed_on = 0
        self._last: dict[FencedSlot, list[tuple[FakeHost, Container]]] = {}
        self._overlapping: set[ServiceId] = set()
        for host in hosts:
            host.on_start = self._look

    def observe(self, _past: View, _present: View, changes: Changes) -> None:
        """Take note of services that ask for an overlap (see `Checker`): with start-first two run at once on purpose."""
        for row in changes.puts:
            if isinstance(row, Service) and _asks_for_overlap(row.settings):
                self._overlapping.add(row.id)

    def _look(self, host: FakeHost, container: Container) -> None:
        slot = container.fenced
        if slot is None or slot.service_id in self._overlapping:
            return
        before = self._last.get(slot, [])
        others = [(there, other) for there, other in before if other.running and there is not host]
        for there, other in others:
            if there.in_hand_seconds >= EXCUSED_SECONDS:
                at = asyncio.get_running_loop().time()
                self.findings.append(
                    f"{at:.1f} s: {container.task_id} starts on {host.hostname} in slot {slot.number} of {slot.service_id}, "
                    f"where {other.task_id} is running on {there.hostname}"
                )
        self.handed_on += bool(before) and before[-1][0] is not host
        self._last[slot] = [*others, (host, container)]


def _asks_for_overlap(settings: ServiceSettings) -> bool:
    return UpdateOrder.START_FIRST in (settings.update.order, settings.rollback.order)
