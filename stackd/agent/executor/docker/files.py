"""Contents of configs and secrets as files of the host, to be mounted read-only into containers.

Copying them into a created container would leave secrets on the engine's disk in the clear. So each task has a directory
of its own, secrets only ever on a tmpfs, and only this user may enter it. A reboot loses the secrets together with the
containers that ran; they are written again before the next start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.docker.body import FileMount
from stackd.agent.expand import content_of
from stackd.base.errors import Retry, TaskFault
from stackd.base.ids import TaskId
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import FileRef


class TaskFiles:
    """The files of all tasks of one data directory. Secrets lie under `memory`; None if this host has no tmpfs."""

    def __init__(self, configs: Path, memory: Path | None) -> None:
        self._configs = configs
        self._secrets = memory

    def lay_out(self, context: TaskContext, node: NodeDescription) -> tuple[FileMount, ...]:
        """Write what the (expanded) task needs, unless it is there. Raises TaskFault; with Retry.LATER if a content has yet
        to come."""
        container = context.spec.container
        configs = [(ref, f"config-{number}", "/") for number, ref in enumerate(container.configs)]
        secrets = [(ref, f"secret-{number}", "/run/secrets/") for number, ref in enumerate(container.secrets)]
        # A relative target is taken from the kind's own directory, as Docker does.
        return tuple(
            FileMount(str(self._laid_out(context, ref, name, node)), os.path.join(base, ref.target))
            for ref, name, base in (*configs, *secrets)
        )

    def remove(self, task_id: TaskId) -> None:
        """Remove a task's files, and with the last ones the place for them; without any that is fine."""
        for root in self._roots():
            shutil.rmtree(root / task_id, ignore_errors=True)
            with contextlib.suppress(OSError):
                root.rmdir()
                root.parent.rmdir()

    def tasks(self) -> frozenset[TaskId]:
        """The tasks that have files here."""
        return frozenset(TaskId(entry.name) for root in self._roots() if root.is_dir() for entry in root.iterdir())

    def _roots(self) -> Iterator[Path]:
        yield self._configs
        if self._secrets is not None:
            yield self._secrets

    def _laid_out(self, context: TaskContext, ref: FileRef, name: str, node: NodeDescription) -> Path:
        """The file behind one config or secret, written if its content is here."""
        content = content_of(context, ref, node)
        if content is None:
            places = (root / context.id / name for root in self._roots())
            known = next((path for path in places if path.exists()), None)
            if known is None:
                text = f"the content of {ref.source} has not arrived"
                raise TaskFault("agent.docker.content_missing", text, retry=Retry.LATER)
            return known
        path = (self._memory() if content.secret else self._configs) / context.id / name
        _write_once(path, content.data, ref)
        return path

    def _memory(self) -> Path:
        if self._secrets is None:
            raise TaskFault(
                "agent.docker.no_tmpfs",
                "secrets are kept in memory only, and neither /run nor /dev/shm is a tmpfs this user may write to",
            )
        return self._secrets


def _write_once(path: Path, data: bytes, ref: FileRef) -> None:
    """Leave a file that is right as it is: a container may have it mounted, and a new one would not be seen there."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (path.exists() and path.read_bytes() == data):
            draft = path.with_suffix(".draft")
            draft.write_bytes(data)
            draft.replace(path)
        _own(path, ref)
        path.chmod(ref.mode)
    except OSError as error:
        raise TaskFault(
            "agent.docker.file", f"can't write the file for {ref.source}: {error.strerror}", retry=Retry.LATER
        ) from error


def _own(path: Path, ref: FileRef) -> None:
    """Only root may give files away; another user can serve those that are readable for all."""
    if not (ref.uid.isdigit() and ref.gid.isdigit()):
        raise TaskFault("agent.docker.file_owner", f"{ref.source}: the owner has to be given by numbers, as uid and gid")
    owner = int(ref.uid), int(ref.gid)
    if os.geteuid() == 0:
        os.chown(path, *owner)
    elif owner != (os.geteuid(), os.getegid()) and not ref.mode & 0o004:
        raise TaskFault(
            "agent.docker.file_owner",
            f"{ref.source} is to belong to {ref.uid}:{ref.gid} with mode {ref.mode:04o}, which only root can set up",
            hint="run the daemon as root, or let all users read the file (mode: 0444)",
        )


def memory_directory(name: str) -> Path | None:
    """A private place on a tmpfs for `name`: below /run for root, else the user's runtime directory or /dev/shm."""
    user = os.geteuid()
    own = "/run" if user == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
    for candidate in map(Path, filter(None, (own, "/dev/shm"))):
        if _is_tmpfs(candidate) and os.access(candidate, os.W_OK):
            return candidate / f"stackd-{user}" / name
    return None


def _is_tmpfs(path: Path) -> bool:
    """Whether the innermost mount that holds `path` is a tmpfs, by /proc/self/mountinfo (proc(5))."""
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind == "tmpfs"
