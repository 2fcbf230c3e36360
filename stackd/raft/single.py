"""A cluster of one: consensus with nobody, over the log that the clustered member uses too.

There is nothing to elect, so a member leads from its start to its end; each start is a new term, so a decision that an
earlier process made can't be proposed by mistake. What is on the medium is committed.

The event loop never waits for a disk: one thread writes the log, another the snapshots. While a batch is being written the
proposals that arrive gather into the next one. There are no tasks here: each finished write starts the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from stackd.base.errors import StackdError, Unavailable
from stackd.raft.channel import Announcements, Channel
from stackd.raft.consensus import (
    Entry,
    Leadership,
    NotLeader,
    OutcomeUnknown,
    Sealer,
    SnapshotView,
    StorageFailed,
    check_size,
)
from stackd.raft.disk import Disk, reason, remove_temporary
from stackd.raft.frame import FROM_BACKUP, Identity, Kind, Record
from stackd.raft.recovery import Recovered, read_log
from stackd.raft.snapshot import Snapshot, Snapshots
from stackd.raft.state import Position
from stackd.raft.wal import SEGMENT_BYTES, Log, LogUnusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Settings of a member."""

    snapshot_entries: int = 10_000
    """Entries after which a snapshot is due: a restart replays at most about twice as many, well under a second."""
    snapshot_bytes: int = 16 * 1024 * 1024
    """The same in bytes of log, for large entries."""
    snapshot_retry_entries: int = 1_000
    """Entries to wait after a snapshot that failed, or a full disk would be asked again at every entry."""
    batch_bytes: int = 4 * 1024 * 1024
    """Proposals written and synced together: bounds how long the last of them waits behind the others."""
    waiting_proposals: int = 4_096
    """Proposals accepted before the first of them is written; more are refused, as the disk can't keep up."""
    segment_bytes: int = SEGMENT_BYTES


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class _Proposal:
    data: bytes
    index: asyncio.Future[int]


