"""Our consensus beside etcd's: `make bench NAME=consensus` (ARGS=--ours-only without etcd, ARGS=--only=failover for one part).

Three members each, as processes on this machine, every write synced by a majority, mutual TLS between members and towards
the client. One client, outside of both, calls them over gRPC in the same way; what it costs is in both figures. Rounds of the
two alternate, so that a busy moment of the machine hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from stackd.raft.directory import open_directory
from stackd.raft.frame import Identity, Kind, Record
from stackd.raft.recovery import read_log
from stackd.raft.wal import Log
from stackd.security.keyring import NodeKeys
from tests.certificates import Authority

from benchmarks.figures import figure, ratio
from benchmarks.peer_etcd import etcd_cluster, etcd_leader, find_etcd, version
from benchmarks.raft_member import CLUSTER, Order, Settings
from benchmarks.raft_processes import Cluster, Lost, MemberProcess, status_of, until

Change = tuple[str, bytes]
Put = Callable[[Sequence[Change]], Awaitable[object]]

NAMES = "abc"
ROUNDS = 5
NEVER = 1 << 40
"""Entries until a snapshot: none, unless a figure is about it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def our_cluster(directory: Path, authority: Authority, names: str = NAMES) -> AsyncIterator[Cluster]:
    addresses = {name: f"127.0.0.1:{free_port()}" for name in names}
    members = []
    for name in names:
        certificate, key = authority.issue(name)
        settings = Settings(
            name=name,
            directory=str(directory / name),
            listen=addresses[name],
            serve=f"127.0.0.1:{free_port()}",
            members=addresses,
            authority=str(authority.certificate),
            certificate=str(certificate),
            key=str(key),
            snapshot_entries=NEVER,
        )
        members.append(MemberProcess(settings, authority))
    async with Cluster(members) as cluster:
        yield cluster


# -- loads


async def latencies(put: Put, changes: Sequence[Change], count: int) -> list[float]:
    """Seconds of one write after the other."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        await put(changes)
        seconds.append(time.perf_counter() - began)
    return seconds


async def rate(put: Put, changes: Sequence[Change], count: int, clients: int) -> float:
    """Writes a second, `clients` of them under way."""
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            await put(changes)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return count / (time.perf_counter() - began)


def changes_of(count: int, size: int) -> list[Change]:
    chance = random.Random(1)
    return [(f"key{number}", chance.randbytes(size)) for number in range(count)]


# -- beside etcd


async def beside_etcd(directory: Path, authority: Authority) -> None:
    """write_p50_over_etcd, changes_per_s_over_etcd, write_60kb_over_etcd."""
    program = find_etcd()
    one, hundred, big = changes_of(1, 256), changes_of(100, 256), changes_of(1, 60_000)
    ports = {name: (free_port(), free_port()) for name in NAMES}
    async with our_cluster(directory, authority) as cluster:
        with etcd_cluster(program, ports, directory, authority) as members:
            ours, theirs = (await cluster.leader()).kv.put, (await etcd_leader(members)).put
            peer = f"etcd {version(program)}"
            p50: list[tuple[float, float]] = []
            changes: list[tuple[float, float]] = []
            large: list[tuple[float, float]] = []
            for _ in range(ROUNDS + 1):
                p50.append(await both(lambda put: _p50(put, one), ours, theirs))
                changes.append(await both(lambda put: rate(put, hundred, 120, 8), ours, theirs))
                large.append(await both(lambda put: rate(put, big, 120, 8), ours, theirs))
    report("write_p50_over_etcd", p50, 1000, "ms", peer)
    report("changes_per_s_over_etcd", changes, 100, "1/s", peer)
    report("write_60kb_over_etcd", large, 1, "1/s", peer)


async def both(measure: Callable[[Put], Awaitable[float]], ours: Put, theirs: Put) -> tuple[float, float]:
    return await measure(ours), await measure(theirs)


async def _p50(put: Put, changes: Sequence[Change]) -> float:
    return statistics.median(await latencies(put, changes, 150))


def report(name: str, rounds: list[tuple[float, float]], scale: float, unit: str, peer: str) -> None:
    """The medians of all rounds but the first, which warmed both up."""
    ours, theirs = (statistics.median(side) * scale for side in zip(*rounds[1:], strict=True))
    ratio(name, ours, theirs, unit_of_both=unit, peer=peer)


# -- ours alone


async def failover(directory: Path, authority: Authority) -> None:
    """failover_p50_s: from the leader's kill -9 until a client's write goes through."""
    seconds = []
    async with our_cluster(directory, authority) as cluster:
        for _ in range(9):
            leader = await cluster.leader()
            await cluster.agreed()
            leader.kill()
            began = time.monotonic()
            others = [member for member in cluster.members if member is not leader]
            await until(lambda others=others: _write_to_any(others), 20.0, lambda: "nobody takes over")  # type: ignore[misc]
            seconds.append(time.monotonic() - began)
            leader.start()
            await cluster.agreed()
    figure("failover_p50_s", statistics.median(seconds), "s", longest=max(seconds))


async def _write_to_any(members: Sequence[MemberProcess]) -> bool | None:
    for member in members:
        with contextlib.suppress(Lost):
            await member.kv.put([("after", b"")], 1.0)
            return True
    return None


async def replay(directory: Path, authority: Authority) -> None:
    """replay_100k_s: a member's start on a log of 100,000 entries of 256 B, until it has applied them and leads again."""
    write_log(directory / "a", 100_000)
    async with our_cluster(directory, authority, "a") as cluster:
        began = time.monotonic()
        await cluster.leader(60.0)
        with_start = time.monotonic() - began
        status = await cluster.members[0].kv.status()
    figure("replay_100k_s", status.ready_seconds, "s", with_the_process=with_start)


