"""Real processes that are killed, cut off and starved lose nothing that they acknowledged, and end up alike."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from benchmarks.chaos_raft import Recorder, Violation, check, prepared, run
from tests.simulation.raft.linearizability import Operation, Read, Write

CHAOS_SECONDS = 12.0

pytestmark = pytest.mark.needs("root", "net")


def test_nothing_acknowledged_is_lost_in_chaos(tmp_path: Path) -> None:
    figures = asyncio.run(run(seed=7, seconds=CHAOS_SECONDS, directory=tmp_path))
    assert int(str(figures["acknowledged"])) > 100


def test_the_check_finds_a_lost_write_and_a_register_that_is_none(tmp_path: Path) -> None:
    async def story() -> None:
        recorder = Recorder()
        async with prepared(tmp_path) as ground:
            leader = await ground.cluster.leader()
            await leader.kv.put([("kept", b"")])
            recorder.note_acknowledged("kept")
            recorder.history.append(Operation("r0", Write("1"), recorder.place(), recorder.place()))
            await check(ground.cluster, recorder)
            recorder.history.append(Operation("r0", Read(None), recorder.place(), recorder.place()))
            with pytest.raises(Violation, match="no order"):
                await check(ground.cluster, recorder)
            recorder.history.pop()
            recorder.note_acknowledged("never written")
            with pytest.raises(Violation, match="never written"):
                await check(ground.cluster, recorder)

    asyncio.run(story())
