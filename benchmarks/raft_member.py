"""One member of a cluster as a process of its own, for benchmarks and chaos: `python -m benchmarks.raft_member SETTINGS`.

The replicated state is a dictionary. Its front speaks gRPC over TLS, with msgpack in place of protocol buffers:

    Put     [[key, value], ...] -> index                all of them in one entry
    Get     key -> value or null                        linearizable
    Status  null -> Status
    Keys    null -> [key, ...]                          of this replica, as it is now
    Do      Order -> null                               take a snapshot, break the disk, keep the interpreter busy

Errors are gRPC statuses whose detail begins with our code. The process ends by itself when its member can't go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import heapq
import itertools
import resource
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import msgspec
from stackd.base.errors import StackdError
from stackd.base.records import pairs
from stackd.raft.address import listen
from stackd.raft.consensus import Installed, Leadership, OutcomeUnknown, SnapshotView
from stackd.raft.credentials import Credentials, common_name
from stackd.raft.directory import DirectoryLock, open_directory
from stackd.raft.disk import Disk, DiskFile
from stackd.raft.frame import Identity
from stackd.raft.member import ClusterMember
from stackd.raft.membership import Membership
from stackd.raft.peers import Hello
from stackd.raft.settings import Settings as NodeSettings
from stackd.raft.transport import TlsPeers
from stackd.security.keyring import NodeKeys
from tests.certificates import contexts

CLUSTER = "cluster1"
SERVICE = "stackd.bench.Kv"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SWITCH_SECONDS = 0.0002
"""How long a busy thread keeps the interpreter from the others. A write changes threads several times on its way."""
_GIVEN_UP = 3
"""The exit code of a member that can't go on."""

Change = tuple[str, bytes]


class Settings(msgspec.Struct, kw_only=True):
    """What a member is told at its start. `members` has everybody's address as the others reach it."""

    name: str
    directory: str
    listen: str
    serve: str
    members: dict[str, str]
    authority: str
    certificate: str
    key: str
    snapshot_entries: int = 10_000


class Status(msgspec.Struct, kw_only=True):
    """What a member says of itself. `digest` is of the whole state at `applied`."""

    name: str
    term: int
    leads: bool
    applied: int
    keys: int
    digest: str
    rss_mb: int
    ready_seconds: float
    """From the member's start until it had applied all that its log held and led; 0 as long as it has not."""
    snapshotting: bool


class Order(msgspec.Struct, kw_only=True):
    """What a test wants: a snapshot now; syncs that fail or wait; a thread that keeps the interpreter busy."""

    snapshot: bool = False
    fail_syncs: bool = False
    sync_seconds: float = 0.0
    busy_seconds: float = 0.0


class TroubledFile:
    """A file whose syncs fail or wait as its disk is told."""

    def __init__(self, file: DiskFile, disk: TroubledDisk) -> None:
        self._file = file
        self._disk = disk
        self.write = file.write
        self.reserve = file.reserve
        self.truncate = file.truncate
        self.close = file.close

    def sync(self) -> None:
        if self._disk.sync_seconds:
            time.sleep(self._disk.sync_seconds)
        if self._disk.fail_syncs:
            raise OSError(errno.EIO, "Input/output error")
        self._file.sync()


class TroubledDisk:
    """The real disk below, until told otherwise."""

    def __init__(self, disk: Disk) -> None:
        self.fail_syncs = False
        self.sync_seconds = 0.0
        self._disk = disk
        self.path_of = disk.path_of
        self.names = disk.names
        self.read = disk.read
        self.read_part = disk.read_part
        self.rename = disk.rename
        self.remove = disk.remove
        self.sync_names = disk.sync_names

    def create(self, name: str) -> TroubledFile:
        return TroubledFile(self._disk.create(name), self)

    def extend(self, name: str) -> TroubledFile:
        return TroubledFile(self._disk.extend(name), self)


class Dictionary:
    """The replicated state, and those who wait for it to reach an index."""

    def __init__(self) -> None:
        self.index = 0
        self.values: dict[str, bytes] = {}
        self._decode = msgspec.msgpack.Decoder(list[Change]).decode
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def apply(self, index: int, data: bytes) -> None:
        if data:
            self.values.update(self._decode(data))
        self._reached(index)

    def restore(self, index: int, content: bytes) -> None:
        self.values = {}
        view = memoryview(content)
        while view:
            end = 4 + int.from_bytes(view[:4])
            self.values.update(self._decode(view[4:end]))
            view = view[end:]
        self._reached(index)

    def view(self) -> SnapshotView:
        frozen = dict(self.values)
        return SnapshotView(self.index, lambda: _chunks(frozen))

    def digest(self) -> str:
        digest = hashlib.sha256()
        for key in sorted(self.values):
            digest.update(b"%d %b %d %b " % (len(key), key.encode(), len(self.values[key]), self.values[key]))
        return digest.hexdigest()[:16]

    async def reaches(self, index: int) -> None:
        if self.index < index:
            reached = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (index, next(self._numbers), reached))
            await reached

    def _reached(self, index: int) -> None:
        self.index = index
        while self._waiting and self._waiting[0][0] <= index:
            reached = heapq.heappop(self._waiting)[2]
            if not reached.done():
                reached.set_result(None)


def _chunks(values: dict[str, bytes]) -> Iterable[bytes]:
    items = iter(values.items())
    while part := list(itertools.islice(items, 500)):
        encoded = msgspec.msgpack.encode(part)
        yield len(encoded).to_bytes(4) + encoded


