"""One node in one process: consensus, writer, dispatcher, agent, API and sources, wired and run until told to stop.

Parts depend on each other through protocols only; this is where they meet. The order of starting is the order of need:
the state first, then who decides on it, then who acts, then who may ask. When any part fails for good, all end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from stackd import __version__
from stackd.agent.executor.base import Executor
from stackd.agent.session import Agent
from stackd.agent.taskfiles import TaskFiles
from stackd.api.control import Caller, DownRequest
from stackd.api.dispatch import FromAgent, FromManager
from stackd.api.locations import socket_path
from stackd.api.server import serve_unix
from stackd.api.stream import Stream, memory_pair
from stackd.base.errors import StackdError, Unavailable
from stackd.daemon.clock import SystemClock
from stackd.daemon.executors import DOCKER, build_executor, choose_executor, docker_host
from stackd.daemon.identity import Identity, load_identity, new_identity, save_identity
from stackd.daemon.options import Observer, UpOptions
from stackd.daemon.sources import open_sources
from stackd.engine.model import Node as NodeRecord
from stackd.engine.model import Principal, PrincipalKind, Role
from stackd.engine.store import Store
from stackd.gitops.runner import Sources
from stackd.manager.control import Control
from stackd.manager.control import Identity as ManagerIdentity
from stackd.manager.dispatcher import Dispatcher
from stackd.manager.writer import Writer
from stackd.raft.directory import DirectoryLock, is_created, open_directory
from stackd.raft.frame import Identity as LogIdentity
from stackd.raft.member import ClusterMember
from stackd.security.keyring import NodeKeys
from stackd.security.keys import RootKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Foundation:
    """What must be there before anything runs: who we are, our keys, the log, the state in it."""

    identity: Identity
    key: RootKey
    member: ClusterMember
    store: Store


async def _lay_foundation(options: UpOptions, tasks: TaskFiles) -> Foundation:
    """Open the data directory, or fill a new one. Raises StackdError; a directory that can't be used is left as it was.
    The caller holds the directory's lock."""
    data_dir = options.data_dir
    key_path, log_path = data_dir / "key", data_dir / "raft"
    identity = _identity(options, is_new=not is_created(log_path), tasks_known=bool(tasks.load()))
    keys = NodeKeys.open(key_path) if key_path.exists() or is_created(log_path) else NodeKeys.create(key_path)
    directory = open_directory(log_path, keys.log, LogIdentity(identity.cluster_id, identity.node_id))
    member = ClusterMember(directory.disk, keys.log, directory.identity)
    snapshot = await member.start()
    store = Store() if snapshot is None else Store.restore(snapshot)
    return Foundation(identity, keys.cluster, member, store)


def _identity(options: UpOptions, *, is_new: bool, tasks_known: bool) -> Identity:
    """The node's identity, made or brought up to date. Raises StackdError("daemon.identity.missing") if a log is there
    without one: under another name the node would not find its tasks."""
    known = load_identity(options.data_dir)
    if known is None and not is_new:
        raise StackdError(
            "daemon.identity.missing",
            f"{options.data_dir} holds a log but not whose it is (node.json)",
            hint="put node.json back from a backup",
        )
    executor = choose_executor(options, known, tasks_known=tasks_known)
    host = docker_host(options, known) if executor == DOCKER else ""
    identity = known or new_identity(random.SystemRandom(), executor)
    identity = msgspec.structs.replace(identity, executor=executor, docker_host=host)
    if identity != known:
        save_identity(options.data_dir, identity)
    return identity


