"""The agent's stream over a real gRPC call on a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from stackd.api.dispatch import FromAgent, FromManager, Heartbeat
from stackd.api.grpc_stream import dispatcher_handlers, open_session
from stackd.api.stream import Stream, StreamClosed
from stackd.base.errors import Unavailable

from stream_contract import Pair, StreamContract


@asynccontextmanager
async def a_session(path: Path) -> AsyncIterator[Pair]:
    """One call; the manager's handler holds it until the block ends."""
    arrived: asyncio.Queue[Stream[FromAgent, FromManager]] = asyncio.Queue()
    done = asyncio.Event()

    async def serve(stream: Stream[FromAgent, FromManager], _peer: str) -> None:
        await arrived.put(_EndsWhenClosed(stream, done))
        await done.wait()

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((dispatcher_handlers(serve),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    channel = grpc.aio.insecure_channel(f"unix:{path}")
    try:
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(open_session(channel))
            manager = await arrived.get()
            agent = await opening
        yield agent, manager
        await manager.close()
        await agent.close()
    finally:
        done.set()
        await channel.close()
        await server.stop(0)


class _EndsWhenClosed:
    """The manager's end as a session uses it: after closing, its handler returns."""

    def __init__(self, stream: Stream[FromAgent, FromManager], done: asyncio.Event) -> None:
        self.receive = stream.receive
        self.send = stream.send
        self._stream = stream
        self._done = done

    async def close(self) -> None:
        await self._stream.close()
        self._done.set()


class TestGrpcStream(StreamContract):
    @pytest.fixture(autouse=True)
    def _socket(self, tmp_path: Path) -> None:
        self.path = tmp_path / "s"

    def pair(self) -> AbstractAsyncContextManager[Pair]:
        return a_session(self.path)


def test_a_manager_that_dies_ends_the_agents_stream(tmp_path: Path) -> None:
    async def run() -> None:
        async def serve(stream: Stream[FromAgent, FromManager], _peer: str) -> None:
            await stream.receive()
            await asyncio.Event().wait()

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((dispatcher_handlers(serve),))
        server.add_insecure_port(f"unix:{tmp_path}/s")
        await server.start()
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
            agent = await open_session(channel)
            await agent.send(Heartbeat())
            await server.stop(0)
            with pytest.raises(StreamClosed):
                await agent.receive()
            await agent.close()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_no_manager_at_all_is_unavailable(tmp_path: Path) -> None:
    async def run() -> None:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody") as channel:
            with pytest.raises(Unavailable) as caught:
                await open_session(channel)
        assert caught.value.code == "api.manager.unreachable"

    asyncio.run(asyncio.wait_for(run(), 10))
