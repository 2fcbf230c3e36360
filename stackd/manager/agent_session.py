"""One session with one agent: what goes out, what comes in, and how it ends.

Three activities share a stream and end together: listening, telling, and handing reports to the writer loop. Each batch
forms while the one before is under way. Whatever goes wrong ends the session; the agent then opens another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import count, islice
from typing import NoReturn, assert_never

from stackd.api.dispatch import (
    LOG_WINDOW,
    FromAgent,
    FromManager,
    Heartbeat,
    Hello,
    LogChunk,
    LogRequest,
    Renewal,
    Standing,
    TaskReports,
    Welcome,
)
from stackd.api.stream import Stream, StreamClosed
from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import TaskId
from stackd.base.time import Instant
from stackd.engine.inputs import RegisterNode, ReportTasks
from stackd.engine.parts import NodeCertificate, NodeDescription
from stackd.engine.status import TaskStatus
from stackd.manager.assignments import NodeAssignments
from stackd.manager.liveness import HEARTBEAT_FAILURE, Submit

REPORTS_PER_ENTRY = 200
"""Statuses handed over at once: an entry stays small, and the rest is the next one's."""

OVERLOAD_SECONDS = 0.5
"""Pause before reports are offered again to a manager that has too much to do."""

_GRANT = LOG_WINDOW // 2
"""Lines read before the agent is granted as many more."""


class HeartbeatFailure(StackdError):
    """The agent has been silent for the whole grace period."""

    def __init__(self) -> None:
        super().__init__("manager.session.silent", HEARTBEAT_FAILURE)


