"""Something that the leader sees to: it looks whenever rows of certain tables change, and every so often if that isn't all.

What it finds is what counts, not why it looks: a look that was missed, or a leader that went away in the middle of one, costs
nothing but time. Looks that are due while one is under way are one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stackd.base.errors import StackdError
from stackd.engine.model import Row
from stackd.engine.store import Changes
from stackd.engine.view import TABLE_OF
from stackd.manager.writer import Writer

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Pause after a look that failed."""


class Duty:
    """Calls `look` while `run` is running. `kinds` are the records on which it depends; if it depends on more than is on
    record, it looks again after `look_seconds` at the latest."""

    def __init__(
        self,
        name: str,
        writer: Writer,
        kinds: tuple[type[Row], ...],
        look: Callable[[], Awaitable[None]],
        look_seconds: float | None = None,
    ) -> None:
        self._name = name
        self._kinds = kinds
        self._tables = {TABLE_OF[kind] for kind in kinds}
        self._look = look
        self._look_seconds = look_seconds
        self._due = asyncio.Event()
        writer.listen(self._notice)

    async def run(self) -> None:
        """See to it until cancelled."""
        self._due.set()
        while True:
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._due.wait()
            except TimeoutError:
                pass  # it is time for a look all the same
            self._due.clear()
            try:
                await self._look()
            except StackdError as error:
                log.info("must wait: duty=%s code=%s reason=%s", self._name, error.code, error.message)
                await asyncio.sleep(RETRY_SECONDS)
                self._due.set()

    def _notice(self, changes: Changes) -> None:
        if any(isinstance(row, self._kinds) for row in changes.puts) or any(
            table in self._tables for table, _ in changes.deletes
        ):
            self._due.set()
