"""An in-memory disk that can fill up, fail and crash: the disk of tests and of the simulator.

It records every operation, and can show the disk as a crash after any of them would leave it: with all that was written
(a killed process), with nothing that wasn't synced (the least a power cut leaves), or with part of it (a torn write).
A file's content is durable after its own sync; a name is durable after the directory's.

There are two ways to crash. `after_crash` plays recorded operations again up to any of them, to try each place in turn.
`after_kill` and `after_power_cut` leave a running disk as it is and show what the next process finds; they cost no replay.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import assert_never


class Step(enum.Enum):
    """An operation on the disk that changes something."""

    CREATE = "create"
    WRITE = "write"
    SYNC = "sync"
    TRUNCATE = "truncate"
    RENAME = "rename"
    REMOVE = "remove"
    SYNC_NAMES = "sync_names"


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded operation. `inode` is a file's number whatever its name; `size` is that of a truncation, `offset` where
    a write begins."""

    step: Step
    inode: int = 0
    name: str = ""
    new_name: str = ""
    data: bytes = b""
    size: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Crash:
    """What a crash leaves of the unsynced part.

    `keep_unsynced=False` drops all of it: names, sizes and content go back to what was synced. `torn` keeps that many
    bytes of the last write only; `tail` is what the medium shows after them.
    """

    keep_unsynced: bool = True
    torn: int | None = None
    tail: bytes = b""


