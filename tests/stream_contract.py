"""What every form of `Stream` promises. A form's test class says how to make a pair of connected ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from stackd.api.dispatch import FromAgent, FromManager, Heartbeat, LogChunk, LogRequest, Welcome
from stackd.api.stream import Stream, StreamClosed
from stackd.base.ids import TaskId
from stackd.base.time import SECOND

Pair = tuple[Stream[FromManager, FromAgent], Stream[FromAgent, FromManager]]
"""The agent's end and the manager's end."""

WAIT_SECONDS = 5.0


class StreamContract:
    """Inherit and give `pair`."""

    def pair(self) -> AbstractAsyncContextManager[Pair]:
        raise NotImplementedError

    def check(self, scenario: Callable[[Any, Any], Awaitable[None]]) -> None:
        async def run() -> None:
            async with asyncio.timeout(WAIT_SECONDS), self.pair() as (agent, manager):
                await scenario(agent, manager)

        asyncio.run(run())

    def test_messages_arrive_whole_and_in_order_in_both_directions(self) -> None:
        async def scenario(agent: Any, manager: Any) -> None:
            for number in range(200):
                await agent.send(LogChunk(request=number, line=b"x" * number))
            for number in range(200):
                await manager.send(LogRequest(request=number, task_id=TaskId("t")))
            assert [(await manager.receive()).request for _ in range(200)] == list(range(200))
            assert [(await agent.receive()).request for _ in range(200)] == list(range(200))

        self.check(scenario)

    def test_several_senders_at_once_do_not_mix_their_messages(self) -> None:
        async def scenario(agent: Any, manager: Any) -> None:
            async def send(number: int) -> None:
                for _ in range(20):
                    await agent.send(LogChunk(request=number, line=bytes([number]) * 1000))

            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(send(number))
                received = [await manager.receive() for _ in range(100)]
            assert all(chunk.line == bytes([chunk.request]) * 1000 for chunk in received)

        self.check(scenario)

    def test_what_was_sent_before_the_agent_closed_still_arrives(self) -> None:
        async def scenario(agent: Any, manager: Any) -> None:
            await agent.send(Heartbeat())
            await agent.send(LogChunk(request=7))
            async with asyncio.TaskGroup() as group:
                group.create_task(agent.close())
                assert await manager.receive() == Heartbeat()
                assert await manager.receive() == LogChunk(request=7)
                with pytest.raises(StreamClosed):
                    await manager.receive()
                await manager.close()

        self.check(scenario)

    def test_what_was_sent_before_the_manager_closed_still_arrives(self) -> None:
        async def scenario(agent: Any, manager: Any) -> None:
            welcome = Welcome(session="1", heartbeat_ns=SECOND)
            await manager.send(welcome)
            await manager.close()
            assert await agent.receive() == welcome
            with pytest.raises(StreamClosed):
                await agent.receive()

        self.check(scenario)

    def test_nothing_can_be_sent_or_received_after_closing(self) -> None:
        async def scenario(agent: Any, manager: Any) -> None:
            await manager.close()
            await agent.close()
            for end, message in ((agent, Heartbeat()), (manager, Welcome(session="1", heartbeat_ns=SECOND))):
                with pytest.raises(StreamClosed):
                    await end.receive()
                with pytest.raises(StreamClosed):
                    await end.send(message)

        self.check(scenario)

    def test_a_waiting_receiver_learns_of_the_end(self) -> None:
        async def scenario(agent: Any, manager: Any) -> None:
            async def wait() -> None:
                with pytest.raises(StreamClosed):
                    await agent.receive()

            async with asyncio.TaskGroup() as group:
                group.create_task(wait())
                await asyncio.sleep(0)
                await manager.close()

        self.check(scenario)

    def test_closing_twice_is_closing_once(self) -> None:
        async def scenario(agent: Any, manager: Any) -> None:
            for end in (agent, manager, agent, manager):
                await end.close()

        self.check(scenario)


@asynccontextmanager
async def closing(agent: Any, manager: Any) -> AsyncIterator[Pair]:
    """Both ends, closed when the block ends."""
    try:
        yield agent, manager
    finally:
        await manager.close()
        await agent.close()
