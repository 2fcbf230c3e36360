"""A task's directory: what a daemon, also a later one, finds of the task on disk. The monitor writes most of it.

record     what the daemon laid on the host for the task; written last in `prepare`, so it says: completely prepared
hosts      its hosts file, kept up to date while it runs (see names.py)
monitor, started, exit, log*, control    see stackd.agent.executor.monitor.supervisor
upper, work, root, stage, tmp, home      the task's file tree
faults     what the monitor itself complained of (empty unless something is wrong with it)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from stackd.agent.executor.base import Exit
from stackd.agent.executor.monitor.identity import identity
from stackd.base.records import Pairs, Record, decoder, encode
from stackd.base.time import Instant

KILLED_CODE = 137
"""128 + SIGKILL."""


class PortRecord(Record):
    """One published port of a task in its own network namespace."""

    published: int
    target: int
    protocol: str
    host_ip: str = ""


class NetworkRecord(Record):
    """A network of a task, and under which names it is found there."""

    network: str
    names: tuple[str, ...]


class TaskRecord(Record):
    """What belongs to a prepared task. `address` is "" where it has no network of its own; `hosts` is the part of its hosts
    file that stays."""

    name: str
    stack: str
    service: str
    revision: str = ""
    labels: Pairs = ()
    address: str = ""
    ports: tuple[PortRecord, ...] = ()
    networks: tuple[NetworkRecord, ...] = ()
    hosts: str = ""


_decode_record = decoder(TaskRecord).decode


class TaskDirectory:
    """The directory of one task; it need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        return self.path.is_dir()

    def make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True)

    def record(self) -> TaskRecord | None:
        """None if the task was never completely prepared."""
        try:
            record: TaskRecord = _decode_record((self.path / "record").read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return record

    def write_record(self, record: TaskRecord) -> None:
        _write_whole(self.path / "record", encode(record))

    def monitor_pid(self) -> int:
        """The process that holds the task; 0 if it has ended. A recycled process id doesn't fool this."""
        try:
            known = (self.path / "monitor").read_text()
            pid = int(known.split()[0])
            return pid if identity(pid) == known else 0
        except (OSError, ValueError, IndexError):
            return 0

    def started(self) -> bool:
        """Whether the gate was ever opened."""
        return (self.path / "started").exists()

    def exit(self) -> Exit | None:
        """How the task ended; None if it hasn't, or never ran."""
        try:
            text = (self.path / "exit").read_text()
        except OSError:
            return None
        fields = dict(line.partition("=")[::2] for line in text.splitlines())
        try:
            return exit_of(
                int(fields["code"]), at=Instant(int(fields["at"])), oom=fields["oom"] == "1", cause=fields.get("error", "")
            )
        except (KeyError, ValueError):
            return exit_of(KILLED_CODE, at=Instant(0), cause="its exit record is damaged")

    def write_lost(self, at: Instant) -> Exit:
        """Record the end of a task whose monitor is gone without a word."""
        cause = "its monitor was killed or the host went down"
        _write_whole(self.path / "exit", f"code={KILLED_CODE}\noom=0\nat={at}\nerror={cause}\n".encode())
        return exit_of(KILLED_CODE, at=at, cause=cause)

    def complaint(self) -> str:
        """The last line the monitor wrote about itself; "" if none."""
        try:
            lines = (self.path / "faults").read_text(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def remove(self) -> None:
        _remove_tree(self.path)


def exit_of(code: int, *, at: Instant, oom: bool = False, cause: str = "") -> Exit:
    """An exit with its sentence, in Swarm's words; `cause` is what else is known."""
    if oom:
        cause = "killed by the kernel: out of memory"
    if code == 0 and not cause:
        return Exit(code=0, at=at)
    sentence = f"task: non-zero exit ({code})" if code else ""
    return Exit(code=code, error=": ".join(filter(None, (sentence, cause))), oom=oom, at=at)


def _write_whole(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    os.replace(fresh, path)


def _remove_tree(path: Path) -> None:
    """Remove `path` also where a task without root left directories that nobody may write to."""

    def insist(function: Callable[[str], object], name: str, _: object) -> None:
        if not os.path.lexists(name):
            return
        os.chmod(os.path.dirname(name), 0o700)
        if function is not os.unlink and os.path.isdir(name):
            os.chmod(name, 0o700)
            shutil.rmtree(name, ignore_errors=True)
        else:
            function(name)

    if path.exists():
        shutil.rmtree(path, onerror=insist)
