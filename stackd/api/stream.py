"""The small stream that dispatcher and agent speak over, and its in-memory form.

Above gRPC nothing knows gRPC: the same session runs over `memory_pair()` in one process and in the simulator, and over a
bidirectional call between machines (`api/grpc_stream.py`). Messages arrive whole, in order, once, or the stream ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

from stackd.base.errors import Unavailable

In = TypeVar("In")
Out = TypeVar("Out")
InCo = TypeVar("InCo", covariant=True)
OutContra = TypeVar("OutContra", contravariant=True)

QUEUE_LIMIT = 1024
"""Messages waiting in one direction; a sender beyond that waits, so a slow reader bounds memory."""


class StreamClosed(Unavailable):
    """The other side has gone; nothing more will arrive."""

    def __init__(self, why: str = "the stream has ended") -> None:
        super().__init__("api.stream.closed", why)


class Stream(Protocol[InCo, OutContra]):
    """One end of a stream: receives `In`, sends `Out`."""

    async def receive(self) -> InCo:
        """The next message; raises StreamClosed at the end."""
        ...

    async def send(self, message: OutContra) -> None:
        """Hand over a message; waits when the other side is slow; raises StreamClosed when it has gone."""
        ...

    async def close(self) -> None:
        """End the stream in both directions; messages already sent may still be received."""
        ...


class _Pipe:
    """One direction: a bounded queue that can end."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._changed = asyncio.Condition()
        self._closed = False

    async def put(self, message: Any) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or len(self._messages) < QUEUE_LIMIT)
            if self._closed:
                raise StreamClosed
            self._messages.append(message)
            self._changed.notify_all()

    async def get(self) -> Any:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or bool(self._messages))
            if not self._messages:
                raise StreamClosed
            message = self._messages.popleft()
            self._changed.notify_all()
            return message

    async def end(self) -> None:
        async with self._changed:
            self._closed = True
            self._changed.notify_all()


class MemoryStream(Generic[In, Out]):
    """One end of an in-memory pair."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def receive(self) -> In:
        message: In = await self._incoming.get()
        return message

    async def send(self, message: Out) -> None:
        await self._outgoing.put(message)

    async def close(self) -> None:
        await self._incoming.end()
        await self._outgoing.end()


def memory_pair() -> tuple[MemoryStream[Any, Any], MemoryStream[Any, Any]]:
    """Two connected ends: what one sends the other receives."""
    left, right = _Pipe(), _Pipe()
    return MemoryStream(left, right), MemoryStream(right, left)
