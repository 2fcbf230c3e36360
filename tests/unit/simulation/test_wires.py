"""Simulated connections."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from stackd.api.dispatch import Heartbeat
from stackd.api.stream import StreamClosed
from stackd.simulation.loop import run
from stackd.simulation.wire import Wire

from stream_contract import Pair, StreamContract, closing


class TestWire(StreamContract):
    def pair(self) -> AbstractAsyncContextManager[Pair]:
        wire = Wire(lambda: 0.001)
        return closing(wire.agent_end, wire.manager_end)


def test_messages_take_their_time_and_never_overtake_each_other() -> None:
    async def main() -> None:
        delays = iter([5.0, 1.0])
        wire = Wire(lambda: next(delays))
        await wire.agent_end.send("first")
        await wire.agent_end.send("second")
        assert await wire.manager_end.receive() == "first"
        assert asyncio.get_running_loop().time() == 5.0
        assert await wire.manager_end.receive() == "second"
        assert asyncio.get_running_loop().time() == 5.0

    run(main())


def test_a_stalled_wire_delivers_nothing_until_it_is_resumed() -> None:
    async def main() -> None:
        wire = Wire(lambda: 0.0)
        wire.stall()
        await wire.agent_end.send(Heartbeat())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await wire.manager_end.receive()
        wire.stall(False)
        assert await wire.manager_end.receive() == Heartbeat()

    run(main())


def test_a_cut_wire_loses_what_is_under_way() -> None:
    async def main() -> None:
        wire = Wire(lambda: 1.0)
        await wire.agent_end.send(Heartbeat())
        wire.cut()
        for end in (wire.agent_end, wire.manager_end):
            with pytest.raises(StreamClosed):
                await end.receive()
        assert not wire.is_open

    run(main())