class Front:
    """The member, its state, and what clients may ask."""

    def __init__(self, name: str, member: ClusterMember, disk: TroubledDisk) -> None:
        self._name = name
        self._member = member
        self._disk = disk
        self._state = Dictionary()
        self._role = Leadership(0, is_leader=False)
        self._ready_seconds = 0.0
        self._snapshot: asyncio.Task[None] | None = None

    async def run(self, serve: str, credentials: grpc.ServerCredentials) -> None:
        """Until the member ends."""
        began = time.monotonic()
        content = await self._member.start()
        if content is not None:
            self._state.restore(0, content)
        server = grpc.aio.server(options=UNLIMITED)
        server.add_generic_rpc_handlers((self._handlers(),))
        server.add_secure_port(serve, credentials)
        await server.start()
        doing = (self._follow_role(), self._follow_log(), self._note_ready(began))
        following = [asyncio.create_task(part) for part in doing]
        print(await self._member.ended(), file=sys.stderr, flush=True)
        for task in following:
            task.cancel()

    async def _follow_log(self) -> None:
        async for item in self._member.committed():
            if isinstance(item, Installed):
                self._state.restore(item.index, item.content)
            else:
                self._state.apply(item.index, item.data)
            if self._member.snapshot_due():
                self._take_snapshot()

    async def _note_ready(self, began: float) -> None:
        with contextlib.suppress(StackdError):
            await self._state.reaches(await self._member.read_barrier())
            self._ready_seconds = time.monotonic() - began

    async def _follow_role(self) -> None:
        async for role in self._member.leadership():
            self._role = role

    def _take_snapshot(self) -> None:
        if self._snapshot is None or self._snapshot.done():
            self._snapshot = asyncio.create_task(self._write_snapshot())

    async def _write_snapshot(self) -> None:
        try:
            await self._member.take_snapshot(self._state.view())
        except StackdError as error:
            print(error, file=sys.stderr, flush=True)

    def _handlers(self) -> grpc.GenericRpcHandler:
        calls: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "Put": self._put, "Get": self._get, "Status": self._status, "Keys": self._keys, "Do": self._do,
        }  # fmt: skip
        handlers = {name: grpc.unary_unary_rpc_method_handler(_answering(call)) for name, call in calls.items()}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def _put(self, request: bytes) -> int:
        return await self._member.propose(request, self._role.term)

    async def _get(self, request: bytes) -> bytes | None:
        await self._state.reaches(await self._member.read_barrier())
        return self._state.values.get(msgspec.msgpack.decode(request))

    async def _keys(self, request: bytes) -> list[str]:
        return list(self._state.values)

    async def _status(self, request: bytes) -> Status:
        return Status(
            name=self._name,
            term=self._role.term,
            leads=self._role.is_leader,
            applied=self._state.index,
            keys=len(self._state.values),
            digest=self._state.digest() if msgspec.msgpack.decode(request) else "",
            rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            ready_seconds=self._ready_seconds,
            snapshotting=self._snapshot is not None and not self._snapshot.done(),
        )

    async def _do(self, request: bytes) -> None:
        order = msgspec.msgpack.decode(request, type=Order)
        self._disk.fail_syncs, self._disk.sync_seconds = order.fail_syncs, order.sync_seconds
        if order.snapshot:
            self._take_snapshot()
        if order.busy_seconds:
            threading.Thread(target=_keep_busy, args=(order.busy_seconds,), daemon=True).start()


def _keep_busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    numbers: dict[int, int] = {}
    while time.monotonic() < end:
        for number in range(1000):
            numbers[number] = numbers.get(number, 0) + number


def _answering(call: Callable[[bytes], Awaitable[Any]]) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return msgspec.msgpack.encode(await call(request))
        except OutcomeUnknown as error:
            await context.abort(grpc.StatusCode.UNKNOWN, f"{error.code}: {error.message}")
        except StackdError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{error.code}: {error.message}")
        raise AssertionError("abort raises")

    return answer


async def run(settings: Settings) -> None:
    """Be the member until it ends."""
    directory = Path(settings.directory)
    lock = DirectoryLock.acquire(directory)
    key = directory / "key"
    keys = NodeKeys.open(key) if key.exists() else NodeKeys.create(key)
    opened = open_directory(directory / "raft", keys.log, Identity(CLUSTER, settings.name))
    disk = TroubledDisk(opened.disk)
    dial, accept = contexts(Path(settings.authority), Path(settings.certificate), Path(settings.key))
    credentials = Credentials(to_dial=lambda: dial, to_accept=lambda: accept, name_of=common_name)
    host, _, port = settings.listen.rpartition(":")
    peers = TlsPeers(Hello(node=settings.name, cluster=CLUSTER), listen(host, int(port)), credentials)
    member = ClusterMember(
        disk,
        keys.log,
        opened.identity,
        peers=peers,
        initial=Membership(epoch=0, voters=pairs(settings.members)),
        settings=NodeSettings(snapshot_entries=settings.snapshot_entries, snapshot_bytes=1 << 40),
    )
    private, chain = Path(settings.key).read_bytes(), Path(settings.certificate).read_bytes()
    front = grpc.ssl_server_credentials([(private, chain)], Path(settings.authority).read_bytes(), require_client_auth=True)
    try:
        await Front(settings.name, member, disk).run(settings.serve, front)
    finally:
        lock.release()


def main() -> int:
    """A member that has ended by itself can't go on: whoever started it decides what then."""
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(run(msgspec.json.decode(sys.argv[1], type=Settings)))
    return _GIVEN_UP


if __name__ == "__main__":
    sys.exit(main())