class Node:
    """A running node. `stop()` ends `serve()`; tasks keep running."""

    def __init__(self, options: UpOptions, foundation: Foundation, executor: Executor, tasks: TaskFiles) -> None:
        self._options = options
        self._foundation = foundation
        self._executor = executor
        self._stopping = asyncio.Event()
        clock = SystemClock()
        entropy = random.SystemRandom()
        self.writer = Writer(foundation.store, foundation.member, clock, entropy)
        self._dispatcher = Dispatcher(self.writer.view, self.writer.submit, foundation.key.open_blob)
        self.writer.listen(self._dispatcher.notice)
        self._sources = Sources(())
        self._agent = Agent(foundation.identity.node_id, executor, self._connect, tasks, clock, entropy)
        self._sessions: asyncio.TaskGroup | None = None
        self.control = Control(
            identity=ManagerIdentity(
                node_id=foundation.identity.node_id,
                version=__version__,
                data_dir=str(options.data_dir),
                pid=os.getpid(),
            ),
            writer=self.writer,
            keeper=foundation.key,
            sources=self,
            logs=self._dispatcher,
            node_idle=self._agent.wait_idle,
            stop=self.stop,
        )

    async def stop(self) -> None:
        """End the node; tasks go on."""
        self.stop_soon()

    def stop_soon(self) -> None:
        """The same, from a signal's handler."""
        self._stopping.set()

    async def sync_now(self, source: str, *, approve_prune: bool) -> None:
        """See `manager.control.SourceControl`."""
        await self._sources.sync_now(source, approve_prune=approve_prune)

    async def stop_sources(self) -> None:
        """See `manager.control.SourceControl`."""
        await self._sources.stop()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything but the API and the sources runs inside this block."""
        try:
            async with asyncio.TaskGroup() as group:
                self._sessions = group
                parts = [group.create_task(self.writer.run(), name="writer")]
                await self.writer.wait_ready()
                parts.append(group.create_task(self._dispatcher.run(), name="dispatcher"))
                parts.append(group.create_task(self._agent.run(), name="agent"))
                await self._wait_registered()
                yield
                self._stopping.set()
                await self._dispatcher.stop()
                for part in parts:
                    part.cancel()
        except ExceptionGroup as errors:
            if (error := _for_people(errors)) is None:
                raise
            raise error from errors
        finally:
            await self._foundation.member.close()

    def _record(self) -> NodeRecord:
        """How this node enters the cluster that it is the first manager of."""
        node_id = self._foundation.identity.node_id
        return NodeRecord(id=node_id, created_at=self.writer.view.now, role=Role.MANAGER)

    async def _wait_registered(self) -> None:
        """Return once the agent has said what it can run: nothing could be placed before."""
        while self._foundation.identity.node_id not in self.writer.view.node_statuses:
            await self.writer.feed.wait_past(self.writer.feed.index)

    async def _connect(self) -> Stream[FromManager, FromAgent]:
        """The local agent reaches its dispatcher without a socket."""
        if self._sessions is None or self._stopping.is_set():
            raise Unavailable("daemon.stopping", "the daemon is stopping")
        ours, theirs = memory_pair()
        self._sessions.create_task(self._dispatcher.serve(theirs, node=self._record()), name="session")
        return ours

    async def serve(self, observer: Observer | None) -> None:
        """Answer clients and follow sources until stopped."""
        self._sources = await open_sources(self._options, self.writer, self._foundation.key)
        path = socket_path(self._options.data_dir)
        async with serve_unix(path, self.control, _local_caller):
            if observer is not None:
                observer.ready(path, self._executor.name)
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._sources.run(), name="sources")
                await self._stopping.wait()
                following.cancel()


def _for_people(errors: ExceptionGroup[Exception]) -> StackdError | None:
    """The first of the errors that ended the node; None if there is a bug among them, which keeps its traceback."""
    ours, bugs = errors.split(StackdError)
    if ours is None or bugs is not None:
        return None
    first: Exception = ours
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, StackdError) else None


def _local_caller(uid: int) -> Caller:
    return Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name=str(uid)))


@asynccontextmanager
async def _node(options: UpOptions) -> AsyncIterator[Node]:
    """A node that runs inside the block; the data directory is ours alone as long."""
    lock = DirectoryLock.acquire(options.data_dir)
    try:
        tasks = TaskFiles(options.data_dir / "agent")
        foundation = await _lay_foundation(options, tasks)
        node = Node(options, foundation, build_executor(foundation.identity, options.data_dir), tasks)
        async with node.running():
            yield node
    finally:
        lock.release()


async def _run(options: UpOptions, observer: Observer | None) -> int:
    async with _node(options) as node:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, node.stop_soon)
        await node.serve(observer)
    return 0


async def _run_down(options: UpOptions, observer: Observer | None) -> int:
    async with _node(options) as node:
        async for progress in node.control.down(DownRequest(remove=True), _local_caller(os.geteuid())):
            if observer is not None and not progress.done:
                observer.note(f"tasks left: {progress.remaining} {progress.message}".rstrip())
    return 0


def run_node(options: UpOptions, observer: Observer | None) -> int:
    """`stackd.daemon.run_up`."""
    _set_up_process(options)
    return asyncio.run(_run(options, observer))


def run_node_down(options: UpOptions, observer: Observer | None) -> int:
    """`stackd.daemon.run_down`."""
    _set_up_process(options)
    return asyncio.run(_run_down(options, observer))


SWITCH_SECONDS = 0.0005
"""How long one thread may keep the interpreter from another that wants it. The log's thread has many short turns, and with
the usual 5 ms a write beside a busy loop takes ten times as long as on an idle one, with this four times."""


def _set_up_process(options: UpOptions) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # it calls the ordinary end of a watch an error
