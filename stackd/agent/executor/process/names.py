"""How process tasks find each other by name: a hosts file each, which is kept up to date while they run.

Every task has a hosts file in its directory on the host, mounted at its /etc/hosts, with the addresses of the tasks of this
node it shares a network with. A task is in the others' files from the moment it runs (and is healthy) until it ends.
Tasks of other nodes are in no file.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stackd.agent.executor.monitor.room import is_full
from stackd.base.ids import TaskId

_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

_SYSTEMD_RESOLV = Path("/run/systemd/resolve/resolv.conf")

MANY_LINES = 1000
"""The most addresses in one hosts file: a resolver reads all of it for each question."""


def own_hosts(hostname: str, address: str, further: Iterable[str]) -> str:
    """The part of a hosts file that stays: the task itself, and the lines its spec names."""
    own = f"{address}\t{hostname}\n" if address else ""
    return _LOOPBACK + own + "".join(f"{line.replace(' ', chr(9), 1)}\n" for line in further)


def resolver(servers: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...], host: str) -> str:
    """A resolv.conf: the host's lines, but for those kinds of which the spec names its own."""
    given = {"nameserver": servers, "search": search, "options": options}
    kept = [line for line in host.splitlines() if not given.get(_kind(line))]
    own = [f"nameserver {server}" for server in servers]
    own += [f"{kind} {' '.join(words)}" for kind, words in (("search", search), ("options", options)) if words]
    return "\n".join([*own, *kept]) + "\n"


def _kind(line: str) -> str:
    word = line.split()[0] if line.split() else ""
    return "search" if word == "domain" else word


def host_resolver(*, reachable: bool, path: Path = Path("/etc/resolv.conf"), behind: Path = _SYSTEMD_RESOLV) -> str:
    """The host's resolv.conf. Unless the host's loopback is `reachable`, a resolver there is of no use, but the ones behind
    it are."""
    text = path.read_text() if path.exists() else ""
    lines = text.splitlines()
    if not reachable and any(_is_loopback(line) for line in lines):
        lines = behind.read_text().splitlines() if behind.exists() else [line for line in lines if not _is_loopback(line)]
    return "\n".join(lines) + "\n"


def _is_loopback(line: str) -> bool:
    words = line.split()
    return len(words) >= 2 and words[0] == "nameserver" and (words[1].startswith("127.") or words[1] == "::1")


@dataclass(slots=True)
class Member:
    """A task among its neighbours: its names on each network, and its hosts file with the part that stays."""

    address: str
    names: Mapping[str, tuple[str, ...]]
    file: Path
    own: str
    present: bool = False
    stale: bool = False
    """Its file is to be written (and couldn't be, so far)."""


class Neighbours:
    """The tasks of one node that have an address. Safe to call from any thread. Each change may be repeated, and is to be if it
    raised OSError because there was no room: then some files are behind."""

    def __init__(self) -> None:
        self._members: dict[TaskId, Member] = {}
        self._lock = threading.Lock()

    def enter(self, task_id: TaskId, member: Member) -> None:
        """A task is being prepared (or was found): write its file and keep it up to date."""
        with self._lock:
            self._members[task_id] = member
            self._write(member)

    def announce(self, task_id: TaskId) -> None:
        """The task runs: let the others find it."""
        self._show(task_id, present=True)

    def withdraw(self, task_id: TaskId) -> None:
        """The task ends: let nobody find it any more."""
        self._show(task_id, present=False)

    def leave(self, task_id: TaskId) -> None:
        """The task is gone."""
        self.withdraw(task_id)
        with self._lock:
            self._members.pop(task_id, None)

    def _show(self, task_id: TaskId, *, present: bool) -> None:
        with self._lock:
            member = self._members.get(task_id)
            if member is None:
                return
            if member.present != present:
                member.present = present
                for other in self._members.values():
                    other.stale = other.stale or bool(other.names.keys() & member.names.keys())
            for other in self._members.values():
                if other.stale:
                    self._write(other)

    def _write(self, member: Member) -> None:
        """In place, since the file is mounted; one write, so that no reader sees half a line for long."""
        lines = [line for other in self._members.values() if other.present for line in _lines(other, member)]
        data = (member.own + "".join(lines[:MANY_LINES])).encode()
        try:
            descriptor = os.open(member.file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            if is_full(error):
                raise
            member.stale = False  # the task's directory is just being removed
            return
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(member.file))
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)
        member.stale = False


def _lines(other: Member, member: Member) -> list[str]:
    shared = [network for network in other.names if network in member.names]
    names = dict.fromkeys(name for network in shared for name in other.names[network])
    return [f"{other.address}\t{' '.join(names)}\n"] if names else []