def write_log(data_dir: Path, count: int) -> None:
    data_dir.mkdir()
    keys = NodeKeys.create(data_dir / "key")
    identity = Identity(CLUSTER, "a")
    disk = open_directory(data_dir / "raft", keys.log, identity).disk
    log = Log.resume(disk, keys.log, identity, read_log(disk, keys.log, identity))
    chance = random.Random(1)
    for first in range(1, count + 1, 500):
        entries = [
            (index, msgspec.msgpack.encode([(f"key{index}", chance.randbytes(256))])) for index in range(first, first + 500)
        ]
        log.write([Record(Kind.ENTRY, index, 1, data) for index, data in entries])
    log.append([Record(Kind.VOTE, term=1), Record(Kind.COMMIT, count)])
    log.close()


async def catch_up(directory: Path, authority: Authority) -> None:
    """catch_up_20k_s: a follower that missed 20,000 entries of 256 B, from its start until it has applied them."""
    async with our_cluster(directory, authority) as cluster:
        leader = await cluster.leader()
        follower = next(member for member in cluster.members if member is not leader)
        follower.kill()
        await rate(leader.kv.put, changes_of(1, 256), 20_000, 200)
        goal = (await leader.kv.status()).applied
        began = time.monotonic()
        follower.start()
        await until(lambda: _up(follower), 20.0, lambda: "the follower does not start")
        started = time.monotonic()
        await until(lambda: _has_applied(follower, goal), 60.0, lambda: "the follower does not catch up")
        ended = time.monotonic()
    figure("catch_up_20k_s", ended - began, "s", of_it_starting_the_process=started - began)


async def _up(member: MemberProcess) -> bool | None:
    return await status_of(member) is not None or None


async def _has_applied(member: MemberProcess, index: int) -> bool | None:
    status = await status_of(member)
    return (status is not None and status.applied >= index) or None


async def snapshot(directory: Path, authority: Authority) -> None:
    """snapshot_write_p99_ratio: writes while the leader writes a snapshot of 100 MB, over the same writes without."""
    async with our_cluster(directory, authority) as cluster:
        leader = await cluster.leader()
        fill = [(number, changes_of(1000, 256)) for number in range(400)]
        for number, changes in fill:
            await leader.kv.put([(f"{number}-{key}", value) for key, value in changes], 10.0)
        before = await leader.kv.status()
        calm = await _load(leader, 6.0)
        await leader.kv.do(Order(snapshot=True))
        busy: list[float] = []
        while not busy or (await leader.kv.status()).snapshotting:
            busy += await _load(leader, 0.5)
        after = await leader.kv.status()
    if (before.term, before.leads) != (after.term, after.leads):
        raise SystemExit("leadership was lost during a snapshot")
    ours, base = _p99(busy), _p99(calm)
    ratio("snapshot_write_p99_ratio", ours * 1000, base * 1000, unit_of_both="ms", writes_during=float(len(busy)))


async def _load(member: MemberProcess, seconds: float) -> list[float]:
    """Four clients that write 256 B for so long; the seconds of each write."""
    end = time.monotonic() + seconds
    taken: list[float] = []

    async def client() -> None:
        changes = changes_of(1, 256)
        while time.monotonic() < end:
            taken.extend(await latencies(member.kv.put, changes, 1))

    await asyncio.gather(*(client() for _ in range(4)))
    return taken


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


async def busy_loop(directory: Path, authority: Authority) -> None:
    """busy_loop_write_p50_ratio: one write after the other while a thread of the leader computes in pure Python, over the
    same without."""
    async with our_cluster(directory, authority) as cluster:
        leader = await cluster.leader()
        one = changes_of(1, 256)
        await latencies(leader.kv.put, one, 100)
        calm = await latencies(leader.kv.put, one, 400)
        await leader.kv.do(Order(busy_seconds=20.0))
        busy = await latencies(leader.kv.put, one, 300)
    ours, base = statistics.median(busy), statistics.median(calm)
    ratio("busy_loop_write_p50_ratio", ours * 1000, base * 1000, unit_of_both="ms")


PARTS: dict[str, Callable[[Path, Authority], Awaitable[None]]] = {
    "etcd": beside_etcd,
    "failover": failover,
    "replay": replay,
    "catch-up": catch_up,
    "snapshot": snapshot,
    "busy": busy_loop,
}


def main(arguments: Sequence[str] = ()) -> int:
    """Measure every part, or those that are named."""
    parser = argparse.ArgumentParser(prog="consensus", description=__doc__)
    parser.add_argument("--ours-only", action="store_true", help="what needs no etcd")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be repeated")
    parser.add_argument("--directory", help="on the disk whose figures are wanted")
    options = parser.parse_args(arguments)
    parts = options.only or [name for name in PARTS if name != "etcd" or not options.ours_only]
    if "etcd" in parts:
        find_etcd()
    for name in parts:
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            asyncio.run(_measure(PARTS[name], Path(directory)))
    return 0


async def _measure(part: Callable[[Path, Authority], Awaitable[None]], directory: Path) -> None:
    await part(directory, Authority(directory))
