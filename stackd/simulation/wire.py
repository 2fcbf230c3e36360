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
        self._arrived: deque[Any] = deque()
        self._latest = 0.0
        self._waiters: list[asyncio.Future[None]] = []
        self.closed = False
        self.stalled = False

    async def put(self, message: Any) -> None:
        while not self.closed and len(self._under_way) + len(self._arrived) >= QUEUE_LIMIT:
            await self._wait()
        if self.closed:
            raise StreamClosed
        loop = asyncio.get_running_loop()
        self._latest = max(self._latest, loop.time() + self._latency())
        self._under_way.append((self._latest, message))
        loop.call_at(self._latest, self._arrive)

    async def get(self) -> Any:
        while not self._arrived:
            if self.closed and not self._under_way:
                raise StreamClosed
            await self._wait()
        message = self._arrived.popleft()
        self._wake()
        return message

    def close(self) -> None:
        self.closed = True
        self._wake()

    def cut(self) -> None:
        self._under_way.clear()
        self._arrived.clear()
        self.close()

    def stall(self, stalled: bool) -> None:
        self.stalled = stalled
        self._arrive()

    def _arrive(self) -> None:
        """Hand over what has been under way for long enough."""
        now = asyncio.get_running_loop().time()
        while self._under_way and not self.stalled and self._under_way[0][0] <= now:
            self._arrived.append(self._under_way.popleft()[1])
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


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
