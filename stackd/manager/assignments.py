"""What one agent has been told, and what it has to be told next.

Synchronous and without I/O: it compares the view with what was sent and produces messages. Invariant: a complete set and
all increments after it, applied in order, give the same as a fresh complete set. Contents of configs and secrets, and
networks, go only to nodes with a live task that uses them, each once, and are dropped with the last such task.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from stackd.api.dispatch import Assignment, Assignments, FileContent, SpecContent
from stackd.base.errors import StackdError
from stackd.base.ids import BlobDigest, NodeId, SpecDigest, TaskId
from stackd.base.time import Instant
from stackd.engine.allocate.networks import PREDEFINED
from stackd.engine.model import Blob, SpecRow, Task
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View

log = logging.getLogger(__name__)

FILE_BYTES_PER_MESSAGE = 4 * 1024 * 1024
"""More contents than this follow in further increments (their tasks wait for them), so that no message outgrows the
transport's limit however many configs a node uses."""

OpenBlob = Callable[[bytes, BlobDigest], bytes]
"""Decrypts a sealed blob; raises StackdError if it was not sealed by this cluster under that name."""


@dataclass(frozen=True, slots=True)
class _Told:
    """One task as the agent knows it, without its observed status, which the agent knows better."""

    assignment: Assignment
    files: frozenset[BlobDigest]
    networks: frozenset[str]