@dataclass(slots=True)
class _Inode:
    """A file. The medium holds the first `synced` bytes of `content`, and behind them `old`: what has been cut or overwritten
    since the last sync."""

    content: bytearray = field(default_factory=bytearray)
    synced: int = 0
    old: bytes = b""

    def sync(self) -> None:
        self.synced, self.old = len(self.content), b""

    def write(self, offset: int, data: bytes) -> None:
        self._leave(offset)
        self.content[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        self._leave(size)
        del self.content[size:]

    def durable(self) -> bytes:
        """The least that a power cut leaves."""
        return bytes(self.content[: self.synced]) + self.old

    def torn(self, random: Random) -> bytes:
        """What a power cut may leave: of what wasn't synced, nothing, all, a part, or all with a hole in it, since pages
        reach the medium in any order. Where the new is missing there is the old, or zeros where nothing was."""
        new, old = self.content[self.synced :], self.old
        outcome = random.randrange(4)
        if outcome == 0:
            new = bytearray(old)
        if outcome == 2:
            kept = random.randint(0, len(new))
            new[kept:] = old[kept:]
        if outcome == 3:
            start, end = sorted(random.randint(0, len(new)) for _ in range(2))
            new[start:end] = old[start:end].ljust(end - start, b"\0")
        return bytes(self.content[: self.synced] + new)

    def _leave(self, offset: int) -> None:
        """From `offset` on the content is not that of the medium any more."""
        if offset < self.synced:
            self.old = bytes(self.content[offset : self.synced]) + self.old
            self.synced = offset


_NAMING = (Step.CREATE, Step.RENAME, Step.REMOVE)


class MemoryDisk:
    """A directory in memory. `capacity_bytes` makes it full; `fail` is asked before each operation: it may raise OSError, or
    note that the operation takes its time."""

    def __init__(self) -> None:
        self.journal: list[Operation] = []
        self.capacity_bytes: int | None = None
        self.fail: Callable[[Operation], None] = lambda operation: None
        self._inodes: dict[int, _Inode] = {}
        self._names: dict[str, int] = {}
        self._synced_names: dict[str, int] = {}
        self._unsynced_namings: list[Operation] = []

    @classmethod
    def after_crash(cls, journal: list[Operation], crash: Crash) -> MemoryDisk:
        """The disk that a machine finds which crashed after the last operation of `journal`."""
        disk = cls()
        torn = crash.torn if journal and journal[-1].step is Step.WRITE else None
        for operation in journal[:-1] if torn is not None else journal:
            disk._do(operation)
        if torn is not None:
            last = journal[-1]
            disk._do(replace(last, data=last.data[:torn] + crash.tail))
        if not crash.keep_unsynced:
            return disk._found(dict(disk._synced_names), _Inode.durable)
        return disk.after_kill()

    def after_kill(self) -> MemoryDisk:
        """The disk that is found when the process died and the machine did not."""
        return self._found(dict(self._names), lambda inode: bytes(inode.content))

    def after_power_cut(self, random: Random) -> MemoryDisk:
        """A disk that may be found when the machine died: `random` chooses what of the unsynced part reached the medium.
        Names reach it in the order in which they were changed."""
        names = dict(self._synced_names)
        for operation in self._unsynced_namings[: random.randint(0, len(self._unsynced_namings))]:
            _change_name(names, operation)
        return self._found(names, lambda inode: inode.torn(random))

    def path_of(self, name: str) -> str:
        return f"memory/{name}"

    def names(self) -> list[str]:
        return sorted(self._names)

    def read(self, name: str) -> bytes:
        return bytes(self._inodes[self._named(name)].content)

    def read_part(self, name: str, offset: int, size: int) -> bytes:
        return bytes(self._inodes[self._named(name)].content[offset : offset + size])

    def create(self, name: str) -> MemoryFile:
        if name in self._names:
            raise FileExistsError(errno.EEXIST, "file exists", name)
        inode = 1 + max(self._inodes, default=0)
        self._record(Operation(Step.CREATE, inode=inode, name=name))
        return MemoryFile(self, inode)

    def extend(self, name: str) -> MemoryFile:
        return MemoryFile(self, self._named(name))

    def rename(self, old: str, new: str) -> None:
        self._named(old)
        self._record(Operation(Step.RENAME, name=old, new_name=new))

    def remove(self, name: str) -> None:
        self._named(name)
        self._record(Operation(Step.REMOVE, name=name))

    def sync_names(self) -> None:
        self._record(Operation(Step.SYNC_NAMES))

    def overwrite(self, name: str, content: bytes) -> None:
        """Change a file behind everyone's back, as a failing medium or a careless person does."""
        inode = self._inodes[self._named(name)]
        inode.content = bytearray(content)
        inode.sync()

    def used_bytes(self) -> int:
        """What `capacity_bytes` is compared with."""
        return sum(len(self._inodes[number].content) for number in set(self._names.values()))

    def size(self, inode: int) -> int:
        return len(self._inodes[inode].content)

    def write(self, inode: int, offset: int, data: bytes) -> int:
        """Write as much as there is room for: what takes the place of something needs none."""
        if self.capacity_bytes is not None:
            data = data[: max(0, self.size(inode) - offset + self.capacity_bytes - self.used_bytes())]
            if not data:
                raise OSError(errno.ENOSPC, "no space left on device")
        self._record(Operation(Step.WRITE, inode=inode, data=data, offset=offset))
        return len(data)

    def sync_file(self, inode: int) -> None:
        self._record(Operation(Step.SYNC, inode=inode))

    def cut(self, inode: int, size: int) -> None:
        self._record(Operation(Step.TRUNCATE, inode=inode, size=size))

    def _named(self, name: str) -> int:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self._names[name]

    def _record(self, operation: Operation) -> None:
        self.fail(operation)
        self.journal.append(operation)
        self._do(operation)

    def _do(self, operation: Operation) -> None:
        if operation.step in _NAMING:
            _change_name(self._names, operation)
            self._unsynced_namings.append(operation)
        match operation.step:
            case Step.CREATE:
                self._inodes[operation.inode] = _Inode()
            case Step.WRITE:
                self._inodes[operation.inode].write(operation.offset, operation.data)
            case Step.SYNC:
                self._inodes[operation.inode].sync()
            case Step.TRUNCATE:
                self._inodes[operation.inode].truncate(operation.size)
            case Step.SYNC_NAMES:
                self._synced_names = dict(self._names)
                self._unsynced_namings.clear()
            case Step.RENAME | Step.REMOVE:
                pass  # only names change
            case _:
                assert_never(operation.step)

    def _found(self, names: dict[str, int], content: Callable[[_Inode], bytes]) -> MemoryDisk:
        """A disk with `names`. What is there is there: the rest of the machine's memory is gone."""
        found = MemoryDisk()
        found._names, found._synced_names = names, dict(names)
        for inode in names.values():
            found._inodes[inode] = _Inode(bytearray(content(self._inodes[inode])))
            found._inodes[inode].sync()
        return found


def _change_name(names: dict[str, int], operation: Operation) -> None:
    if operation.step is Step.CREATE:
        names[operation.name] = operation.inode
    elif operation.step is Step.RENAME:
        names[operation.new_name] = names.pop(operation.name)
    else:
        del names[operation.name]


class MemoryFile:
    """An open file of a MemoryDisk."""

    def __init__(self, disk: MemoryDisk, inode: int) -> None:
        self._disk = disk
        self._inode = inode
        self._end = disk.size(inode)

    def write(self, data: bytes | memoryview) -> int:
        written = self._disk.write(self._inode, self._end, bytes(data))
        self._end += written
        return written

    def reserve(self, size: int) -> None:
        self._disk.write(self._inode, self._end, bytes(size))

    def sync(self) -> None:
        self._disk.sync_file(self._inode)

    def truncate(self, size: int) -> None:
        self._disk.cut(self._inode, size)
        self._end = size

    def close(self) -> None:
        pass
