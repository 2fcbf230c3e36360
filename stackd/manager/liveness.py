"""Which nodes are out of touch, and since when: turns lost sessions into `ReportNode` inputs.

It measures silence and decides nothing else; what a node that is down means for its tasks is the engine's business.
Heartbeats are not stored, so after a start every node gets double the grace to come back before it counts as down: agents
have to find the new leader first. A node whose manager the others don't reach has only to be looked for once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from stackd.base.errors import StackdError
from stackd.base.ids import NodeId
from stackd.engine.inputs import Input, Reply, ReportNode
from stackd.engine.parts import NodeState

log = logging.getLogger(__name__)

Submit = Callable[[Input], Awaitable[Reply]]

HEARTBEAT_FAILURE = "heartbeat failure"

RETRY_SECONDS = 1.0
"""Pause before a verdict is offered again to a manager that couldn't take it."""


@dataclass(slots=True)
class _Absence:
    """One node without a session since `since` (loop time). `news` is what hasn't been reported yet; after `deadline` it is
    down."""

    since: float
    news: str
    deadline: float


class Liveness:
    """Nodes without a session. `grace_seconds` is how long one may be away before it is down."""

    def __init__(self, submit: Submit, grace_seconds: float) -> None:
        self._submit = submit
        self._grace_seconds = grace_seconds
        self._away: dict[NodeId, _Absence] = {}
        self._changed = asyncio.Event()

    def expect(self, nodes: Iterable[NodeId]) -> None:
        """These nodes were here before this manager started: wait for them."""
        for node_id in nodes:
            self._miss(node_id, "", 2 * self._grace_seconds)

    def unreachable(self, node_id: NodeId) -> None:
        """The other managers don't reach the one on this node either: it is not that its agent looks for the leader."""
        absence = self._away.get(node_id)
        if absence is not None and absence.deadline > absence.since + self._grace_seconds:
            absence.deadline = absence.since + self._grace_seconds
            self._changed.set()

    def opened(self, node_id: NodeId) -> None:
        """The node has a session again, or is about to."""
        self._away.pop(node_id, None)

    def lost(self, node_id: NodeId, why: str, heard_at: float) -> None:
        """The node's session has ended; it may be back in a moment. It was last heard then (loop time): how soon a broken
        connection is noticed gives nobody more time."""
        self._miss(node_id, why, self._grace_seconds, heard_at)

    def silent(self, node_id: NodeId) -> None:
        """The node has said nothing for the whole grace period."""
        self._miss(node_id, "", 0.0)

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            self._changed.clear()
            try:
                for node_id, absence in tuple(self._away.items()):
                    await self._report(node_id, absence)
            except StackdError as error:
                log.info("verdicts on nodes must wait: error=%s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await self._wait_for_next()

    async def _report(self, node_id: NodeId, absence: _Absence) -> None:
        """What there is to say of a node that is still away. A node that comes back meanwhile registers after this."""
        if absence.news and self._away.get(node_id) is absence:
            await self._submit(ReportNode(id=node_id, state=NodeState.DISCONNECTED, message=absence.news))
            absence.news = ""
        if absence.deadline <= self._now() and self._away.get(node_id) is absence:
            await self._submit(ReportNode(id=node_id, state=NodeState.DOWN, message=HEARTBEAT_FAILURE))
            if self._away.get(node_id) is absence:
                del self._away[node_id]

    async def _wait_for_next(self) -> None:
        next_at = min((absence.deadline for absence in self._away.values()), default=None)
        try:
            async with asyncio.timeout_at(next_at):
                await self._changed.wait()
        except TimeoutError:
            return

    def _miss(self, node_id: NodeId, why: str, grace_seconds: float, since: float | None = None) -> None:
        since = self._now() if since is None else since
        self._away[node_id] = _Absence(since, why, since + grace_seconds)
        self._changed.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
