"""Which images are pulled when (Compose's `pull_policy`), so that one pull serves every task that waits for it.

Without a policy an image is pulled only where it is missing. A policy with a period counts from the last pull that this
daemon made: it may pull more often than asked for, never less.
"""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import Future

from stackd.agent.executor.docker.engine import DockerEngine, EngineRefused
from stackd.base.errors import TaskFault
from stackd.spec.stack import ContainerSpec

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PERIODS = {"daily": 86_400, "weekly": 604_800}
_PART = re.compile(r"(\d+)([wdhms])")
_EVERY = re.compile(r"every_((?:\d+[wdhms])+)")

Key = tuple[str, str]
"""Image and platform."""


class Images:
    """The pulls of one engine."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._pulls: dict[Key, Future[None]] = {}
        self._pulled_at: dict[Key, float] = {}

    async def before_create(self, spec: ContainerSpec) -> None:
        """Pull the image if its policy asks for that though it may be there. Raises TaskFault for a policy nobody knows."""
        period = _period_seconds(spec.pull_policy)
        last = self._pulled_at.get((spec.image, spec.platform))
        if period is not None and (last is None or time.monotonic() - last >= period):
            await self._pull(spec)

    async def when_missing(self, spec: ContainerSpec, missing: EngineRefused) -> None:
        """Pull the image, which the engine doesn't have; raises `missing` again if the policy forbids that."""
        if spec.pull_policy == "never" or spec.image.startswith("sha256:"):  # an id is no name in a registry
            raise missing
        await self._pull(spec)

    async def _pull(self, spec: ContainerSpec) -> None:
        """Pull together with every other task that needs it. Cancelling leaves the pull to finish."""
        key = spec.image, spec.platform
        pull = self._pulls.get(key)
        if pull is None or pull.done():
            pull = self._pulls[key] = self._engine.pull(*key)
        await asyncio.shield(asyncio.wrap_future(pull))
        self._pulled_at[key] = time.monotonic()


def _period_seconds(policy: str) -> int | None:
    """After how long an image is pulled anew; None for never while it is there."""
    if policy in ("", "missing", "if_not_present", "never"):
        return None
    if policy == "always":
        return 0
    if every := _EVERY.fullmatch(policy):
        return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(every[1]))
    if policy in _PERIODS:
        return _PERIODS[policy]
    raise TaskFault("agent.docker.unsupported", f"nothing is built here, nor is any image pulled by the policy {policy}")
