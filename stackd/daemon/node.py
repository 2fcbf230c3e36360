"""The daemon's process: holds the data directory, runs the supervisor, serves the local API until told to stop.

The local API answers as soon as the node has its first role, also while it is in no cluster or waits for its unlock key. What
ends for good ends the process with its error; tasks go on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from stackd.api.addresses import ManagerAddress
from stackd.api.cluster import CLUSTER_METHODS
from stackd.api.control import Caller, ControlHandler, DownRequest
from stackd.api.local import NODE_METHODS
from stackd.api.locations import socket_path
from stackd.api.server import LocalService, serve_unix
from stackd.base.errors import Refused
from stackd.daemon.home import Home, Station
from stackd.daemon.local import LocalNode, Present
from stackd.daemon.options import Observer, UpOptions
from stackd.daemon.role import Role
from stackd.daemon.sources import asked_source
from stackd.daemon.supervisor import Supervisor, reason_of
from stackd.engine.parts import Principal, PrincipalKind
from stackd.raft.directory import DirectoryLock

if TYPE_CHECKING:
    from stackd.daemon.metrics import Metrics

log = logging.getLogger(__name__)

METRICS_PORT = 9323
"""That of Docker's engine for the same thing."""


class _PresentRouter:
    """The router of the role that the node has at the moment."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def leader(self) -> Any:
        router = self._supervisor.role.router
        return router.leader() if router is not None else None


class Node:
    """A running node. `stop()` ends `serve()`; tasks keep running."""

    def __init__(self, options: UpOptions) -> None:
        self._options = options
        self._stopping = asyncio.Event()
        self._metrics = _new_metrics() if options.metrics_address else None
        self.supervisor = Supervisor(options, Home(options.data_dir), self.stop, self._metrics)

    async def stop(self) -> None:
        """End the node; tasks go on."""
        self.stop_soon()

    def stop_soon(self) -> None:
        """The same, from a signal's handler."""
        self._stopping.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The node has its first role inside the block; everything but the local API runs there. Raises StackdError."""
        if self.supervisor.home.station is Station.IDLE and not self._options.waits:
            self.supervisor.found()
        self._check_source()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.supervisor.run(), name="supervisor")
                await self.supervisor.wait_past(0)
                yield
                self.supervisor.stop()
        except ExceptionGroup as errors:
            if (error := reason_of(errors)) is None:
                raise
            raise error from errors

    def _check_source(self) -> None:
        """What the command line names must be something that this node can follow. Raises StackdError."""
        if asked_source(self._options) is not None and self.supervisor.home.station is Station.WORKER:
            raise Refused(
                "daemon.source.worker", "this node is a worker; managers follow the sources", hint="name it on a manager"
            )

    async def serve(self, observer: Observer | None) -> None:
        """Answer clients until stopped."""
        supervisor = self.supervisor
        path = socket_path(self._options.data_dir)
        router = _PresentRouter(supervisor)
        control = cast(ControlHandler, Present(lambda: supervisor.role.control))
        more = (
            LocalService(CLUSTER_METHODS, Present(lambda: supervisor.role.cluster), router),
            LocalService(NODE_METHODS, LocalNode(supervisor)),
        )
        called = self._metrics.called if self._metrics is not None else None
        async with self._serving_metrics(), serve_unix(path, control, local_caller, more, router, called):
            if observer is not None:
                known = supervisor.home.known
                observer.ready(path, known.executor if known is not None else "")
            await self._stopping.wait()

    @asynccontextmanager
    async def _serving_metrics(self) -> AsyncIterator[None]:
        """Answer Prometheus inside the block, if somebody wants that. Raises StackdError."""
        metrics, address = self._metrics, self._options.metrics_address
        if metrics is None:
            yield
            return
        from stackd.daemon.metrics import scrape, serve_metrics

        place = ManagerAddress.parse(address if ":" in address else f"{address}:{METRICS_PORT}")
        async with serve_metrics(place.host, place.port, lambda: scrape(metrics, self.supervisor.present)):
            yield


def _new_metrics() -> Metrics:
    from stackd.daemon.metrics import Metrics  # a fifth of a second that most daemons don't need

    return Metrics()


def local_caller(uid: int) -> Caller:
    return Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name=str(uid)))


@asynccontextmanager
async def _node(options: UpOptions) -> AsyncIterator[Node]:
    """A node that runs inside the block; the data directory is ours alone as long."""
    lock = DirectoryLock.acquire(options.data_dir)
    try:
        node = Node(options)
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
        role: Role = node.supervisor.role
        async for progress in role.control.down(DownRequest(remove=True), local_caller(os.geteuid())):
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
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each agent of the cluster takes one; the usual limit is 1024
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # it calls the ordinary end of a watch an error