class AgentSession:
    """A session from the agent's hello on. `touch`, `end` and `tail` may be called before `run`."""

    def __init__(
        self,
        hello: Hello,
        stream: Stream[FromAgent, FromManager],
        assignments: NodeAssignments,
        submit: Submit,
        grace_seconds: float,
        address: str,
    ) -> None:
        self.node_id = hello.node_id
        self._stream = stream
        self._assignments = assignments
        self._submit = submit
        self._grace_seconds = grace_seconds
        self._address = address
        self._description = hello.description
        self._standing = Standing()
        self._told_standing = self._standing
        self._due = asyncio.Event()
        self._touched: set[TaskId] = set()
        self._requests: list[LogRequest] = []
        self._renewal = 0
        self._reported = asyncio.Event()
        self._reports: dict[TaskId, TaskStatus] = {}
        self._tails: dict[int, asyncio.Queue[LogChunk]] = {}
        self._numbers = count(1)
        self._ended = asyncio.Event()
        self._why = ""
        self.heard_at = asyncio.get_running_loop().time()
        """When the agent last said something, its hello at first."""

    def touch(self, task_id: TaskId) -> None:
        """This task may have changed: tell the agent if so."""
        self._touched.add(task_id)
        self._due.set()

    def stand(self, standing: Standing) -> None:
        """This is how the node stands in the cluster now: tell the agent if that is news."""
        self._standing = standing
        self._due.set()

    def end(self, why: str) -> None:
        """Bring the session to its end; `run` raises soon."""
        self._why = why
        self._ended.set()

    async def run(self, welcome: Welcome) -> NoReturn:
        """Welcome the agent and serve it. Ends with the StackdError that says why."""
        why: StackdError = StreamClosed()
        self._standing = self._told_standing = welcome.standing
        try:
            await self._stream.send(welcome)
            for message in self._assignments.complete():
                await self._stream.send(message)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                group.create_task(self._tell())
                group.create_task(self._hand_over())
                group.create_task(self._wait_for_end())
        except* StackdError as errors:
            why = _first(errors)
        finally:
            self._break_tails()
        raise why

    async def tail(self, task_id: TaskId, *, follow: bool, tail: int, since: Instant) -> AsyncGenerator[LogChunk, None]:
        """Lines of a task's log, the last chunk with `end`."""
        number = next(self._numbers)
        queue = self._tails[number] = asyncio.Queue()
        self._request(LogRequest(request=number, task_id=task_id, follow=follow, tail=tail, since_ns=since))
        read = 0
        try:
            while True:
                chunk = await queue.get()
                yield chunk
                if chunk.end:
                    return
                read += 1
                if read % _GRANT == 0:
                    self._request(LogRequest(request=number, task_id=task_id, more=_GRANT))
        finally:
            if self._tails.pop(number, None) is not None:
                self._request(LogRequest(request=number, task_id=task_id, cancel=True))

    def _request(self, request: LogRequest) -> None:
        self._requests.append(request)
        self._due.set()

    def _renew(self, number: int) -> None:
        """Answer a heartbeat; the latest one answers for all before it."""
        self._renewal = number
        self._due.set()

    async def _wait_for_end(self) -> None:
        await self._ended.wait()
        raise StreamClosed(self._why)

    async def _tell(self) -> None:
        """Send what has gathered, again and again."""
        while True:
            await self._due.wait()
            self._due.clear()
            if number := self._renewal:
                self._renewal = 0
                await self._stream.send(Renewal(number=number))
            if self._standing != self._told_standing:
                self._told_standing = self._standing
                await self._stream.send(self._standing)
            requests, self._requests = self._requests, []
            for request in requests:
                await self._stream.send(request)
            touched, self._touched = self._touched, set()
            for message in self._assignments.changes(touched):
                await self._stream.send(message)

    async def _listen(self) -> None:
        while True:
            match message := await self._next():
                case TaskReports():
                    self._take_in(message)
                case Heartbeat(description=description, number=number, certificate=certificate):
                    self._renew(number)
                    if description is not None or certificate is not None:
                        await self._describe(description or self._description, certificate)
                case LogChunk():
                    self._pass_on(message)
                case Hello():
                    raise StackdError("manager.session.second_hello", "the agent said hello twice")
                case unknown:
                    assert_never(unknown)

    async def _next(self) -> FromAgent:
        try:
            async with asyncio.timeout(self._grace_seconds):
                message = await self._stream.receive()
        except TimeoutError:
            raise HeartbeatFailure from None
        self.heard_at = asyncio.get_running_loop().time()
        return message

    async def _describe(self, description: NodeDescription, certificate: NodeCertificate | None) -> None:
        self._description = description
        await self._submit(
            RegisterNode(id=self.node_id, description=description, address=self._address, certificate=certificate)
        )

    def _take_in(self, message: TaskReports) -> None:
        """Keep the newest status of each task that the agent was told of; others are none of its business."""
        for status in message.statuses:
            if self._assignments.knows(status.id):
                self._reports[status.id] = status
        self._reported.set()

    async def _hand_over(self) -> None:
        """Give reports to the writer loop, each batch durable before the next."""
        while True:
            await self._reported.wait()
            batch = tuple(islice(self._reports.values(), REPORTS_PER_ENTRY))
            for status in batch:
                del self._reports[status.id]
            if not self._reports:
                self._reported.clear()
            if batch:
                await self._submit_reports(ReportTasks(node_id=self.node_id, statuses=batch))

    async def _submit_reports(self, reports: ReportTasks) -> None:
        while True:
            try:
                await self._submit(reports)
                return
            except Unavailable:
                await asyncio.sleep(OVERLOAD_SECONDS)

    def _pass_on(self, chunk: LogChunk) -> None:
        """To the reader of that log, if there still is one. The window bounds the queue."""
        queue = self._tails.get(chunk.request)
        if queue is None:
            return
        if queue.qsize() > LOG_WINDOW:
            raise StackdError("manager.session.flood", "the agent sends more log lines than it was granted")
        if chunk.end:
            del self._tails[chunk.request]
        queue.put_nowait(chunk)

    def _break_tails(self) -> None:
        for number, queue in self._tails.items():
            queue.put_nowait(LogChunk(request=number, end=True, error="the connection to the node was lost"))
        self._tails.clear()


def _first(errors: BaseExceptionGroup[StackdError]) -> StackdError:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
