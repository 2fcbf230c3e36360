"""The agent: keeps this node's tasks as the manager last said, and stays in touch with a manager.

Two lives that depend on each other as little as possible. The workers run from the first moment to the last, with or
without a manager: a lost connection touches no task. Sessions come and go: each opens with `Hello`, gets a complete set of
assignments, then increments; when anything is wrong the session ends and the next one starts over.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable
from typing import assert_never

from stackd import __version__
from stackd.agent.executor.base import Executor
from stackd.agent.lease import Lease, LeaseNote
from stackd.agent.logs import LogStreams
from stackd.agent.reporter import Reporter
from stackd.agent.taskfiles import TaskStateStore
from stackd.agent.workforce import OutOfStep, Workforce
from stackd.api.dispatch import (
    Assignments,
    FromAgent,
    FromManager,
    Goodbye,
    Heartbeat,
    Hello,
    LogRequest,
    Renewal,
    Standing,
    Welcome,
)
from stackd.api.stream import Stream, StreamClosed
from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import Entropy, NodeId
from stackd.base.time import SECOND, Duration, SteadyClock
from stackd.engine.parts import NodeCertificate, NodeDescription

log = logging.getLogger(__name__)

BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 8.0
"""Pauses between attempts to connect double within these bounds (semantics 17); each is shortened at random by up to half,
so that the nodes of a cluster don't come back in step."""

WELCOME_SECONDS = 10.0
"""A manager that doesn't answer a `Hello` within this is taken for gone."""

SILENT_HEARTBEATS = 3
"""A manager that has answered nothing for so many heartbeats has gone, or has forgotten the session while the connection
stands."""

DESCRIBE_SECONDS = 20.0
"""The host is looked at again this often (semantics 17)."""

HEARTBEAT_SPREAD = 0.1
"""Heartbeats come earlier by up to this share of their period, on each node by another (semantics 16): nodes that lost their
leader in the same moment don't stay in step."""

LEASE_LOOK_SECONDS = 1.0
"""How often the lease is looked at where tasks depend on it: whoever waits for its end doesn't count what a machine sleeps."""

Connect = Callable[[], Awaitable[Stream[FromManager, FromAgent]]]


