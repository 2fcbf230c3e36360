"""The replicated state machine: applies committed transactions to the tables, and writes and reads snapshots of them.

Nothing is decided here. `apply` is total: the same entries give the same state on every member, and no entry, however
broken, raises; it would stop every manager at each replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from stackd.base.errors import StackdError
from stackd.base.ids import NodeId
from stackd.base.records import Record, decoder, encode
from stackd.base.time import Instant
from stackd.engine.allocate.addresses import attachments_held, endpoint_holder
from stackd.engine.entry import pack, unpack
from stackd.engine.failures import failure_of
from stackd.engine.fates import run_of
from stackd.engine.ledger import Ledger, charge_of
from stackd.engine.model import Event, Node, Row, Task
from stackd.engine.schedule.filters import is_open
from stackd.engine.status import Endpoint, NodeStatus, TaskStatus
from stackd.engine.tables import Index, Table
from stackd.engine.tally import running_of, underway_of
from stackd.engine.view import TABLE_OF, View, buckets_of

__all__ = ["Changes", "Frozen", "Store", "Transaction", "View", "encode_transaction"]

SNAPSHOT_MAGIC = b"stackd-state\n"
SNAPSHOT_FORMAT = 1
ROWS_PER_FRAME = 500
"""Rows encoded at once: keeps the pieces of a snapshot small enough to be written while others use the interpreter."""


class Transaction(Record):
    """What one decision changes: the content of one Raft entry. `deletes` are pairs of table name and key."""

    now: Instant
    puts: tuple[Row, ...] = ()
    deletes: tuple[tuple[str, str], ...] = ()


def encode_transaction(transaction: Transaction) -> bytes:
    """The entry to propose; `Store.apply` takes it."""
    return pack(encode(transaction))


@dataclass(frozen=True, slots=True)
class Changes:
    """What an applied entry changed."""

    index: int
    now: Instant
    puts: tuple[Row, ...] = ()
    deletes: tuple[tuple[str, str], ...] = ()


class _SnapshotHead(Record):
    """The first frame of a snapshot."""

    format: int
    index: int
    version: int
    now: Instant
    undecodable: int


_decode_transaction = decoder(Transaction).decode
_decode_head = decoder(_SnapshotHead).decode
_decode_rows = decoder(tuple[Row, ...]).decode


class _Tables(View):
    """The tables and the index over them, as the store writes them."""

    def __init__(self) -> None:
        for name in TABLE_OF.values():
            setattr(self, name, Table())
        self._buckets: Index = Index()
        self.ledger = Ledger()
        self.index = 0
        self.version = 0
        self.now = Instant(0)
        self.event_seq = 0

    def fork(self) -> _Tables:
        other = _Tables.__new__(_Tables)
        for name in TABLE_OF.values():
            setattr(other, name, self.table(name).fork())
        other._buckets = self._buckets.fork()
        other.ledger = self.ledger.fork()
        other.index, other.version, other.now = self.index, self.version, self.now
        other.event_seq = self.event_seq
        return other

    def table(self, name: str) -> Table[Any]:
        table: Table[Any] = getattr(self, name)
        return table

    def put(self, row: Row) -> None:
        previous = self.table(TABLE_OF[type(row)]).put(row.key, row)
        self._reindex(row.key, previous, row)
        if isinstance(row, Task | TaskStatus):
            self._charge(row.key)
        elif isinstance(row, Endpoint):
            self.ledger.addresses.settle(endpoint_holder(row.key), row.virtual)
        elif isinstance(row, Node | NodeStatus):
            self._list(row.id)
        elif isinstance(row, Event):
            self.event_seq = max(self.event_seq, row.seq)

    def delete(self, name: str, key: str) -> None:
        """Remove a row; that it (or the table) doesn't exist is no error."""
        if name in _NAMES:
            self._reindex(key, self.table(name).pop(key), None)
            if name in _CHARGED:
                self._charge(key)
            elif name in _LISTED:
                self._list(NodeId(key))
            elif name == _ENDPOINTS:
                self.ledger.addresses.settle(endpoint_holder(key), ())

    def _list(self, node_id: NodeId) -> None:
        node = self.nodes.get(node_id)
        self.ledger.list_node(node_id, is_there=node is not None, is_open=is_open(node, self.node_statuses.get(node_id)))

    def _charge(self, task_id: str) -> None:
        task, status = self.tasks.get(task_id), self.statuses.get(task_id)
        self.ledger.settle(task_id, charge_of(task, status, self.specs))
        self.ledger.addresses.settle(task_id, attachments_held(task, status))
        self.ledger.failures.settle(task_id, failure_of(task, status))
        self.ledger.underway.settle(task_id, underway_of(task, status))
        self.ledger.running.settle(task_id, running_of(task, status))
        self.ledger.fates.settle(task_id, run_of(task, status))

    def _reindex(self, key: str, before: Row | None, after: Row | None) -> None:
        source = buckets_of(before) if before is not None else ()
        target = buckets_of(after) if after is not None else ()
        if source != target:
            self._buckets.move(key, source, target)


