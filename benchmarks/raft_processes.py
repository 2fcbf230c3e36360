"""A cluster of member processes (`raft_member.py`), and a client that talks to them as to any gRPC service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
import msgspec
from tests.certificates import Authority

from benchmarks.raft_member import SERVICE, UNLIMITED, Order, Settings, Status

T = TypeVar("T")
START_SECONDS = 20.0
CALL_SECONDS = 3.0
POLL_SECONDS = 0.02

_CHANNEL_OPTIONS = [
    *UNLIMITED,
    ("grpc.ssl_target_name_override", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]


class Lost(Exception):
    """The call failed; `code` is ours, or gRPC's word. Only with `unknown` may what was asked for have happened."""

    def __init__(self, code: str, *, unknown: bool) -> None:
        super().__init__(code)
        self.code = code
        self.unknown = unknown


class Channel:
    """A TLS channel that calls methods with bytes."""

    def __init__(self, address: str, authority: Authority) -> None:
        certificate, key = authority.issue("client")
        credentials = grpc.ssl_channel_credentials(
            authority.certificate.read_bytes(), key.read_bytes(), certificate.read_bytes()
        )
        self._channel = grpc.aio.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
        self._methods: dict[str, Any] = {}

    async def call(self, method: str, request: bytes, seconds: float = CALL_SECONDS) -> bytes:
        """Raises Lost."""
        if method not in self._methods:
            self._methods[method] = self._channel.unary_unary(method)
        try:
            reply: bytes = await self._methods[method](request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            code = (error.details() or "").partition(":")[0]
            refused = error.code() is grpc.StatusCode.FAILED_PRECONDITION
            raise Lost(code if refused else str(error.code()), unknown=not refused) from error
        return reply

    async def close(self) -> None:
        await self._channel.close()


class KvClient:
    """Asks one member."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def put(self, changes: Sequence[tuple[str, bytes]], seconds: float = CALL_SECONDS) -> int:
        return int(await self._call("Put", changes, seconds))

    async def get(self, key: str, seconds: float = CALL_SECONDS) -> bytes | None:
        reply = await self.channel.call(f"/{SERVICE}/Get", msgspec.msgpack.encode(key), seconds)
        return msgspec.msgpack.decode(reply, type=bytes | None)

    async def keys(self) -> set[str]:
        return set(await self._call("Keys", None, 30.0))

    async def status(self, *, digest: bool = False) -> Status:
        reply = await self.channel.call(f"/{SERVICE}/Status", msgspec.msgpack.encode(digest), 5.0)
        return msgspec.msgpack.decode(reply, type=Status)

    async def do(self, order: Order) -> None:
        await self._call("Do", order, CALL_SECONDS)

    async def _call(self, name: str, request: object, seconds: float) -> Any:
        return msgspec.msgpack.decode(await self.channel.call(f"/{SERVICE}/{name}", msgspec.msgpack.encode(request), seconds))


class MemberProcess:
    """One member: a process that can be killed and started again on its directory. `enter` comes before its command."""

    def __init__(self, settings: Settings, authority: Authority, enter: Sequence[str] = (), log: Path | None = None) -> None:
        self.settings = settings
        self.kv = KvClient(Channel(settings.serve, authority))
        self._enter = enter
        self._log = log or Path(f"{settings.directory}.log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def has_given_up(self) -> bool:
        """Whether it ended, and not because it was killed."""
        return self._process is not None and (self._process.poll() or 0) > 0

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.is_running:
            return
        Path(self.settings.directory).mkdir(exist_ok=True)
        command = [*self._enter, sys.executable, "-m", "benchmarks.raft_member", msgspec.json.encode(self.settings).decode()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        """The end of what it wrote, for people."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""


class Cluster:
    """Members with their processes; leaving the block kills them."""

    def __init__(self, members: Sequence[MemberProcess]) -> None:
        self.members = list(members)

    async def __aenter__(self) -> Cluster:
        for member in self.members:
            member.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.kill()
        for member in self.members:
            await member.kv.channel.close()

    async def leader(self, seconds: float = START_SECONDS) -> MemberProcess:
        """Who leads the highest term, as soon as somebody leads. Raises TimeoutError."""
        return await until(self._leader, seconds, lambda: "nobody leads: " + "".join(member.said() for member in self.members))

    async def _leader(self) -> MemberProcess | None:
        found = [(status.term, member) for member in self.members if (status := await status_of(member)) and status.leads]
        return max(found, key=lambda one: one[0])[1] if found else None

    async def agreed(self, seconds: float = START_SECONDS) -> list[Status]:
        """The statuses of all members once all have applied the same. Raises TimeoutError."""
        seen: list[Status | None] = []

        async def same() -> list[Status] | None:
            seen[:] = [await status_of(member, digest=True) for member in self.members]
            statuses = [status for status in seen if status is not None]
            alike = {(status.applied, status.digest) for status in statuses}
            return statuses if len(statuses) == len(self.members) and len(alike) == 1 else None

        return await until(same, seconds, lambda: f"the replicas differ: {seen}")


async def status_of(member: MemberProcess, *, digest: bool = False) -> Status | None:
    """None if it doesn't answer."""
    try:
        return await member.kv.status(digest=digest) if member.is_running else None
    except Lost:
        return None


async def until(look: Callable[[], Awaitable[T | None]], seconds: float, why: Callable[[], str]) -> T:
    """What `look` finds, as soon as it finds something. Raises TimeoutError, saying why."""
    end = time.monotonic() + seconds
    while (found := await look()) is None:
        if time.monotonic() > end:
            raise TimeoutError(why())
        await asyncio.sleep(POLL_SECONDS)
    return found
