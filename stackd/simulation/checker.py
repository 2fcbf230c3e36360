"""Watches a history entry by entry: is each state right, and was the step to it?

Looking at everything after each entry would cost more than the history itself. So the rules see the rows that an entry
touched, with everything else there to be looked up; every few entries, and at the end, they see all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from stackd.base.ids import ServiceId
from stackd.engine.check import check_state, check_transition
from stackd.engine.inputs import Wake
from stackd.engine.ledger import Ledger
from stackd.engine.model import Event, Row, Service, Task
from stackd.engine.places import BEYOND_ALL
from stackd.engine.status import Rollout, TaskStatus
from stackd.engine.step import step
from stackd.engine.store import Changes
from stackd.engine.view import TABLE_OF, View, buckets_of
from stackd.simulation.promises import Promises

FULL_CHECK_ENTRIES = 4
"""Every so many entries the rules see the whole state."""

_COUNTED_AS_A_WHOLE = ("nodes", "networks", "network_statuses", "endpoints")

FULL_LOOK_ENTRIES = 16
"""Every so many entries it is tried whether the engine, looking at everything, finds something that was left undone."""

Observer = Callable[[View, View, Changes], None]
"""Told of each entry: the state before, the state after, and the difference."""


class _Rows(dict[str, Any]):
    """One table of the past."""

    def values(self) -> Any:
        return iter(tuple(super().values()))


class _Past(View):
    """The state before the entry that is being looked at, kept up by hand: cheaper than a fork for each entry."""

    def __init__(self, start: View) -> None:
        self._moved: dict[str, dict[str, None]] = {}
        self._buckets = self
        self.ledger = Ledger()
        self.now, self.index, self.version, self.event_seq = start.now, start.index, start.version, start.event_seq
        for name in TABLE_OF.values():
            setattr(self, name, _Rows())
            for row in getattr(start, name).values():
                self._put(row)

    def keys(self, bucket: str) -> Iterable[str]:
        """The index, as `View` asks for it."""
        return tuple(self._moved.get(bucket, ()))

    def follow(self, changes: Changes, present: View) -> None:
        """Take over what an entry changed."""
        for row in changes.puts:
            self._put(row)
        for table, key in changes.deletes:
            self._reindex(key, getattr(self, table).pop(key, None), None)
        self.now, self.index = present.now, present.index
        self.version, self.event_seq = present.version, present.event_seq

    def _put(self, row: Row) -> None:
        table: _Rows = getattr(self, TABLE_OF[type(row)])
        self._reindex(row.key, table.get(row.key), row)
        table[row.key] = row

    def _reindex(self, key: str, before: Row | None, after: Row | None) -> None:
        for bucket in buckets_of(before) if before is not None else ():
            self._moved[bucket].pop(key, None)
        for bucket in buckets_of(after) if after is not None else ():
            self._moved.setdefault(bucket, {})[key] = None


class _Touched:
    """A table of which only some rows are gone through; all of them can be looked up."""

    def __init__(self, rows: Any, keys: Iterable[str]) -> None:
        self._rows = rows
        self._keys = keys

    def get(self, key: str) -> Any:
        return self._rows.get(key)

    def values(self) -> Iterator[Any]:
        return iter([row for key in self._keys if (row := self._rows.get(key)) is not None])

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        return key in self._rows


class _Narrow(View):
    """A view in which only these tasks and services are gone through, and nothing that is compared with a count of all."""

    def __init__(self, view: View, tasks: Iterable[str], services: Iterable[str]) -> None:
        self.__dict__.update({name: getattr(view, name) for name in TABLE_OF.values()})
        self.tasks = _Touched(view.tasks, tasks)
        self.statuses = _Touched(view.statuses, tasks)
        self.services = _Touched(view.services, services)
        self.rollouts = _Touched(view.rollouts, services)
        for name in _COUNTED_AS_A_WHOLE:
            setattr(self, name, _Touched(getattr(view, name), ()))
        self._buckets = view._buckets
        self.ledger = view.ledger
        self.now, self.index, self.version, self.event_seq = view.now, view.index, view.version, view.event_seq


class Checker:
    """Follows one store after the other through the whole history: whichever manager applies an entry first is looked at.
    `findings` are what was wrong; `observers` are told of each entry."""

    def __init__(self, start: View) -> None:
        self.findings: list[str] = []
        self.observers: list[Observer] = []
        self.observers.append(Promises(self._report).observe)
        self._past = _Past(start)
        self._index = start.index

    def look(self, present: View, changes: Changes) -> None:
        """An entry was applied to `present`."""
        if changes.index <= self._index:
            return
        self._index = changes.index
        if changes.puts or changes.deletes:
            for finding in self._check(present, changes):
                self._report(finding)
            for observe in self.observers:
                observe(self._past, present, changes)
            self._past.follow(changes, present)

    def _report(self, finding: str) -> None:
        self.findings.append(f"entry {self._index}: {finding}")

    def _check(self, present: View, changes: Changes) -> list[str]:
        tasks, services = _touched(self._past, present, changes)
        after = _Narrow(present, tasks, services)
        found = check_transition(_Narrow(self._past, tasks, services), after)
        found += check_state(present if changes.index % FULL_CHECK_ENTRIES == 0 else after)
        return found + (left_undone(present) if changes.index % FULL_LOOK_ENTRIES == 0 else [])


def left_undone(view: View) -> list[str]:
    """What the engine would still do at this very moment, if it looked at everything. Each decision is complete, so nothing,
    except that it may find other words for why something waits, and content to collect."""
    if any(service.frozen for service in view.services.values()):
        return []
    everything = Wake(services=tuple(service.id for service in view.services.values()))
    decision = step(view, (everything,), view.now, random.Random(0))
    rows = [row for row in decision.transaction.puts if _is_more_than_words(view, row)] if decision.transaction else []
    why = "; ".join([*decision.reasons.values()][:3])
    words = [f"{type(row).__name__} {row.subject} {row.message}" if isinstance(row, Event) else repr(row)[:150] for row in rows]
    return [f"left undone: {', '.join(words[:5])} ({why})"] if rows else []


def _is_more_than_words(view: View, row: Row) -> bool:
    before = getattr(view, TABLE_OF[type(row)]).get(row.key)
    match row:
        case TaskStatus() if before is not None:
            return row.state is not before.state
        case Rollout() if before is not None:
            return _without_words(row) != _without_words(before) or _has_passed_by(before, row)
        case Event():
            return row.kind != "task.unplaceable"
        case _:
            return True


def _without_words(row: Rollout) -> Rollout:
    """An update without its message and without how far it has looked."""
    return msgspec.structs.replace(row, message="", cursor=BEYOND_ALL, sweep=False)


def _has_passed_by(before: Rollout, row: Rollout) -> bool:
    """Whether the update no longer looked at a slot that waits for its turn. That it looks at more than it has to is no
    mistake: a task that finds its node after the update was looked at may have become one that can stay."""
    return not before.sweep and (row.sweep or row.cursor < before.cursor)


def _touched(past: View, present: View, changes: Changes) -> tuple[dict[str, None], dict[str, None]]:
    """The tasks an entry says something about, and the services these belong to or that it names."""
    tasks: dict[str, None] = {}
    services: dict[str, None] = {}
    for row in changes.puts:
        match row:
            case Task() | TaskStatus():
                tasks[row.id] = None
            case Service() | Rollout():
                services[row.key] = None
            case _:
                pass
    for table, key in changes.deletes:
        if table in ("tasks", "statuses"):
            tasks[key] = None
        elif table in ("services", "rollouts"):
            services[key] = None
    services.update(dict.fromkeys(_services_of(past, present, tasks)))
    return tasks, services


def _services_of(past: View, present: View, tasks: Iterable[str]) -> Iterator[ServiceId]:
    for task_id in tasks:
        if task := present.tasks.get(task_id) or past.tasks.get(task_id):
            yield task.service_id


def differing(one: View, other: View) -> list[str]:
    """The tables in which two states differ."""
    return [name for name in TABLE_OF.values() if _content(one, name) != _content(other, name)]


def _content(view: View, table: str) -> dict[str, Any]:
    return {row.key: row for row in getattr(view, table).values()}
