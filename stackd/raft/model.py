"""The reference model of consensus: one member whose disk is a Python object.

It passes the same contract tests as the real members and serves the simulator and engine tests: no threads, no I/O, and
time only through asyncio, so it is deterministic under a virtual clock. It shows nothing about durability; `MemoryLog`
simply survives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from stackd.base.errors import Unavailable
from stackd.raft.channel import Announcements, Channel
from stackd.raft.consensus import (
    Entry,
    Installed,
    Leadership,
    NotLeader,
    OutcomeUnknown,
    SnapshotView,
    StorageFailed,
    check_size,
)

RETRY_SECONDS = 0.5
"""Between two attempts to lead while the log is full."""


@dataclass
class MemoryLog:
    """What survives a restart: hand the same one to the next MemoryConsensus. `full` makes every write fail."""

    term: int = 0
    snapshot_index: int = 0
    snapshot: bytes | None = None
    entries: list[Entry] = field(default_factory=list)
    full: bool = False

    @property
    def last_index(self) -> int:
        return self.entries[-1].index if self.entries else self.snapshot_index


class MemoryConsensus:
    """One member over a MemoryLog. `delay_seconds` passes between a proposal and its commit.

    `step_down` and `lead` play an election that others won and this member won back; `install` that it was too far behind;
    `crash` is a kill: proposals under way end with OutcomeUnknown and are not in the log.
    """

    def __init__(self, log: MemoryLog, *, delay_seconds: float = 0.0, snapshot_entries: int = 10_000) -> None:
        self._log = log
        self._delay_seconds = delay_seconds
        self._snapshot_entries = snapshot_entries
        self._committed: Channel[Entry | Installed] = Channel()
        self._role = Announcements(Leadership(log.term, is_leader=False))
        self._open = False
        self._waits_for_room = False

    async def start(self) -> bytes | None:
        for entry in self._log.entries:
            self._committed.put(entry)
        self._open = True
        self._lead_when_there_is_room()
        return self._log.snapshot

    def _lead_when_there_is_room(self) -> None:
        self._waits_for_room = self._open and self._log.full
        if self._waits_for_room:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._lead_when_there_is_room)
        elif self._open:
            self.lead()

    def lead(self) -> None:
        """Win an election: a new term opens with its empty entry."""
        self._log.term += 1
        self._append(b"")
        self._role.announce(Leadership(self._log.term, is_leader=True))

    def step_down(self) -> None:
        """Lose leadership of the present term."""
        self._role.announce(Leadership(self._log.term, is_leader=False))

    def install(self, index: int, content: bytes) -> None:
        """Be sent another member's snapshot."""
        self._log.snapshot, self._log.snapshot_index, self._log.entries = content, index, []
        self._committed.put(Installed(index, content))

    async def propose(self, data: bytes, term: int) -> int:
        check_size(data)
        self._check_leads(term)
        await asyncio.sleep(self._delay_seconds)
        if not self._open:
            raise OutcomeUnknown("the member stopped while the entry was being written")
        self._check_leads(term)
        if self._log.full:
            raise StorageFailed("the log is full")
        return self._append(data)

    async def read_barrier(self) -> int:
        self._check_leads(self._log.term)
        return self._log.last_index

    def leadership(self) -> AsyncIterator[Leadership]:
        return self._role.follow()

    def committed(self) -> AsyncIterator[Entry | Installed]:
        return self._committed.items()

    def snapshot_due(self) -> bool:
        return self._log.last_index - self._log.snapshot_index >= self._snapshot_entries

    async def take_snapshot(self, view: SnapshotView) -> None:
        if view.index <= self._log.snapshot_index:
            return
        content = b"".join(view.chunks())
        if self._log.full:
            raise StorageFailed("the log is full")
        self._log.snapshot, self._log.snapshot_index = content, view.index
        self._log.entries = [entry for entry in self._log.entries if entry.index > view.index]

    async def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """Stop at once, as a killed process does."""
        self._open = False
        self._committed.end()
        self._role.end()

    def _append(self, data: bytes) -> int:
        entry = Entry(self._log.last_index + 1, self._log.term, data)
        self._log.entries.append(entry)
        self._committed.put(entry)
        return entry.index

    def _check_leads(self, term: int) -> None:
        if not self._open:
            raise Unavailable("raft.closed", "the member is not running")
        if self._role.present != Leadership(term, is_leader=True):
            raise StorageFailed("the log is full") if self._waits_for_room else NotLeader()
