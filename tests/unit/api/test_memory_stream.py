"""The in-memory form of the agent's stream."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from stackd.api.dispatch import Heartbeat
from stackd.api.stream import QUEUE_LIMIT, memory_pair

from stream_contract import Pair, StreamContract, closing


class TestMemoryStream(StreamContract):
    def pair(self) -> AbstractAsyncContextManager[Pair]:
        return closing(*memory_pair())


def test_a_slow_reader_bounds_how_much_is_queued() -> None:
    async def run() -> None:
        agent, manager = memory_pair()
        for _ in range(QUEUE_LIMIT):
            await agent.send(Heartbeat())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await agent.send(Heartbeat())
        await manager.receive()
        await agent.send(Heartbeat())

    asyncio.run(run())
