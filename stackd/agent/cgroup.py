"""Control groups behind one small port: limits on memory, CPU and processes, and the count of out-of-memory kills.

Two forms, chosen by what the kernel shows under /sys/fs/cgroup: v1 (a tree per controller) and v2 (one tree). All groups
of one data directory lie under one parent group, so that leftovers can be told apart from everybody else's. What can't
be enforced is never silently dropped: `lacking` names it and the caller refuses the task.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stackd.spec.stack import Resources

CGROUP_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
_SMALLEST_QUOTA_US = 1_000
"""The kernel's lower bound for a CPU quota."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group made for one task: files that take a process id to join it, and the file that counts `oom_kill`."""

    join_files: tuple[str, ...]
    oom_counter: str = ""


class Groups(Protocol):
    """The groups of one data directory. All operations may be repeated."""

    def lacking(self, limits: Resources) -> str:
        """Which of `limits` this host can't enforce, in words; "" if it can all."""
        ...

    def create(self, name: str, limits: Resources) -> Group:
        """Make the group and set its limits; raises OSError."""
        ...

    def names(self) -> tuple[str, ...]:
        """Every group there is."""
        ...

    def kill(self, name: str) -> None:
        """SIGKILL to every process in it."""
        ...

    def remove(self, name: str) -> bool:
        """Remove it, and the parent with the last one; False while processes are still ending in it."""
        ...


def detect(parent: str, root: Path = CGROUP_ROOT) -> Groups | None:
    """The form of this host; None if it has no groups that we may write."""
    if (root / "cgroup.controllers").is_file():
        return GroupsV2(parent, root) if os.access(root / "cgroup.subtree_control", os.W_OK) else None
    found = [name for name in ("memory", "cpu", "pids") if os.access(root / name / "cgroup.procs", os.W_OK)]
    return GroupsV1(parent, root, frozenset(found)) if found else None


def _asked(limits: Resources) -> dict[str, str]:
    """Controllers that `limits` needs, with the word people know the limit by."""
    wanted = {"memory": ("memory", limits.memory_bytes), "cpu": ("cpus", limits.nano_cpus), "pids": ("pids", limits.pids)}
    return {controller: word for controller, (word, value) in wanted.items() if value}


def _quota_us(nano_cpus: int) -> int:
    return max(_SMALLEST_QUOTA_US, nano_cpus * _PERIOD_US // 1_000_000_000)


class GroupsV1:
    """cgroup v1: the same group is made in the tree of each controller it needs."""

    def __init__(self, parent: str, root: Path, controllers: frozenset[str]) -> None:
        self._parent = parent
        self._root = root
        self._controllers = controllers

    def lacking(self, limits: Resources) -> str:
        return ", ".join(word for controller, word in _asked(limits).items() if controller not in self._controllers)

    def create(self, name: str, limits: Resources) -> Group:
        joins = []
        for controller in _asked(limits):
            group = self._root / controller / self._parent / name
            group.mkdir(parents=True, exist_ok=True)
            joins.append(str(group / "cgroup.procs"))
            match controller:
                case "memory":
                    _limit_memory_v1(group, limits.memory_bytes)
                case "cpu":
                    _write(group / "cpu.cfs_period_us", _PERIOD_US)
                    _write(group / "cpu.cfs_quota_us", _quota_us(limits.nano_cpus))
                case _:
                    _write(group / "pids.max", limits.pids)
        counter = self._root / "memory" / self._parent / name / "memory.oom_control"
        return Group(tuple(joins), str(counter) if limits.memory_bytes else "")

    def names(self) -> tuple[str, ...]:
        homes = [self._root / controller / self._parent for controller in self._controllers]
        return tuple(sorted({name for home in homes for name in _children(home)}))

    def kill(self, name: str) -> None:
        for controller in self._controllers:
            _kill_each(self._root / controller / self._parent / name / "cgroup.procs")

    def remove(self, name: str) -> bool:
        gone = [_remove(self._root / controller / self._parent, name) for controller in self._controllers]
        return all(gone)


def _limit_memory_v1(group: Path, limit: int) -> None:
    """Memory, and as much swap again, as Docker allows where swap is counted."""
    swap = group / "memory.memsw.limit_in_bytes"
    if swap.exists():
        _write(swap, -1)  # first out of the way: it may never be below the other
    _write(group / "memory.limit_in_bytes", limit)
    if swap.exists():
        _write(swap, 2 * limit)


class GroupsV2:
    """cgroup v2: one tree, in which a parent hands controllers down to its children."""

    def __init__(self, parent: str, root: Path) -> None:
        self._root = root
        self._home = root / parent

    def lacking(self, limits: Resources) -> str:
        present = (self._root / "cgroup.controllers").read_text().split()
        return ", ".join(word for controller, word in _asked(limits).items() if controller not in present)

    def create(self, name: str, limits: Resources) -> Group:
        group = self._home / name
        group.mkdir(parents=True, exist_ok=True)
        handed = " ".join(f"+{controller}" for controller in _asked(limits))
        for above in (self._root, self._home):
            _write(above / "cgroup.subtree_control", handed)
        if limits.memory_bytes:
            _write(group / "memory.max", limits.memory_bytes)
            if (group / "memory.swap.max").exists():
                _write(group / "memory.swap.max", limits.memory_bytes)
        if limits.nano_cpus:
            _write(group / "cpu.max", f"{_quota_us(limits.nano_cpus)} {_PERIOD_US}")
        if limits.pids:
            _write(group / "pids.max", limits.pids)
        return Group((str(group / "cgroup.procs"),), str(group / "memory.events") if limits.memory_bytes else "")

    def names(self) -> tuple[str, ...]:
        return _children(self._home)

    def kill(self, name: str) -> None:
        try:
            _write(self._home / name / "cgroup.kill", 1)
        except OSError:  # before Linux 5.14, or no such group
            _kill_each(self._home / name / "cgroup.procs")

    def remove(self, name: str) -> bool:
        return _remove(self._home, name)


def _write(path: Path, value: object) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def _children(parent: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in os.scandir(parent) if entry.is_dir()))
    except FileNotFoundError:
        return ()


def _kill_each(procs: Path) -> None:
    try:
        pids = procs.read_text().split()
    except FileNotFoundError:
        return
    for pid in pids:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass  # ended meanwhile


def _remove(parent: Path, name: str) -> bool:
    try:
        os.rmdir(parent / name)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    try:
        os.rmdir(parent)
    except OSError:
        pass  # has other groups, or is gone already
    return True