class _Uses:
    """Counts what the tasks of a node use, and remembers which of it the agent holds."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._held: set[str] = set()
        self._changed: set[str] = set()

    def add(self, names: Iterable[str]) -> None:
        for name in names:
            self._counts[name] += 1
            self._changed.add(name)

    def release(self, names: Iterable[str]) -> None:
        for name in names:
            self._counts[name] -= 1
            self._changed.add(name)

    def settle(self) -> tuple[list[str], list[str]]:
        """What the agent lacks and what it needs no more, since the last call."""
        lacking: list[str] = []
        unused: list[str] = []
        for name in sorted(self._changed):
            if self._counts[name] and name not in self._held:
                lacking.append(name)
            elif not self._counts[name]:
                del self._counts[name]
                if name in self._held:
                    unused.append(name)
        self._changed.clear()
        self._held.update(lacking)
        self._held.difference_update(unused)
        return lacking, unused


class NodeAssignments:
    """The assignments of one session with the agent of `node_id`."""

    def __init__(self, view: View, node_id: NodeId, open_blob: OpenBlob) -> None:
        self._view = view
        self._node_id = node_id
        self._open_blob = open_blob
        self._sequence = 0
        self._told: dict[TaskId, _Told] = {}
        self._specs = _Uses()
        self._files = _Uses()
        self._networks = _Uses()

    def knows(self, task_id: TaskId) -> bool:
        """Whether the agent was told of this task and not yet of its removal."""
        return task_id in self._told

    def complete(self) -> list[Assignments]:
        """The opening of a session: everything, the first message being the complete one."""
        return self._messages([task.id for task in self._view.tasks_of_node(self._node_id)], complete=True)

    def changes(self, touched: Iterable[TaskId]) -> list[Assignments]:
        """What the agent has to be told now that these tasks may have changed; often nothing."""
        return self._messages(touched, complete=False)

    def _messages(self, touched: Iterable[TaskId], *, complete: bool) -> list[Assignments]:
        tasks: list[Assignment] = []
        removed: list[TaskId] = []
        for task_id in sorted(touched):
            told, wanted = self._told.get(task_id), self._wanted(task_id)
            if told == wanted:
                continue
            self._turn(task_id, told, wanted)
            if wanted is None:
                removed.append(task_id)
            elif told is None or told.assignment != wanted.assignment:
                tasks.append(_with_status(wanted.assignment, self._view.status_of(task_id)))
        specs, unused_specs = self._specs.settle()
        files, unused_files = self._files.settle()
        networks, unused_networks = self._networks.settle()
        dropped = (*unused_specs, *unused_files)
        pieces = self._file_pieces(files)
        if not (complete or tasks or removed or specs or networks or dropped or unused_networks or any(pieces)):
            return []
        first = Assignments(
            sequence=self._next(),
            complete=complete,
            tasks=tuple(tasks),
            removed=tuple(removed),
            specs=tuple(_spec_content(row) for name in specs if (row := self._view.specs.get(name))),
            files=pieces[0],
            dropped=dropped,
            networks=tuple(known.spec for name in networks if (known := self._view.networks.get(name))),
            dropped_networks=tuple(unused_networks),
        )
        return [first, *(Assignments(sequence=self._next(), complete=False, files=piece) for piece in pieces[1:])]

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _turn(self, task_id: TaskId, told: _Told | None, wanted: _Told | None) -> None:
        """Book the change of one task."""
        if wanted is not None:
            self._told[task_id] = wanted
            self._specs.add((wanted.assignment.spec_digest,))
            self._files.add(wanted.files)
            self._networks.add(wanted.networks)
        if told is not None:
            self._specs.release((told.assignment.spec_digest,))
            self._files.release(told.files)
            self._networks.release(told.networks)
            if wanted is None:
                del self._told[task_id]

    def _wanted(self, task_id: TaskId) -> _Told | None:
        """How the agent should know a task; None if it isn't, or not yet, its business."""
        task = self._view.tasks.get(task_id)
        if task is None or task.node_id != self._node_id:
            return None
        status = self._view.status_of(task_id)
        row = self._view.specs.get(task.spec)
        if status.state < TaskState.ASSIGNED or row is None:
            return None
        if _is_over(task, status):
            return _Told(assignment=self._assignment(task), files=frozenset(), networks=frozenset())
        return _Told(assignment=self._assignment(task), files=_files(row), networks=_networks(row))

    def _assignment(self, task: Task) -> Assignment:
        service = self._view.services.get(task.service_id)
        return Assignment(
            id=task.id,
            service_id=task.service_id,
            stack=service.stack if service else "",
            service=service.name if service else "",
            slot=task.slot,
            node_id=task.node_id,
            spec_digest=task.spec,
            desired=task.desired,
            status=_UNKNOWN,
            revision=task.revision,
            service_labels=service.settings.labels if service else (),
            generic=task.generic,
        )

    def _file_pieces(self, names: Sequence[str]) -> list[tuple[FileContent, ...]]:
        """Contents in pieces that fit a message; at least one piece, which may be empty."""
        pieces: list[tuple[FileContent, ...]] = []
        piece: list[FileContent] = []
        size = 0
        for name in names:
            blob = self._view.blobs.get(name)
            data = None if blob is None else self._open(blob)
            if blob is None or data is None:
                continue  # the task waits for it, and its status says so
            if piece and size + len(data) > FILE_BYTES_PER_MESSAGE:
                pieces.append(tuple(piece))
                piece, size = [], 0
            piece.append(FileContent(digest=blob.digest, data=data, secret=blob.sealed))
            size += len(data)
        return [*pieces, tuple(piece)]

    def _open(self, blob: Blob) -> bytes | None:
        """A blob's content in the clear; one that can't be opened must not cost the node its session."""
        if not blob.sealed:
            return blob.data
        try:
            return self._open_blob(blob.data, blob.digest)
        except StackdError as error:
            log.error("secret not opened: digest=%s error=%s", blob.digest, error)
            return None


_UNKNOWN = TaskStatus(id=TaskId(""), state=TaskState.NEW, at=Instant(0))


def _with_status(assignment: Assignment, status: TaskStatus) -> Assignment:
    return msgspec.structs.replace(assignment, status=status)


def _spec_content(row: SpecRow) -> SpecContent:
    return SpecContent(digest=SpecDigest(row.digest), spec=row.spec)


def _is_over(task: Task, status: TaskStatus) -> bool:
    """Whether a task needs nothing any more to run: it is over, or is to be stopped."""
    return is_terminal(status.state) or task.desired > TaskState.COMPLETE


def _files(row: SpecRow) -> frozenset[BlobDigest]:
    """The contents a task needs on its node."""
    container = row.spec.container
    return frozenset(ref.digest for ref in (*container.configs, *container.secrets))


def _networks(row: SpecRow) -> frozenset[str]:
    """The networks a task needs on its node; the engine's own need no telling."""
    return frozenset(attachment.network for attachment in row.spec.networks) - PREDEFINED
