"""An in-memory disk that can fill up, fail and crash: the disk of tests and of the simulator.

It records every operation, and can show the disk as a crash after any of them would leave it: with all that was written
(a killed process), with nothing that wasn't synced (the least a power cut leaves), or with part of it (a torn write).
A file's content is durable after its own sync; a name is durable after the directory's.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace


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
    """One recorded operation. `inode` is a file's number whatever its name; `size` is that of a truncation."""

    step: Step
    inode: int = 0
    name: str = ""
    new_name: str = ""
    data: bytes = b""
    size: int = 0


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
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


class MemoryDisk:
    """A directory in memory. `capacity_bytes` makes it full; `fail` is asked before each operation and may raise OSError."""

    def __init__(self) -> None:
        self.journal: list[Operation] = []
        self.capacity_bytes: int | None = None
        self.fail: Callable[[Operation], None] = lambda operation: None
        self._inodes: dict[int, _Inode] = {}
        self._names: dict[str, int] = {}
        self._synced_names: dict[str, int] = {}

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
        disk._settle(crash)
        return disk

    def path_of(self, name: str) -> str:
        return f"memory/{name}"

    def names(self) -> list[str]:
        return sorted(self._names)

    def read(self, name: str) -> bytes:
        return bytes(self._inodes[self._named(name)].content)

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
        inode.content, inode.synced = bytearray(content), content

    def append(self, inode: int, data: bytes) -> int:
        """Write as much as fits."""
        if self.capacity_bytes is not None:
            used = sum(len(self._inodes[number].content) for number in set(self._names.values()))
            data = data[: max(0, self.capacity_bytes - used)]
            if not data:
                raise OSError(errno.ENOSPC, "no space left on device")
        self._record(Operation(Step.WRITE, inode=inode, data=data))
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
        match operation.step:
            case Step.CREATE:
                self._inodes[operation.inode] = _Inode()
                self._names[operation.name] = operation.inode
            case Step.WRITE:
                self._inodes[operation.inode].content += operation.data
            case Step.SYNC:
                inode = self._inodes[operation.inode]
                inode.synced = bytes(inode.content)
            case Step.TRUNCATE:
                del self._inodes[operation.inode].content[operation.size :]
            case Step.RENAME:
                self._names[operation.new_name] = self._names.pop(operation.name)
            case Step.REMOVE:
                del self._names[operation.name]
            case Step.SYNC_NAMES:
                self._synced_names = dict(self._names)

    def _settle(self, crash: Crash) -> None:
        """After the crash, what is there is there: the rest of the machine's memory is gone."""
        if not crash.keep_unsynced:
            self._names = dict(self._synced_names)
            for inode in self._inodes.values():
                inode.content = bytearray(inode.synced)
        self._synced_names = dict(self._names)
        for inode in self._inodes.values():
            inode.synced = bytes(inode.content)


class MemoryFile:
    """An open file of a MemoryDisk."""

    def __init__(self, disk: MemoryDisk, inode: int) -> None:
        self._disk = disk
        self._inode = inode

    def write(self, data: bytes | memoryview) -> int:
        return self._disk.append(self._inode, bytes(data))

    def sync(self) -> None:
        self._disk.sync_file(self._inode)

    def truncate(self, size: int) -> None:
        self._disk.cut(self._inode, size)

    def close(self) -> None:
        pass
