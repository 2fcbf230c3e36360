"""What a manager does only while it leads: sessions with agents, and its other duties.

Every manager applies the log; one leads. With each term it leads there begins a new dispatcher, which starts from what is on
record and knows no session yet; nothing begins before the term's first entry is applied, and all ends at once when another
manager is elected. An agent that reaches a manager that doesn't lead is told so, with the leader's address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from stackd.api.dispatch import FromAgent, FromManager, Goodbye, LogChunk
from stackd.api.stream import Stream
from stackd.base.errors import Unavailable
from stackd.base.ids import NodeId
from stackd.base.time import Duration, Instant
from stackd.engine.model import Node, Task
from stackd.engine.store import Changes
from stackd.manager.assignments import OpenBlob
from stackd.manager.dispatcher import HEARTBEAT, Dispatcher, turn_away
from stackd.manager.writer import Writer
from stackd.raft.consensus import Consensus

NOT_LEADING = "this manager does not lead"

LeaderDuty = Callable[[], Coroutine[Any, Any, None]]
"""Runs until it is cancelled."""


class LeaderRole:
    """A manager's part as leader, whether it has it at present or not. `leader_address` says where the leader is, as far as
    this manager knows ("" if it doesn't). `duties` are called when it begins to lead, each time, and cancelled when that is
    over."""

    def __init__(
        self,
        writer: Writer,
        consensus: Consensus,
        open_blob: OpenBlob,
        leader_address: Callable[[], str],
        heartbeat: Duration = HEARTBEAT,
        duties: Sequence[LeaderDuty] = (),
    ) -> None:
        self._writer = writer
        self._consensus = consensus
        self._open_blob = open_blob
        self._leader_address = leader_address
        self._heartbeat = heartbeat
        self._duties = duties
        self._dispatcher: Dispatcher | None = None
        writer.listen(self._notice)

    @property
    def dispatcher(self) -> Dispatcher | None:
        """The sessions of the present term; None while another manager leads."""
        return self._dispatcher

    async def run(self) -> None:
        """Take up the role and lay it down as elections go, until cancelled."""
        async with asyncio.TaskGroup() as group:
            present: asyncio.Task[None] | None = None
            async for change in self._consensus.leadership():
                if present is not None:
                    present.cancel()
                    self._lay_down(group)
                present = group.create_task(self._lead(), name="sessions") if change.is_leader else None

    async def serve(
        self,
        stream: Stream[FromAgent, FromManager],
        *,
        address: str = "",
        node: Node | None = None,
        peer: NodeId | None = None,
    ) -> None:
        """Hold one session with an agent (see `Dispatcher.serve`), or send it to the leader."""
        if self._dispatcher is not None:
            await self._dispatcher.serve(stream, address=address, node=node, peer=peer)
            return
        await turn_away(stream, Goodbye(reason=NOT_LEADING, leader=self._leader_address()))

    async def tail_logs(self, task: Task, *, follow: bool, tail: int, since: Instant) -> AsyncGenerator[LogChunk, None]:
        """See `Dispatcher.tail_logs`. Raises Unavailable also while another manager leads."""
        if self._dispatcher is None:
            raise Unavailable("manager.no_leader", NOT_LEADING, hint="try again in a moment")
        async with aclosing(self._dispatcher.tail_logs(task, follow=follow, tail=tail, since=since)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """Say goodbye to the agents, before `run` is cancelled."""
        former, self._dispatcher = self._dispatcher, None
        if former is not None:
            await former.stop()

    async def _lead(self) -> None:
        await self._writer.wait_ready()
        self._dispatcher = Dispatcher(self._writer.view, self._writer.submit, self._open_blob, self._heartbeat)
        async with asyncio.TaskGroup() as group:
            for duty in self._duties:
                group.create_task(duty(), name="duty of the leader")
            await self._dispatcher.run()

    def _lay_down(self, group: asyncio.TaskGroup) -> None:
        """End the term's sessions. The next term, should it be ours again, doesn't wait for that."""
        former, self._dispatcher = self._dispatcher, None
        if former is not None:
            group.create_task(former.stop(NOT_LEADING, self._leader_address()), name="goodbye")

    def _notice(self, changes: Changes) -> None:
        if self._dispatcher is not None:
            self._dispatcher.notice(changes)
