"""Chaos for a real cluster: `make chaos-raft SEED=7 DURATION=120`. Exits with 1 if anything acknowledged is lost.

Three members run as processes in network namespaces, each on a small file system of its own, one of them behind a relay
that can be slow. Clients outside of it all write keys that nobody wrote before and note which were acknowledged. Meanwhile
members are killed (half of the time the leader, now and then all of them), cut off by pulling their cable or one way only,
slowed down; their disks fill up and fail. In the end everything is healed, and then every replica must have the same state
with every acknowledged key in it, and what was read and written to a few registers must be linearizable.

What happens follows the seed; when it happens to hit depends on the machine, so a seed doesn't repeat a run exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.certificates import Authority
from tests.hosts import Host, Network, network_of_hosts
from tests.simulation.raft.linearizability import NEVER, Operation, Read, Write, why_not_linearizable

from benchmarks.raft_member import Order, Settings
from benchmarks.raft_processes import Cluster, Lost, MemberProcess, until

MEMBERS = "abc"
PORT = 4400
RELAY_PORT = 4401
DISK = "size=48m"
WRITERS = 6
REGISTER_CLIENTS = 3
REGISTER_SECONDS = 1.0
"""Clients share a register for so long, then another: the search for an order is short when histories are."""
PATIENCE_SECONDS = 2.0
HEAL_SECONDS = 30.0
"""In which everybody must have the same state once the faults are over."""


class Violation(Exception):
    """Something happened that must not."""


@dataclass
class Recorder:
    """What clients were told. It is outside of everything that fails."""

    acknowledged: set[str] = field(default_factory=set)
    unknown: int = 0
    refused: int = 0
    history: list[Operation] = field(default_factory=list)
    failovers: list[float] = field(default_factory=list)
    leaderless_since: float | None = None
    _places: Iterator[int] = field(default_factory=itertools.count)

    def note_acknowledged(self, key: str) -> None:
        self.acknowledged.add(key)
        if self.leaderless_since is not None:
            self.failovers.append(time.monotonic() - self.leaderless_since)
            self.leaderless_since = None

    def note_failed(self, lost: Lost) -> None:
        self.unknown += lost.unknown
        self.refused += not lost.unknown

    def place(self) -> int:
        """The next place in the order of all calls and returns."""
        return next(self._places)


class Clients:
    """Those who write and read all the time, whoever answers."""

    def __init__(self, members: Sequence[MemberProcess], recorder: Recorder, seed: int) -> None:
        self._members = members
        self._recorder = recorder
        self._seed = seed
        self._began = time.monotonic()
        self._target = members[0]

    async def write(self, number: int) -> None:
        chance = random.Random(f"{self._seed}-writer-{number}")
        for count in itertools.count():
            key, target = f"w{number}-{count}", self._target
            changes = [(key, b"")]
            if chance.random() < 0.25:  # large ones under few names: the state stays far below what the disk holds
                changes.append((f"large{number}-{count % 20}", chance.randbytes(20_000)))
            try:
                await target.kv.put(changes, PATIENCE_SECONDS)
                self._recorder.note_acknowledged(key)
            except Lost as lost:
                self._recorder.note_failed(lost)
                self._turn_from(target, chance)
                await asyncio.sleep(0.02)

    async def use_register(self, number: int) -> None:
        chance = random.Random(f"{self._seed}-register-{number}")
        for count in itertools.count():
            key = f"r{int((time.monotonic() - self._began) / REGISTER_SECONDS)}"
            value = f"{number}-{count}" if chance.random() < 0.5 else None
            await self._operate(key, value, chance)
            await asyncio.sleep(chance.uniform(0, 0.1))

    async def _operate(self, key: str, value: str | None, chance: random.Random) -> None:
        target, called = self._target, self._recorder.place()
        try:
            if value is None:
                found = await target.kv.get(key, PATIENCE_SECONDS)
                action: Write | Read = Read(found.decode() if found is not None else None)
            else:
                action = Write(value)
                await target.kv.put([(key, value.encode())], PATIENCE_SECONDS)
        except Lost as lost:
            self._recorder.note_failed(lost)
            self._turn_from(target, chance)
            if value is not None and lost.unknown:
                self._recorder.history.append(Operation(key, Write(value), called, NEVER))
        else:
            self._recorder.history.append(Operation(key, action, called, self._recorder.place()))

    def _turn_from(self, target: MemberProcess, chance: random.Random) -> None:
        if self._target is target:
            self._target = chance.choice([member for member in self._members if member is not target])


class SlowLink:
    """The relay before one member, in that member's host."""

    def __init__(self, host: Host) -> None:
        command = [*host.enter, sys.executable, "-m", "benchmarks.relay"]
        command += [f"{host.address}:{RELAY_PORT}", f"{host.address}:{PORT}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def delay(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"%f\n" % seconds)
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Ground:
    """Hosts, disks, processes."""

    network: Network
    relay: SlowLink
    cluster: Cluster

    def host_of(self, member: MemberProcess) -> Host:
        return self.network.hosts[MEMBERS.index(member.name)]

    def revive(self) -> None:
        """Start those again that ended by themselves, as a daemon's supervisor does."""
        for member in self.cluster.members:
            if member.has_given_up:
                member.start()

    def heal(self) -> None:
        self.network.heal()
        self.relay.delay(0.0)


@contextlib.asynccontextmanager
async def prepared(directory: Path) -> AsyncIterator[Ground]:
    """A running cluster; all of it is gone after the block."""
    authority = Authority(directory)
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(network_of_hosts(len(MEMBERS)))
        hosts = dict(zip(MEMBERS, network.hosts, strict=True))
        addresses = {name: f"{host.address}:{PORT}" for name, host in hosts.items()}
        slow = MEMBERS[1]
        reached = {**addresses, slow: f"{hosts[slow].address}:{RELAY_PORT}"}
        relay = SlowLink(hosts[slow])
        stack.callback(relay.close)
        members = []
        for name, host in hosts.items():
            disk = stack.enter_context(_small_disk(directory / name))
            certificate, key = authority.issue(name)
            settings = Settings(
                name=name,
                directory=str(disk / "data"),
                listen=addresses[name],
                serve=f"unix:{directory}/{name}.sock",
                members=reached,
                authority=str(authority.certificate),
                certificate=str(certificate),
                key=str(key),
                snapshot_entries=400,
            )
            members.append(MemberProcess(settings, authority, host.enter, log=directory / f"{name}.log"))
        async with Cluster(members) as cluster:
            yield Ground(network, relay, cluster)


@contextlib.contextmanager
def _small_disk(path: Path) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class Chaos:
    """The faults. One after the other begins; some last while the next ones happen."""

    def __init__(self, ground: Ground, recorder: Recorder, chance: random.Random) -> None:
        self._ground = ground
        self._recorder = recorder
        self._chance = chance
        self._lasting: set[asyncio.Task[None]] = set()
        self.counts: dict[str, int] = {}
        self._kinds = {
            "kill": (10, self._kill),
            "kill-all": (1, self._kill_all),
            "pull": (3, self._pull),
            "one-way": (2, self._block),
            "slow-link": (2, self._slow_link),
            "slow-disk": (2, self._slow_disk),
            "full-disk": (2, self._fill_disk),
            "failing-disk": (1, self._fail_disk),
        }

    async def run(self, until_time: float) -> None:
        weights = [weight for weight, _ in self._kinds.values()]
        while time.monotonic() < until_time:
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))
            self._ground.revive()
            kind = self._chance.choices(list(self._kinds), weights)[0]
            await self._kinds[kind][1]()
            self._count(kind)
        for task in list(self._lasting):
            await task

    async def _victim(self) -> tuple[MemberProcess, bool]:
        """Half of the time the leader."""
        leader = None
        if self._chance.random() < 0.6:
            with contextlib.suppress(TimeoutError):
                leader = await self._ground.cluster.leader(1.0)
        return leader or self._chance.choice(self._ground.cluster.members), leader is not None

    async def _kill(self) -> None:
        victim, leads = await self._victim()
        if leads:
            self._recorder.leaderless_since = time.monotonic()
            self._count("kill-leader")
        victim.kill()
        self._later(self._chance.uniform(0.1, 1.0), victim.start)

    async def _kill_all(self) -> None:
        for member in self._ground.cluster.members:
            member.kill()
        self._recorder.leaderless_since = None
        for member in self._ground.cluster.members:
            member.start()

    async def _pull(self) -> None:
        victim, _ = await self._victim()
        host = self._ground.host_of(victim)
        self._ground.network.pull(host)
        self._later(self._chance.uniform(0.3, 3.0), lambda: self._ground.network.plug(host))

    async def _block(self) -> None:
        one, other = self._chance.sample(self._ground.network.hosts, 2)
        self._ground.network.block(one, other)
        self._later(self._chance.uniform(0.3, 3.0), self._ground.network.heal)

    async def _slow_link(self) -> None:
        self._ground.relay.delay(self._chance.uniform(0.01, 0.4))
        self._later(self._chance.uniform(0.5, 3.0), lambda: self._ground.relay.delay(0.0))

    async def _slow_disk(self) -> None:
        victim, _ = await self._victim()
        await self._order(victim, Order(sync_seconds=self._chance.uniform(0.02, 0.5)))
        self._later(self._chance.uniform(0.5, 2.0), lambda: self._order_soon(victim, Order()))

    async def _fill_disk(self) -> None:
        victim, _ = await self._victim()
        ballast = Path(victim.settings.directory).parent / "ballast"
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            while file.write(bytes(65536)):
                pass
        self._later(self._chance.uniform(0.3, 2.0), lambda: ballast.unlink(missing_ok=True))  # it may be full twice

    async def _fail_disk(self) -> None:
        victim, _ = await self._victim()
        await self._order(victim, Order(fail_syncs=True))

    async def _order(self, member: MemberProcess, order: Order) -> None:
        with contextlib.suppress(Lost):
            await member.kv.do(order)

    def _order_soon(self, member: MemberProcess, order: Order) -> None:
        self._lasting.add(asyncio.create_task(self._order(member, order)))

    def _later(self, seconds: float, undo: Callable[[], object]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            undo()

        self._lasting.add(asyncio.create_task(wait()))

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1


async def run(seed: int, seconds: float, directory: Path) -> dict[str, object]:
    """One run in `directory`; returns its figures. Raises Violation."""
    recorder = Recorder()
    async with prepared(directory) as ground:
        members = ground.cluster.members
        await ground.cluster.leader()
        clients = Clients(members, recorder, seed)
        running = [asyncio.create_task(clients.write(number)) for number in range(WRITERS)]
        running += [asyncio.create_task(clients.use_register(number)) for number in range(REGISTER_CLIENTS)]
        chaos = Chaos(ground, recorder, random.Random(seed))
        try:
            await chaos.run(time.monotonic() + seconds)
            ground.heal()
            ground.revive()
            written = len(recorder.acknowledged)
            await until(lambda: _more_than(recorder, written), HEAL_SECONDS, lambda: _said("no write goes through", members))
        except TimeoutError as error:
            raise Violation(str(error)) from error
        finally:
            for task in running:
                task.cancel()
            ended = await asyncio.gather(*running, return_exceptions=True)
        defects = [error for error in ended if not isinstance(error, asyncio.CancelledError)]
        if defects:
            raise Violation(f"a client ended: {defects}")
        await check(ground.cluster, recorder)
    failovers = sorted(recorder.failovers)
    return {
        "seed": seed,
        "seconds": seconds,
        "acknowledged": len(recorder.acknowledged),
        "unknown": recorder.unknown,
        "refused": recorder.refused,
        "register_operations": len(recorder.history),
        "failover_p50_s": round(statistics.median(failovers), 2) if failovers else None,
        "failover_max_s": round(failovers[-1], 2) if failovers else None,
        "lost": 0,
        **chaos.counts,
    }


async def check(cluster: Cluster, recorder: Recorder) -> None:
    """All replicas are alike, hold every acknowledged key, and the registers were registers. Raises Violation."""
    try:
        await cluster.agreed(HEAL_SECONDS)
    except TimeoutError as error:
        raise Violation(_said(str(error), cluster.members)) from error
    for member in cluster.members:
        lost = recorder.acknowledged - await member.kv.keys()
        if lost:
            raise Violation(f"{member.name} has lost {len(lost)} acknowledged writes: {sorted(lost)[:10]}")
    if why := why_not_linearizable(recorder.history):
        raise Violation(why)


async def _more_than(recorder: Recorder, written: int) -> bool | None:
    return len(recorder.acknowledged) > written or None


def _said(what: str, members: Sequence[MemberProcess]) -> str:
    return "\n".join([what, *(f"--- {member.name} said\n{member.said()}" for member in members)])


def main(arguments: Sequence[str] = ()) -> int:
    """Print the figures of one run as a JSON object; 1 if there is a violation."""
    parser = argparse.ArgumentParser(prog="chaos-raft", description="kill, cut off and starve a real cluster")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        try:
            print(json.dumps(asyncio.run(run(options.seed, options.duration, Path(directory)))), flush=True)
        except Violation as violation:
            print(f"seed {options.seed}: VIOLATION: {violation}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