class Agent:
    """One node's agent. `connect` opens a stream to whichever manager leads and raises StackdError if there is none."""

    def __init__(
        self,
        node_id: NodeId,
        executor: Executor,
        connect: Connect,
        state: TaskStateStore,
        clock: SteadyClock,
        entropy: Entropy,
        *,
        certificate: Callable[[], NodeCertificate | None] = lambda: None,
        heed: Callable[[Standing], None] = lambda _standing: None,
        redirect: Callable[[str], None] = lambda _leader: None,
    ) -> None:
        """`certificate` says which one the node uses, `heed` is told how the node stands in the cluster, `redirect` where a
        manager that doesn't lead says that the leader is; a node that is a cluster of its own has none of them."""
        self._node_id = node_id
        self._executor = executor
        self._connect = connect
        self._state = state
        self._clock = clock
        self._entropy = entropy
        self._certificate = certificate
        self._heed = heed
        self._redirect = redirect
        self._redirected = False
        self._shown: NodeCertificate | None = None
        self._reporter = Reporter()
        self._description = NodeDescription(hostname=node_id)
        self._described = False
        self._welcomed = False
        self._workforce: Workforce | None = None
        self._lease = Lease(clock.boot)
        self._noted: LeaseNote | None = None
        self._renewed = asyncio.Event()
        self._news = asyncio.Event()
        self._contact: asyncio.Task[None] | None = None
        self._trouble = "none has been asked yet"
        """Why there is no session; "" in one."""

    @property
    def message(self) -> str:
        """What the node has to do without, in one sentence: the manager, and what tasks need that only managers have (contents
        of secrets are in no file, so a restart has lost them). "" if it lacks nothing."""
        if not self._trouble:
            return ""
        waiting = self._workforce.waiting() if self._workforce is not None else []
        told = f"no manager serves this node: {self._trouble}"
        return f"{told}; tasks that wait: {len(waiting)}, the first for {waiting[0]}" if waiting else told

    def tell(self) -> None:
        """The node has another certificate: say so at once, not with the next heartbeat."""
        self._news.set()

    async def clear(self) -> None:
        """Talk to no manager any more, and remove every task from this host, as a node does that has left its cluster. Returns
        when nothing is left."""
        if self._contact is not None:
            self._contact.cancel()
            await asyncio.wait([self._contact])
        if self._workforce is not None:
            self._workforce.apply(Assignments(sequence=0, complete=True))
            await self._workforce.wait_idle()

    async def wait_idle(self) -> None:
        """Returns once no task is left on this host. Records may be gone before the last container is."""
        if self._workforce is not None:
            await self._workforce.wait_idle()

    async def run(self) -> None:
        """Take up what was running, then serve managers until cancelled. The tasks go on without the agent."""
        await self._executor.start()
        self._lease = Lease(self._clock.boot, self._state.load_lease())
        try:
            async with asyncio.TaskGroup() as group:
                workforce = Workforce(self._node_id, self._executor, self._state, self._reporter.put, self._clock, group)
                self._workforce = workforce
                if not self._lease_left():
                    workforce.fence()
                group.create_task(self._keep_lease(workforce), name="lease")
                await workforce.restore()
                self._contact = group.create_task(self._keep_in_touch(workforce), name="contact")
        finally:
            await self._executor.close()

    async def _keep_in_touch(self, workforce: Workforce) -> None:
        pause = BACKOFF_FIRST_SECONDS
        while True:
            self._welcomed = self._redirected = False
            why = self._trouble = await self._session(workforce)
            if self._welcomed or self._redirected:
                pause = BACKOFF_FIRST_SECONDS
            log.info("no manager: node=%s reason=%s", self._node_id, why)
            await asyncio.sleep(pause * (0.5 + self._entropy.getrandbits(16) / 2**17))
            pause = min(2 * pause, BACKOFF_MAX_SECONDS)

    async def _session(self, workforce: Workforce) -> str:
        """One session from connecting to its end; returns why it ended. Whatever goes wrong in it, the next one is tried."""
        try:
            return await self._hold(await self._connect(), workforce)
        except StackdError as error:
            return error.message
        except Exception as exc:
            log.exception("session broke: node=%s", self._node_id)
            return f"internal error: {type(exc).__name__}"

    async def _hold(self, stream: Stream[FromManager, FromAgent], workforce: Workforce) -> str:
        try:
            welcome = await self._open(stream, workforce)
            self._welcomed = True
            self._trouble = ""
            return await self._serve(stream, welcome, workforce)
        finally:
            await stream.close()

    async def _open(self, stream: Stream[FromManager, FromAgent], workforce: Workforce) -> Welcome:
        await self._look_at_host()
        number = self._lease.ask(self._clock.elapsed())
        self._shown = self._certificate()
        hello = Hello(node_id=self._node_id, description=self._description, version=__version__, certificate=self._shown)
        await stream.send(hello)
        try:
            async with asyncio.timeout(WELCOME_SECONDS):
                answer = await stream.receive()
        except TimeoutError:
            raise Unavailable("agent.manager.silent", "the manager does not answer") from None
        match answer:
            case Welcome():
                self._grant(number, workforce, answer.lease_ns)
                self._heed(answer.standing)
                return answer
            case Goodbye():
                raise self._dismissal(answer)
            case Assignments() | LogRequest() | Renewal() | Standing():
                raise OutOfStep("the manager's first message was no welcome")
            case unknown:
                assert_never(unknown)

    async def _serve(self, stream: Stream[FromManager, FromAgent], welcome: Welcome, workforce: Workforce) -> str:
        """Everything between welcome and end; the first part that fails ends all of them."""
        why = "the session has ended"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reporter.run(stream))
                group.create_task(self._beat(stream, welcome.heartbeat_ns))
                silence_seconds = SILENT_HEARTBEATS * welcome.heartbeat_ns / SECOND
                await self._listen(stream, workforce, LogStreams(workforce.worker, stream, group), silence_seconds)
        except* StackdError as errors:
            why = _first(errors)
        _pass_on_cancellation()
        return why

    async def _listen(
        self, stream: Stream[FromManager, FromAgent], workforce: Workforce, logs: LogStreams, silence_seconds: float
    ) -> None:
        while True:
            match message := await _next(stream, silence_seconds):
                case Assignments():
                    workforce.apply(message)
                    self._note_lease(workforce)
                    if message.complete:
                        self._reporter.compare((task.status for task in message.tasks), workforce.statuses())
                case LogRequest():
                    logs.handle(message)
                case Renewal(number=number):
                    self._grant(number, workforce)
                case Standing():
                    self._heed(message)
                case Goodbye():
                    raise self._dismissal(message)
                case Welcome():
                    raise OutOfStep("the manager welcomed the agent twice")
                case unknown:
                    assert_never(unknown)

    def _dismissal(self, goodbye: Goodbye) -> StreamClosed:
        """The end of a session that the manager has ended. Where the leader is, it is known to lead: no pause is due."""
        self._redirected = bool(goodbye.leader)
        self._redirect(goodbye.leader)
        return StreamClosed(goodbye.reason)

    async def _beat(self, stream: Stream[FromManager, FromAgent], period: Duration) -> None:
        """Say that the node is alive, and how it has changed."""
        looked_at = _now()
        seconds = period / SECOND * (1 - HEARTBEAT_SPREAD * zlib.crc32(self._node_id.encode()) / 2**32)
        while True:
            await self._pause(seconds)
            changed = None
            if _now() - looked_at >= DESCRIBE_SECONDS or not self._described:
                looked_at = _now()
                changed = await self._look_at_host()
            number = self._lease.ask(self._clock.elapsed())
            await stream.send(Heartbeat(description=changed, number=number, certificate=self._renewed_certificate()))

    async def _pause(self, seconds: float) -> None:
        """Until the next heartbeat is due, or there is something to tell."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass  # all is as it was
        self._news.clear()

    def _renewed_certificate(self) -> NodeCertificate | None:
        """The node's certificate if it is another one than the manager was told of."""
        present = self._certificate()
        if present == self._shown:
            return None
        self._shown = present
        return present

    def _grant(self, number: int, workforce: Workforce, lasts: Duration | None = None) -> None:
        self._lease.grant(number, lasts)
        self._note_lease(workforce)
        if self._lease_left():
            workforce.unfence()
        self._renewed.set()

    def _note_lease(self, workforce: Workforce) -> None:
        """For the next life of the agent. What can't be noted ends sooner there: it goes by what was noted before."""
        if self._lease.note == self._noted or not workforce.has_tasks_to_fence:
            return
        try:
            self._state.save_lease(self._lease.note)
            self._noted = self._lease.note
        except OSError as exc:
            log.warning("lease not on file: node=%s error=%s", self._node_id, exc)

    async def _keep_lease(self, workforce: Workforce) -> None:
        """Stop the tasks that are to be fenced whenever the lease has run out."""
        while True:
            while left := self._lease_left():
                await asyncio.sleep(min(left / SECOND, LEASE_LOOK_SECONDS) if workforce.has_tasks_to_fence else left / SECOND)
            workforce.fence()
            self._renewed.clear()
            await self._renewed.wait()

    def _lease_left(self) -> Duration:
        return self._lease.left(self._clock.elapsed())

    async def _look_at_host(self) -> NodeDescription | None:
        """The host's description if it has changed. An engine that doesn't answer leaves the last one standing."""
        try:
            description = await self._executor.describe()
            self._described = True
        except StackdError as error:
            self._described = False
            log.info("the host can't be described now: node=%s error=%s", self._node_id, error)
            return None
        if description == self._description:
            return None
        self._description = description
        return description


async def _next(stream: Stream[FromManager, FromAgent], silence_seconds: float) -> FromManager:
    try:
        async with asyncio.timeout(silence_seconds):
            return await stream.receive()
    except TimeoutError:
        raise Unavailable("agent.manager.silent", "the manager does not answer") from None


def _now() -> float:
    """The loop's own time: seconds that no change of the clock shortens."""
    return asyncio.get_running_loop().time()


def _pass_on_cancellation() -> None:
    """A TaskGroup whose part fails in the moment in which it is cancelled itself reports the failure and forgets the
    cancellation, as happens when the manager says goodbye and the daemon ends."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _first(errors: BaseExceptionGroup[StackdError]) -> str:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first.message
