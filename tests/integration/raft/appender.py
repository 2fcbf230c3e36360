"""A process that proposes numbers until it is killed, and prints each one that was acknowledged: `appender.py DATA_DIR`.

At its start it prints everything that it found, on one line; a snapshot is taken every 200 numbers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from stackd.raft.consensus import SnapshotView
from stackd.raft.directory import DirectoryLock, open_directory
from stackd.raft.frame import Identity
from stackd.raft.member import ClusterMember
from stackd.security.keys import Purpose, RootKey

CONCURRENT = 4


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Appender:
    def __init__(self, member: ClusterMember, term: int, numbers: list[int]) -> None:
        self._member = member
        self._term = term
        self._numbers = numbers
        self._next = max(numbers, default=0) + 1

    async def propose_forever(self) -> None:
        while True:
            number, self._next = self._next, self._next + 1
            await self._member.propose(b"%d" % number, self._term)
            say(str(number))

    async def apply(self) -> None:
        async for entry in self._member.committed():
            if entry.data:
                self._numbers.append(int(entry.data))
            if entry.index % 200 == 0:
                content = ",".join(map(str, self._numbers)).encode()
                await self._member.take_snapshot(SnapshotView(entry.index, lambda content=content: iter([content])))


async def main(data_dir: Path) -> None:
    DirectoryLock.acquire(data_dir)
    sealer = RootKey(b"k" * 32).sealer(Purpose.LOG)
    directory = open_directory(data_dir / "raft", sealer, Identity("cluster1", "member1"))
    member = ClusterMember(directory.disk, sealer, directory.identity)
    snapshot = await member.start()
    numbers = [int(number) for number in (snapshot or b"").split(b",") if number]
    last = await member.read_barrier()
    async for entry in member.committed():
        if entry.data:
            numbers.append(int(entry.data))
        if entry.index == last:
            break
    say(" ".join(["found", *map(str, numbers)]))
    appender = Appender(member, (await anext(member.leadership())).term, numbers)
    async with asyncio.TaskGroup() as group:
        group.create_task(appender.apply())
        for _ in range(CONCURRENT):
            group.create_task(appender.propose_forever())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
