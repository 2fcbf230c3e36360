"""A queue that ends: how a member hands entries and changes of role to whoever follows them.

It never drops and never reorders. It isn't bounded; what is put into it is (see `ClusterMember`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """Items in the order they were put, for one consumer."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        self._items.append(item)
        self._changed.set()

    def end(self) -> None:
        """Nothing more will come; what was put before is still delivered."""
        self._ended = True
        self._changed.set()

    async def items(self) -> AsyncIterator[T]:
        while True:
            while self._items:
                yield self._items.popleft()
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()


class Announcements(Generic[T]):
    """A present value and its changes, for any number of followers."""

    def __init__(self, present: T) -> None:
        self.present = present
        self._channels: list[Channel[T]] = []
        self._ended = False

    def announce(self, value: T) -> None:
        self.present = value
        for channel in self._channels:
            channel.put(value)

    def end(self) -> None:
        self._ended = True
        for channel in self._channels:
            channel.end()

    async def follow(self) -> AsyncIterator[T]:
        """The present value at once, then every change."""
        channel: Channel[T] = Channel()
        channel.put(self.present)
        if self._ended:
            channel.end()
        self._channels.append(channel)
        try:
            async for value in channel.items():
                yield value
        finally:
            self._channels.remove(channel)