_NAMES = frozenset(TABLE_OF.values())
_CHARGED = frozenset({TABLE_OF[Task], TABLE_OF[TaskStatus]})
_LISTED = frozenset({TABLE_OF[Node], TABLE_OF[NodeStatus]})
_ENDPOINTS = TABLE_OF[Endpoint]


@dataclass(frozen=True, slots=True)
class Frozen:
    """The state at `index`, unchanged by what is applied later; may be read in another thread."""

    index: int
    view: View
    undecodable: int

    def chunks(self) -> Iterator[bytes]:
        """The snapshot, piece by piece: magic, then frames of a length and MessagePack."""
        view = self.view
        head = _SnapshotHead(
            format=SNAPSHOT_FORMAT, index=self.index, version=view.version, now=view.now, undecodable=self.undecodable
        )
        yield SNAPSHOT_MAGIC
        yield _frame(head)
        rows: list[Row] = []
        for name in TABLE_OF.values():
            for row in getattr(view, name).values():
                rows.append(row)
                if len(rows) == ROWS_PER_FRAME:
                    yield _frame(rows)
                    rows = []
        yield _frame(rows)


class Store:
    """The state of this member. `view` is live: it shows each entry as soon as it is applied."""

    def __init__(self) -> None:
        self._tables = _Tables()
        self.undecodable = 0
        """Entries that could not be read and so changed nothing; the same number on every member."""

    @property
    def view(self) -> View:
        return self._tables

    @property
    def index(self) -> int:
        """The index of the last applied entry."""
        return self._tables.index

    def apply(self, index: int, data: bytes) -> Changes:
        """Apply one committed entry. Never raises: b"" (the entry that opens a term) and what isn't a transaction change
        nothing but the index, and the latter is counted."""
        tables = self._tables
        tables.index = index
        transaction = self._read(data)
        if transaction is None:
            return Changes(index, tables.now)
        for row in transaction.puts:
            tables.put(row)
        for name, key in transaction.deletes:
            tables.delete(name, key)
        tables.version += 1
        tables.now = max(tables.now, transaction.now)
        return Changes(index, tables.now, transaction.puts, transaction.deletes)

    def install(self, data: bytes) -> Changes:
        """Take over the state that another member's `Frozen.chunks` described: this one has missed what led there. `view`
        is another one from then on. Raises as `restore` does, having changed nothing."""
        before, after = self._tables, Store.restore(data)
        puts = tuple(row for name in TABLE_OF.values() for row in after._tables.table(name).values())
        deletes = tuple(
            (name, row.key)
            for name in TABLE_OF.values()
            for row in before.table(name).values()
            if row.key not in after._tables.table(name)
        )
        self._tables, self.undecodable = after._tables, after.undecodable
        return Changes(self.index, self._tables.now, puts, deletes)

    def _read(self, data: bytes) -> Transaction | None:
        if not data:
            return None
        try:
            transaction: Transaction = _decode_transaction(unpack(data))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self.undecodable += 1
            return None
        return transaction

    def fork(self) -> Store:
        """An independent store with the same state, in O(shards): what a forecast runs on."""
        other = Store.__new__(Store)
        other._tables = self._tables.fork()
        other.undecodable = self.undecodable
        return other

    def freeze(self) -> Frozen:
        """The state as it is now, for a snapshot, in O(shards)."""
        return Frozen(index=self.index, view=self._tables.fork(), undecodable=self.undecodable)

    @classmethod
    def restore(cls, data: bytes) -> Store:
        """The store that `Frozen.chunks` described. Raises StackdError on anything else."""
        if not data.startswith(SNAPSHOT_MAGIC):
            raise StackdError("engine.snapshot.format", "this is not a snapshot of stackd's state")
        frames = _frames(memoryview(data)[len(SNAPSHOT_MAGIC) :])
        try:
            head = _decode_head(next(frames))
            _check_format(head.format)
            store = cls()
            for frame in frames:
                for row in _decode_rows(frame):
                    store._tables.put(row)
        except (msgspec.MsgspecError, ValueError, StopIteration) as exc:
            raise StackdError("engine.snapshot.damaged", f"the snapshot can't be read: {exc}") from exc
        store._tables.index, store._tables.version, store._tables.now = head.index, head.version, head.now
        store.undecodable = head.undecodable
        return store


def _check_format(number: int) -> None:
    if number != SNAPSHOT_FORMAT:
        raise StackdError(
            "engine.snapshot.format",
            f"the snapshot has format {number}, this version of stackd reads format {SNAPSHOT_FORMAT}",
            hint="start the version of stackd that wrote it",
        )


def _frame(content: Any) -> bytes:
    payload = encode(content)
    return len(payload).to_bytes(4, "big") + payload


def _frames(data: memoryview) -> Iterator[memoryview]:
    while data:
        length = int.from_bytes(data[:4], "big")
        payload = data[4 : 4 + length]
        if len(payload) < length:
            raise ValueError("it ends in the middle")
        yield payload
        data = data[4 + length :]
