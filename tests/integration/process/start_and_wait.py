"""A daemon for a test to kill: starts one task, says so, and waits. Arguments: state directory, assignment and spec in hex."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.process import ProcessExecutor
from stackd.api.dispatch import Assignment
from stackd.base.records import decoder
from stackd.spec.stack import TaskSpec


async def main(state_dir: Path, assignment: bytes, spec: bytes) -> None:
    executor = ProcessExecutor(state_dir)
    await executor.start()
    task = executor.controller(TaskContext(decoder(Assignment).decode(assignment), decoder(TaskSpec).decode(spec), {}))
    await task.prepare()
    await task.start()
    print("up", flush=True)
    await task.wait()


asyncio.run(main(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])))
