"""A decision under way: the changes so far on top of a view. Every stage reads its predecessors' writes here.

The difference between draft and view is the transaction. Putting a record that equals the stored one writes nothing, so a
stage may state what should be without asking whether it already is. A savepoint undoes the writes of a stage that failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stackd.base.ids import Entropy, ServiceId, new_id
from stackd.base.records import encode
from stackd.base.time import Instant
from stackd.engine.model import Blob, Event, Row, SpecRow, Task
from stackd.engine.parts import SYSTEM, Principal
from stackd.engine.store import Transaction
from stackd.engine.tables import Rows
from stackd.engine.view import TABLE_OF, View, buckets_of, event_key

R = TypeVar("R")
T = TypeVar("T")

CHANGES_MAX = 2_000
"""Records one entry may change: about 10 ms of work, so that the loop stays responsive."""

BYTES_MAX = 700 * 1024
"""Estimated size of one entry: well under what consensus refuses (1 MiB), since sizes are estimated."""

FILLED_SHARE = 0.9
"""The part of an entry that new tasks may take: the rest is for what else comes of the same decision."""

ROW_BYTES = 250
"""Estimate for a record without content of its own: a task with its status, an event."""

EVENTS_MAX = 1_000
"""Length of the ring of events."""


class _Overlay(Generic[R]):
    """One table with the draft's changes on top; a deleted row is None."""

    __slots__ = ("base", "changes", "count")

    def __init__(self, base: Rows[R]) -> None:
        self.base = base
        self.changes: dict[str, R | None] = {}
        self.count = len(base)

    def get(self, key: str) -> R | None:
        return self.changes[key] if key in self.changes else self.base.get(key)

    def values(self) -> Iterator[R]:
        for row in self.base.values():
            if row.key not in self.changes:  # type: ignore[attr-defined]  # every row has a key
                yield row
        yield from [row for row in self.changes.values() if row is not None]

    def __len__(self) -> int:
        return self.count

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None


class _OverlayBuckets:
    """The index with the draft's changes on top: per bucket, which keys came (True) or went (False)."""

    def __init__(self, base: View) -> None:
        self._base = base._buckets
        self._moved: dict[str, dict[str, bool]] = {}

    def keys(self, bucket: str) -> Iterable[str]:
        moved = self._moved.get(bucket)
        if not moved:
            return self._base.keys(bucket)
        kept = [key for key in self._base.keys(bucket) if key not in moved]
        return kept + [key for key, present in moved.items() if present]

    def move(self, key: str, source: Iterable[str], target: Iterable[str]) -> None:
        for bucket in source:
            self._moved.setdefault(bucket, {})[key] = False
        for bucket in target:
            self._moved.setdefault(bucket, {})[key] = True


@dataclass(frozen=True, slots=True)
class Savepoint:
    """How far a draft had come."""

    writes: int
    event_seq: int
    changed: int
    size: int