class SingleMember:
    """The only member. It satisfies `consensus.Consensus`; whoever makes it holds the directory's lock."""

    def __init__(self, disk: Disk, sealer: Sealer, identity: Identity, limits: Limits = DEFAULT_LIMITS) -> None:
        self._disk = disk
        self._sealer = sealer
        self._identity = identity
        self._limits = limits
        self._snapshots = Snapshots(disk, sealer, identity)
        self._log_thread = ThreadPoolExecutor(1, "raft-log")
        self._snapshot_thread = ThreadPoolExecutor(1, "raft-snapshot")
        self._log: Log | None = None
        self._last = Position()
        self._waiting: list[_Proposal] = []
        self._writing: asyncio.Future[int] | None = None
        self._refusal: Callable[[], Unavailable] | None = _not_running
        self._committed: Channel[Entry] = Channel()
        self._role = Announcements(Leadership(0, is_leader=False))
        self._snapshot_index = 0
        self._snapshot_not_before = 0
        self._bytes_since_snapshot = 0
        self._snapshotting = False

    async def start(self) -> bytes | None:
        """See Consensus. Raises StackdError with a code of recovery.py, snapshot.py or frame.py, raft.snapshot.missing or
        raft.log.behind_snapshot; StorageFailed if the entry that opens the term can't be written."""
        try:
            opened = await asyncio.get_running_loop().run_in_executor(self._log_thread, self._open)
        except BaseException:
            await self.close()
            raise
        snapshot, entries, self._log = opened
        self._snapshot_index = snapshot.position.index if snapshot else 0
        self._bytes_since_snapshot = sum(len(entry.data) for entry in entries)
        for entry in entries:
            self._committed.put(entry)
        self._last = self._log.state.last
        self._refusal = None
        self._role.announce(Leadership(self._last.term, is_leader=True))
        return snapshot.content if snapshot else None

    async def propose(self, data: bytes, term: int) -> int:
        """See Consensus. Raises also LogUnusable, and Unavailable with raft.closed or raft.overloaded."""
        check_size(data)
        self._check_running()
        if term != self._last.term:
            raise NotLeader
        if len(self._waiting) >= self._limits.waiting_proposals:
            raise Unavailable("raft.overloaded", "the disk can't keep up with what is being proposed")
        proposal = _Proposal(data, asyncio.get_running_loop().create_future())
        self._waiting.append(proposal)
        self._write_next()
        return await proposal.index

    async def read_barrier(self) -> int:
        self._check_running()
        return self._last.index

    def leadership(self) -> AsyncIterator[Leadership]:
        return self._role.follow()

    def committed(self) -> AsyncIterator[Entry]:
        return self._committed.items()

    def snapshot_due(self) -> bool:
        if self._snapshotting or self._last.index < self._snapshot_not_before:
            return False
        entries = self._last.index - self._snapshot_index
        return entries >= self._limits.snapshot_entries or self._bytes_since_snapshot >= self._limits.snapshot_bytes

    async def take_snapshot(self, view: SnapshotView) -> None:
        """See Consensus. Does nothing while another one is being written, or if there is one as new."""
        if self._snapshotting or self._log is None or view.index <= self._snapshot_index:
            return
        self._snapshotting = True
        bytes_before = self._bytes_since_snapshot
        try:
            await self._write_snapshot(self._log, view)
        except StorageFailed:
            self._snapshot_not_before = self._last.index + self._limits.snapshot_retry_entries
            raise
        except LogUnusable as error:
            self._stop_leading(error)
            raise
        finally:
            self._snapshotting = False
        self._bytes_since_snapshot -= bytes_before

    async def close(self) -> None:
        """Write what was accepted, and end the streams."""
        self._refusal = self._refusal or _not_running
        while self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.to_thread(self._join_threads)
        self._committed.end()
        self._role.end()

    def _check_running(self) -> None:
        if self._refusal is not None:
            raise self._refusal()

    # -- in the threads

    def _open(self) -> tuple[Snapshot | None, list[Entry], Log]:
        """Read everything, and only if all of it is sound begin to write."""
        try:
            snapshot = self._snapshots.latest()
            recovered = read_log(self._disk, self._sealer, self._identity)
            at = snapshot.position if snapshot else Position()
            self._check_together(at, recovered)
            log = Log.resume(self._disk, self._sealer, self._identity, recovered, segment_bytes=self._limits.segment_bytes)
        except OSError as exc:
            raise StorageFailed(f"can't read {self._disk.path_of('')}: {reason(exc)}") from exc
        try:
            opening = self._open_term(log)
        except BaseException:
            log.close()
            raise
        remove_temporary(self._disk)
        return snapshot, [*(entry for entry in recovered.entries if entry.index > at.index), opening], log

    def _check_together(self, at: Position, recovered: Recovered) -> None:
        """Log and snapshot must meet. The snapshot may be newer than the log knows: a crash came between the two."""
        where = self._disk.path_of("")
        if at.index < recovered.state.snapshot.index:
            why = f"the snapshot at entry {recovered.state.snapshot.index} is missing in {where}"
            raise StackdError("raft.snapshot.missing", why, hint=FROM_BACKUP)
        if at.index > recovered.state.last.index:
            why = f"the log in {where} ends at entry {recovered.state.last.index}, before the snapshot at {at.index}"
            raise StackdError("raft.log.behind_snapshot", why, hint=FROM_BACKUP)

    def _open_term(self, log: Log) -> Entry:
        """All that the log holds is committed, and a new term begins."""
        last = log.state.last
        entry = Entry(last.index + 1, log.state.term + 1, b"")
        vote = Record(Kind.VOTE, term=entry.term, body=self._identity.member.encode())
        log.append([Record(Kind.COMMIT, last.index), vote, _record(entry)])
        return entry

    def _join_threads(self) -> None:
        self._snapshot_thread.shutdown()
        self._log_thread.shutdown()
        if self._log is not None:
            self._log.close()
            self._log = None

    # -- in the event loop

    async def _write_snapshot(self, log: Log, view: SnapshotView) -> None:
        loop = asyncio.get_running_loop()
        at = Position(view.index, log.state.term_of(view.index))
        await loop.run_in_executor(self._snapshot_thread, lambda: self._snapshots.write(at, view.chunks()))
        self._snapshot_index = at.index
        if self._refusal is not None:
            return
        # The old snapshot first: on a full disk its room may be what the log's record needs.
        await loop.run_in_executor(self._snapshot_thread, self._snapshots.remove_before, at.index)
        await loop.run_in_executor(self._log_thread, log.drop_through, at.index)

    def _write_next(self) -> None:
        """Begin to write the proposals that have gathered, unless a write is under way: its end comes here again."""
        if self._writing is not None or not self._waiting or self._log is None:
            return
        batch = self._take_batch()
        entries = [Entry(index, self._last.term, one.data) for index, one in enumerate(batch, self._last.index + 1)]
        records = [_record(entry) for entry in entries]
        self._writing = asyncio.get_running_loop().run_in_executor(self._log_thread, self._log.append, records)
        self._writing.add_done_callback(lambda written: self._written(batch, entries, written))

    def _take_batch(self) -> list[_Proposal]:
        size = count = 0
        for proposal in self._waiting:
            size += len(proposal.data)
            if count and size > self._limits.batch_bytes:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _written(self, batch: list[_Proposal], entries: list[Entry], written: asyncio.Future[int]) -> None:
        self._writing = None
        error = written.exception()
        if error is None:
            self._bytes_since_snapshot += written.result()
            for proposal, entry in zip(batch, entries, strict=True):
                self._last = Position(entry.index, entry.term)
                self._committed.put(entry)
                if not proposal.index.done():  # its proposer may have been cancelled
                    proposal.index.set_result(entry.index)
        elif isinstance(error, LogUnusable):
            _fail(batch, OutcomeUnknown(error.message))
            self._stop_leading(error)
        else:
            _fail(batch, error)
        self._write_next()

    def _stop_leading(self, error: LogUnusable) -> None:
        """The log can't be trusted any more: nothing is accepted until a restart has read it again."""
        self._refusal = partial(LogUnusable, error.cause)
        waiting, self._waiting = self._waiting, []
        _fail(waiting, error)
        self._role.announce(Leadership(self._last.term, is_leader=False))


def _not_running() -> Unavailable:
    return Unavailable("raft.closed", "the member is not running")


def _record(entry: Entry) -> Record:
    return Record(Kind.ENTRY, entry.index, entry.term, entry.data)


def _fail(proposals: Iterable[_Proposal], error: BaseException) -> None:
    for proposal in proposals:
        if not proposal.index.done():
            proposal.index.set_exception(error)
