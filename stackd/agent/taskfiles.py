"""What an agent remembers across its own death: one small file per task, and one for its lease.

Not a database: nobody queries it. The invariant is that a status is on file before anyone is told of it, so a restarted
agent never says less than it said before and never starts a task twice. Secrets are not in here; a spec only names them.

A file is replaced by an atomic rename and not synced: it has to outlive the agent, not the host. When the host goes down
its tasks go down with it, and whatever is found afterwards is reported by `Controller.adopt`. The lease's file is written over
in place: that is done every few seconds where tasks are to be fenced, and takes no room on a disk that is full.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Protocol

import msgspec

from stackd.agent.lease import LeaseNote
from stackd.api.dispatch import Assignment
from stackd.base.ids import TaskId
from stackd.base.records import Record, decoder, encode
from stackd.base.time import Duration
from stackd.engine.status import TaskStatus
from stackd.spec.stack import TaskSpec

log = logging.getLogger(__name__)

_SUFFIX = ".task"
_DAMAGED = ".damaged"
_LEASE = "lease"


class StoredTask(Record):
    """A task as its agent knows it. `status` is the agent's own word; the one inside `assignment` is the manager's."""

    assignment: Assignment
    spec: TaskSpec
    status: TaskStatus


class TaskStateStore(Protocol):
    """Where an agent keeps its tasks, and what they depend on."""

    def load(self) -> tuple[StoredTask, ...]:
        """Everything that was saved and not deleted."""
        ...

    def save(self, task: StoredTask) -> None:
        """Replace what is kept of one task; raises OSError when it can't be written."""
        ...

    def delete(self, task_id: TaskId) -> None:
        """Forget a task; unknown ones are no error."""
        ...

    def load_lease(self) -> LeaseNote | None:
        """What was noted last; None if there is nothing, or it can't be read."""
        ...

    def save_lease(self, note: LeaseNote) -> None:
        """Replace what is noted; raises OSError when it can't be written."""
        ...


class TaskFiles:
    """The form on disk. One agent owns `directory`; the daemon's lock on its data directory sees to that."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._decode = decoder(StoredTask).decode
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> tuple[StoredTask, ...]:
        """Everything on file. A file that can't be read is set aside: its task comes back with the next assignments,
        with the manager's status, and is adopted from there."""
        tasks: list[StoredTask] = []
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                tasks.append(self._decode(path.read_bytes()))
            except (OSError, msgspec.DecodeError) as exc:
                log.warning("task file set aside: path=%s error=%s", path, exc)
                path.replace(path.with_suffix(_DAMAGED))
        return tuple(tasks)

    def save(self, task: StoredTask) -> None:
        path = self._path(task.assignment.id)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(encode(task))
        os.replace(fresh, path)

    def delete(self, task_id: TaskId) -> None:
        self._path(task_id).unlink(missing_ok=True)

    def load_lease(self) -> LeaseNote | None:
        try:
            boot, since, lasts = (self._directory / _LEASE).read_text("ascii").split()
            return LeaseNote(boot, Duration(int(since)), Duration(int(lasts)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            log.warning("the lease's file is not readable: error=%s", exc)
            return None

    def save_lease(self, note: LeaseNote) -> None:
        line = f"{note.boot} {note.since:020d} {note.lasts:020d}\n"  # always as long, so that one takes the place of another
        file = os.open(self._directory / _LEASE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, line.encode("ascii"), 0)
        finally:
            os.close(file)

    def _path(self, task_id: TaskId) -> Path:
        return self._directory / f"{task_id}{_SUFFIX}"
