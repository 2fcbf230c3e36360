"""Simulated connections: a `Stream` with latency that can stall, and that can be cut without either side being told why.

It passes the same contract tests as the other forms. Messages arrive whole and in order or not at all: a lost message is
a cut connection, as it is with TCP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from stackd.api.stream import QUEUE_LIMIT, StreamClosed

Latency = Callable[[], float]
"""Seconds that the next message is under way."""


class _Lane:
    """One direction. `closed` lets what is under way arrive, `cut` doesn't."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._under_way: deque[tuple[float, Any]] = deque()
        self._latest = 0.0
        self._changed = asyncio.Event()
        self.closed = False
        self.stalled = False

    async def put(self, message: Any) -> None:
        while not self.closed and len(self._under_way) >= QUEUE_LIMIT:
            await self._wait(None)
        if self.closed:
            raise StreamClosed
        self._latest = max(self._latest, asyncio.get_running_loop().time() + self._latency())
        self._under_way.append((self._latest, message))
        self._wake()

    async def get(self) -> Any:
        while True:
            arrives_at = None
            if self._under_way and not self.stalled:
                arrives_at, message = self._under_way[0]
                if arrives_at <= asyncio.get_running_loop().time():
                    self._under_way.popleft()
                    self._wake()
                    return message
            elif self.closed and not self._under_way:
                raise StreamClosed
            await self._wait(arrives_at)

    def close(self) -> None:
        self.closed = True
        self._wake()

    def cut(self) -> None:
        self._under_way.clear()
        self.close()

    def stall(self, stalled: bool) -> None:
        self.stalled = stalled
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self, until: float | None) -> None:
        changed = self._changed
        try:
            async with asyncio.timeout_at(until):
                await changed.wait()
        except TimeoutError:
            return


class _End:
    """One end of a wire, as a `Stream`."""

    def __init__(self, incoming: _Lane, outgoing: _Lane) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def receive(self) -> Any:
        return await self._incoming.get()

    async def send(self, message: Any) -> None:
        await self._outgoing.put(message)

    async def close(self) -> None:
        self._incoming.close()
        self._outgoing.close()


class Wire:
    """One connection between an agent and a manager."""

    def __init__(self, latency: Latency) -> None:
        self._lanes = _Lane(latency), _Lane(latency)
        self.agent_end = _End(*self._lanes)
        self.manager_end = _End(*reversed(self._lanes))

    @property
    def is_open(self) -> bool:
        return not self._lanes[0].closed

    def cut(self) -> None:
        """Both ends see the stream end; what was under way is lost."""
        for lane in self._lanes:
            lane.cut()

    def stall(self, stalled: bool = True) -> None:
        """Nothing arrives, and nobody is told, until it is resumed or given up."""
        for lane in self._lanes:
            lane.stall(stalled)