class Draft(View):
    """See the module. `now` is the cluster time of the decision, `next_version` what a client-visible record written now
    carries. Besides changes a draft gathers `wakeups`, reasons by key, and the services the entry had no room for: `more` have
    to be looked at again, `unfilled` only lack tasks."""

    def __init__(self, view: View, now: Instant, entropy: Entropy) -> None:
        for name in TABLE_OF.values():
            setattr(self, name, _Overlay(getattr(view, name)))
        self._buckets: _OverlayBuckets = _OverlayBuckets(view)
        self.index = view.index
        self.version = view.version
        self.next_version = view.version + 1
        self.now = now
        self.event_seq = view.event_seq
        self.ledger = view.ledger
        self.wakeups: dict[ServiceId, Instant] = {}
        self.reasons: dict[str, str] = {}
        self.more: dict[ServiceId, None] = {}
        self.unfilled: dict[ServiceId, None] = {}
        self._entropy = entropy
        self._undo: list[tuple[_Overlay[Any], str, bool, Any]] = []
        self._changed = 0
        self._size = 0

    def new_id(self) -> str:
        return new_id(self._entropy)

    # Writing.

    def put(self, row: Row, reason: str = "") -> None:
        """Store `row`; nothing happens if it is stored already. `reason` says why, for plans and explanations."""
        table = self._overlay(TABLE_OF[type(row)])
        if table.get(row.key) == row:
            return
        self._write(table, row.key, row, _weight(row))
        if reason:
            self.reasons[row.key] = reason

    def delete(self, kind: type[Row], key: str) -> None:
        """Remove a row, if it is there."""
        table = self._overlay(TABLE_OF[kind])
        if table.get(key) is not None:
            self._write(table, key, None, len(key))

    def event(self, kind: str, subject: str, message: str, *, stack: str = "", principal: Principal = SYSTEM) -> None:
        """Append to the ring of events, which keeps the latest."""
        self.event_seq += 1
        self.put(
            Event(
                seq=self.event_seq,
                at=self.now,
                kind=kind,
                subject=subject,
                message=message,
                stack=stack,
                principal=principal,
            )
        )
        self.delete(Event, event_key(self.event_seq - EVENTS_MAX))

    def wake(self, at: Instant, service: ServiceId) -> None:
        """Look at the service again at `at`; the earliest wish counts."""
        if at > self.now:
            self.wakeups[service] = min(at, self.wakeups.get(service, at))

    # Limits.

    @property
    def full(self) -> bool:
        """Whether the entry has no room for more."""
        return self._is_filled_to(1)

    def _is_filled_to(self, share: float) -> bool:
        return self._changed >= share * CHANGES_MAX or self._size >= share * BYTES_MAX

    def budgeted(self, service: ServiceId, items: Iterable[T]) -> Iterator[T]:
        """`items`, as long as the entry has room; then the service is left for the next entry."""
        for item in items:
            if self.full:
                self.more[service] = None
                return
            yield item

    def filling(self, service: ServiceId, slots: Iterable[T]) -> Iterator[T]:
        """The empty `slots` of a service, as long as the entry has room for new tasks and for what else follows; then filling
        the others is left for the next entry."""
        for slot in slots:
            if self._is_filled_to(FILLED_SHARE):
                self.unfilled[service] = None
                return
            yield slot

    def grow(self, size: int) -> bool:
        """Count `size` more bytes of a record that is written anyway; False, and nothing counted, if there is no room."""
        if self._size + size > BYTES_MAX:
            return False
        self._size += size
        return True

    def is_new(self, task: Task) -> bool:
        """Whether the task is written by this decision anyway."""
        return task.id in self._overlay("tasks").changes

    def changed_tasks(self) -> set[str]:
        """The keys of tasks that this decision writes itself or their status."""
        return self._overlay("tasks").changes.keys() | self._overlay("statuses").changes.keys()

    def changed_nodes(self) -> set[str]:
        """The keys of nodes that this decision writes themselves or their status."""
        return self._overlay("nodes").changes.keys() | self._overlay("node_statuses").changes.keys()

    def changed_endpoints(self) -> set[str]:
        """The services whose endpoint this decision writes."""
        return set(self._overlay("endpoints").changes)

    def turned_rollouts(self) -> list[ServiceId]:
        """The services whose rollout this decision has brought into another state."""
        rollouts = self._overlay("rollouts")
        states = ((key, row.state, rollouts.base.get(key)) for key, row in rollouts.changes.items() if row is not None)
        return [ServiceId(key) for key, state, before in states if before is None or before.state is not state]

    # Undoing and finishing.

    def savepoint(self) -> Savepoint:
        return Savepoint(len(self._undo), self.event_seq, self._changed, self._size)

    def rollback(self, to: Savepoint) -> None:
        """Undo every write since `to`. Wake-ups stay: looking once too often does no harm."""
        while len(self._undo) > to.writes:
            table, key, was_changed, previous = self._undo.pop()
            self._reindex(table, key, previous)
            if was_changed:
                table.changes[key] = previous
            else:
                del table.changes[key]
        self.event_seq = to.event_seq
        self._changed, self._size = to.changed, to.size

    def transaction(self) -> Transaction | None:
        """What has to be written, in the order of tables and keys; None if nothing has changed."""
        puts: list[Row] = []
        deletes: list[tuple[str, str]] = []
        for name in TABLE_OF.values():
            table = self._overlay(name)
            for key, row in table.changes.items():
                if row is None:
                    if key in table.base:
                        deletes.append((name, key))
                elif table.base.get(key) != row:
                    puts.append(row)
        if not puts and not deletes:
            return None
        return Transaction(now=self.now, puts=tuple(puts), deletes=tuple(deletes))

    def _overlay(self, name: str) -> _Overlay[Any]:
        overlay: _Overlay[Any] = getattr(self, name)
        return overlay

    def _write(self, table: _Overlay[Any], key: str, row: Any, weight: int) -> None:
        known = key in table.changes
        self._undo.append((table, key, known, table.get(key)))
        if not known:
            self._changed += 1
            self._size += weight
        self._reindex(table, key, row)
        table.changes[key] = row

    def _reindex(self, table: _Overlay[Any], key: str, row: Any) -> None:
        """Account for `row` taking the place of the present one. Called before the change itself."""
        present = table.get(key)
        table.count += (row is not None) - (present is not None)
        source = buckets_of(present) if present is not None else ()
        target = buckets_of(row) if row is not None else ()
        if source != target:
            self._buckets.move(key, source, target)


def _weight(row: Row) -> int:
    """About how many bytes `row` adds to the entry."""
    match row:
        case Blob():
            return len(row.data) + ROW_BYTES
        case SpecRow():
            return len(encode(row))
        case _:
            return ROW_BYTES
