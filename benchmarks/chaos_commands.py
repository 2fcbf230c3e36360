"""The command, as people type it at one node or another while chaos goes on, and what may come of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos_recorder import Violation
from cluster import ClusterNode
from node import STACKD

COMMAND_SECONDS = 6.0
"""A command that takes longer is ended; what became of it is unknown. On a slow machine it has more."""
USUAL_CODES = frozenset({0, 1, 3, 4, 5, 6})
"""What a command that is written correctly may end with: see the list in README.md."""
CRASHES = ("Traceback (most recent call last)", "internal error")


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is None if it had to be ended."""

    code: int | None
    out: str
    said: str

    @property
    def is_acknowledged(self) -> bool:
        return self.code == 0

    @property
    def is_refused(self) -> bool:
        """The cluster has decided against it."""
        return self.code == 3 and "[daemon." not in self.said

    @property
    def is_unknown(self) -> bool:
        return self.code is None or "unknown" in self.said

    @property
    def word(self) -> str:
        if self.is_acknowledged:
            return "acknowledged"
        if self.is_refused:
            return "refused"
        return "unknown" if self.is_unknown else "failed"

    def json(self) -> Any:
        return json.loads(self.out)


async def command(node: ClusterNode, *arguments: str, seconds: float = COMMAND_SECONDS) -> Ended:
    """Run the command against a node. Raises Violation if it crashes instead of saying what is wrong."""
    process = await asyncio.create_subprocess_exec(
        *STACKD,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "STACKD_HOST": node.host},
    )
    try:
        async with asyncio.timeout(seconds):
            out, said = await process.communicate()
    except TimeoutError:
        return Ended(None, "", "")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await process.wait()
    ended = Ended(process.returncode, out.decode(), said.decode())
    if ended.code not in USUAL_CODES or any(word in ended.said for word in CRASHES):
        raise Violation(f"`stackd {' '.join(arguments)}` on {node.name} ended with {ended.code}: {ended.said}")
    return ended
