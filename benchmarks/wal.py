"""How long a durable entry takes, and how long a restart: `python -m benchmarks.wal [DIRECTORY]`.

Prints one JSON object per figure. The directory should be on the disk whose figures are wanted; it is left empty.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stackd.raft.directory import open_directory
from stackd.raft.disk import SystemDisk
from stackd.raft.frame import Identity, Kind, Record
from stackd.raft.member import ClusterMember
from stackd.raft.recovery import read_log
from stackd.raft.wal import Log
from stackd.security.keys import Purpose, RootKey

SEALER = RootKey(bytes(32)).sealer(Purpose.LOG)
IDENTITY = Identity("benchmark", "member")
ENTRY = bytes(300)
APPENDS = 1000
REPLAYED = 100_000
BATCH = 200


def report(figure: str, value: float, unit: str) -> None:
    print(json.dumps({"figure": figure, "value": round(value, 3), "unit": unit}), flush=True)


def an_open_log(path: Path) -> Log:
    disk = open_directory(path, SEALER, IDENTITY).disk
    return Log.resume(disk, SEALER, IDENTITY, read_log(disk, SEALER, IDENTITY))


def entries(first: int, count: int) -> list[Record]:
    return [Record(Kind.ENTRY, index, 1, ENTRY) for index in range(first, first + count)]


def append_one_by_one(path: Path) -> None:
    log = an_open_log(path)
    seconds = []
    for index in range(1, APPENDS + 1):
        start = time.perf_counter()
        log.append(entries(index, 1))
        seconds.append(time.perf_counter() - start)
    log.close()
    report("append_300b_p50_ms", statistics.median(seconds) * 1000, "ms")
    report("append_300b_p99_ms", statistics.quantiles(seconds, n=100)[98] * 1000, "ms")


def sync_alone(path: Path) -> None:
    """What the disk takes for the same without us: the floor of the figures above."""
    path.mkdir()
    file = SystemDisk(path).create("floor")
    seconds = []
    for _ in range(APPENDS):
        start = time.perf_counter()
        file.write(ENTRY)
        file.sync()
        seconds.append(time.perf_counter() - start)
    file.close()
    report("write_and_sync_300b_p50_ms", statistics.median(seconds) * 1000, "ms")


def replay(path: Path) -> None:
    log = an_open_log(path)
    for first in range(1, REPLAYED + 1, BATCH):
        log.append(entries(first, BATCH))
    log.close()
    start = time.perf_counter()
    found = read_log(SystemDisk(path), SEALER, IDENTITY)
    report("replay_100k_s", time.perf_counter() - start, "s")
    if len(found.entries) != REPLAYED:
        raise SystemExit("the log lost entries")


async def propose(path: Path) -> None:
    directory = open_directory(path, SEALER, IDENTITY)
    member = ClusterMember(directory.disk, SEALER, directory.identity)
    await member.start()
    seconds = []
    for _ in range(APPENDS):
        start = time.perf_counter()
        await member.propose(ENTRY, 1)
        seconds.append(time.perf_counter() - start)
    report("propose_300b_p50_ms", statistics.median(seconds) * 1000, "ms")
    start = time.perf_counter()
    for _ in range(20):
        await asyncio.gather(*(member.propose(ENTRY, 1) for _ in range(1000)))
    report("propose_300b_concurrent_per_s", 20_000 / (time.perf_counter() - start), "1/s")
    await member.close()


def main(arguments: Sequence[str] = ()) -> int:
    """Measure in a temporary directory, below the one that is given if one is."""
    with tempfile.TemporaryDirectory(dir=arguments[0] if arguments else None) as directory:
        path = Path(directory)
        sync_alone(path / "floor")
        append_one_by_one(path / "append")
        replay(path / "replay")
        asyncio.run(propose(path / "propose"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
