"""Lets many readers wait for the state to move, without polling and without a queue per reader.

A reader that is slow sees one newer state instead of many old ones: that is what level-triggered readers want.
"""

from __future__ import annotations

import asyncio


class Feed:
    """A number that only grows, and that coroutines can wait on."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self._moved = asyncio.Event()

    def advance(self, index: int) -> None:
        """The state has reached `index`: wake everyone who waits for it."""
        self.index = index
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait_for(self, index: int) -> int:
        """Return once the state has reached `index`, with the index it has then."""
        while self.index < index:
            await self._moved.wait()
        return self.index

    async def wait_past(self, index: int) -> int:
        """Return once the state has moved beyond `index`, with the index it has then."""
        return await self.wait_for(index + 1)
