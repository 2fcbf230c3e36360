"""Tells agents what to run and takes in what they report.

One session per node: the agent's `Hello` registers the node, then a complete set of assignments goes out, then increments
whenever an applied entry touched a task of the node. Increments and reports form their batches by themselves while the
one before is under way; there are no timers but the heartbeat's. The dispatcher decides nothing and keeps nothing: a
session that ends for any reason is followed by one that starts over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count

from stackd.api.dispatch import FromAgent, FromManager, Goodbye, Hello, LogChunk, Welcome
from stackd.api.stream import Stream, StreamClosed
from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import NodeId, TaskId
from stackd.base.time import SECOND, Duration, Instant
from stackd.engine.inputs import RegisterNode, Rejected
from stackd.engine.model import Authority, Node, Task
from stackd.engine.parts import NodeState
from stackd.engine.status import NodeStatus, TaskStatus
from stackd.engine.store import Changes
from stackd.engine.view import View
from stackd.manager.agent_session import AgentSession, HeartbeatFailure
from stackd.manager.assignments import NodeAssignments, OpenBlob
from stackd.manager.liveness import Liveness, Submit
from stackd.manager.standing import managers_of, standing_of

log = logging.getLogger(__name__)

HEARTBEAT = Duration(5 * SECOND)
"""How often agents say that they are alive (semantics 16)."""

GRACE_HEARTBEATS = 3
"""Missing this many in a row means that the node is down."""

HELLO_SECONDS = 10.0
"""A stream that doesn't say who it is within this is closed."""

_REMOVED = "the node was removed from the cluster"

STOP_SECONDS = 2.0
"""How long `stop` waits for the agents to hear the goodbye."""


class Dispatcher:
    """All sessions of this manager. Build it before the first entry is applied and have `notice` told of each."""

    def __init__(
        self,
        view: View,
        submit: Submit,
        open_blob: OpenBlob,
        heartbeat: Duration = HEARTBEAT,
    ) -> None:
        self._view = view
        self._submit = submit
        self._open_blob = open_blob
        self._heartbeat = heartbeat
        self._grace_seconds = GRACE_HEARTBEATS * heartbeat / SECOND
        self._liveness = Liveness(submit, self._grace_seconds)
        self._sessions: dict[NodeId, AgentSession] = {}
        self._node_of = {task.id: task.node_id for task in view.tasks.values() if task.node_id}
        self._serving: set[asyncio.Event] = set()
        self._numbers = count(1)
        self._stopping: Goodbye | None = None
        self._managers = managers_of(view)

    @property
    def agents(self) -> int:
        """How many nodes have a session."""
        return len(self._sessions)

    async def run(self) -> None:
        """Watch over nodes that are out of touch, until cancelled."""
        known = (status.id for status in self._view.node_statuses.values() if status.state != NodeState.DOWN)
        self._liveness.expect(node_id for node_id in known if node_id not in self._sessions)
        for status in self._view.node_statuses.values():
            self._look_at_manager(status)
        await self._liveness.run()

    async def serve(
        self,
        stream: Stream[FromAgent, FromManager],
        *,
        address: str = "",
        node: Node | None = None,
        peer: NodeId | None = None,
    ) -> None:
        """Hold one session until it ends. `node` is what to create if the node is unknown and may join; `peer` is who is at
        the other end, where a certificate says so."""
        over = asyncio.Event()
        self._serving.add(over)
        try:
            hello = await self._hello(stream)
            if peer is not None and hello.node_id != peer:
                raise StackdError("manager.session.forged", f"node {peer} says that it is {hello.node_id}")
            await self._attend(hello, stream, address, node)
        except StackdError as error:
            log.info("session over: reason=%s", error.message)
            await _say_goodbye(stream, self._stopping or Goodbye(reason=error.message))
        except Exception:
            log.exception("session broke")
        finally:
            self._serving.discard(over)
            over.set()
            await stream.close()

    def notice(self, changes: Changes) -> None:
        """An entry was applied: remember which sessions it concerns."""
        for row in changes.puts:
            match row:
                case Task() if row.node_id:
                    self._node_of[row.id] = row.node_id
                    self._touch(row.node_id, row.id)
                case NodeStatus() if row.state is NodeState.UNKNOWN and (session := self._sessions.get(row.id)):
                    session.end("a new leader has to hear from every node")
                case TaskStatus() if node_id := self._node_of.get(row.id):
                    self._touch(node_id, row.id)
                case _:
                    pass
        for table, key in changes.deletes:
            if table == "tasks" and (node_id := self._node_of.pop(TaskId(key), None)):
                self._touch(node_id, TaskId(key))
            elif table == "nodes" and (session := self._sessions.get(NodeId(key))):
                session.end(_REMOVED)
        self._review(changes)

    def _look_at_manager(self, status: NodeStatus) -> None:
        if status.manager is not None and not status.manager.reachable:
            self._liveness.unreachable(status.id)

    def _review(self, changes: Changes) -> None:
        """Tell the nodes whose standing in the cluster has changed."""
        rows = [row for row in changes.puts if isinstance(row, Authority | Node | NodeStatus)]
        for row in rows:
            if isinstance(row, NodeStatus):
                self._look_at_manager(row)
        if any(isinstance(row, NodeStatus) for row in rows) or any(table == "node_statuses" for table, _ in changes.deletes):
            former, self._managers = self._managers, managers_of(self._view)
            everyone = former != self._managers
        else:
            everyone = False
        if everyone or any(isinstance(row, Authority) for row in rows):
            concerned = set(self._sessions)
        else:
            concerned = {row.id for row in rows if not isinstance(row, Authority)}
        for node_id in concerned & self._sessions.keys():
            self._sessions[node_id].stand(standing_of(self._view, node_id, self._managers))

    async def tail_logs(self, task: Task, *, follow: bool, tail: int, since: Instant) -> AsyncGenerator[LogChunk, None]:
        """Lines of a task's log from its node; the last chunk has `end`, and `error` if the stream broke. Raises
        Unavailable if the node has no session."""
        session = self._sessions.get(task.node_id)
        if session is None:
            where = f"node {task.node_id} is not connected" if task.node_id else "the task is not on any node yet"
            raise Unavailable("manager.logs.unavailable", where)
        async with aclosing(session.tail(task.id, follow=follow, tail=tail, since=since)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stop(self, reason: str = "the manager is stopping", leader: str = "") -> None:
        """End all sessions and open no more; the nodes are not reported as gone."""
        self._stopping = Goodbye(reason=reason, leader=leader)
        for session in self._sessions.values():
            session.end(reason)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while self._serving:
                    await next(iter(self._serving)).wait()
        except TimeoutError:
            log.info("not every agent heard the goodbye: seconds=%s", STOP_SECONDS)

    async def _hello(self, stream: Stream[FromAgent, FromManager]) -> Hello:
        if self._stopping:
            raise StreamClosed(self._stopping.reason)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                first = await stream.receive()
        except TimeoutError:
            raise StackdError("manager.session.no_hello", "the agent does not say who it is") from None
        if not isinstance(first, Hello):
            raise StackdError("manager.session.no_hello", "the agent's first message was no hello")
        if self._stopping:  # meanwhile: the sessions that `stop` ends are those that it finds
            raise StreamClosed(self._stopping.reason)
        return first

    async def _attend(self, hello: Hello, stream: Stream[FromAgent, FromManager], address: str, node: Node | None) -> None:
        """The session of a node that has said who it is. It takes the place of an older one before anything else, so
        that whatever still becomes of that one is no verdict on the node."""
        assignments = NodeAssignments(self._view, hello.node_id, self._open_blob)
        session = AgentSession(hello, stream, assignments, self._submit, self._grace_seconds, address)
        if former := self._sessions.get(hello.node_id):
            former.end("a newer session of this node has opened")
        self._sessions[hello.node_id] = session
        self._liveness.opened(hello.node_id)
        why: StackdError | None = None
        try:
            await self._register(hello, address, node)
            await session.run(self._welcome(hello.node_id))
        except StackdError as error:
            why = error
            raise
        finally:
            self._forget(session, silent=isinstance(why, HeartbeatFailure))

    def _welcome(self, node_id: NodeId) -> Welcome:
        cluster = self._view.cluster
        lease = cluster.lease_ns if cluster is not None else Duration(0)
        standing = standing_of(self._view, node_id, self._managers)
        return Welcome(session=str(next(self._numbers)), heartbeat_ns=self._heartbeat, lease_ns=lease, standing=standing)

    async def _register(self, hello: Hello, address: str, node: Node | None) -> None:
        """Make the node known and READY."""
        registration = RegisterNode(
            id=hello.node_id, description=hello.description, address=address, node=node, certificate=hello.certificate
        )
        reply = await self._submit(registration)
        if isinstance(reply, Rejected):
            raise StackdError(reply.code, reply.message)
        if hello.node_id not in self._view.nodes:  # a removal in the same entry leaves no trace that `notice` could see
            raise StackdError("node.unknown", _REMOVED)

    def _forget(self, session: AgentSession, *, silent: bool) -> None:
        if self._sessions.get(session.node_id) is not session:
            return
        del self._sessions[session.node_id]
        if self._stopping:
            return
        if silent:
            self._liveness.silent(session.node_id)
        else:
            self._liveness.lost(session.node_id, "the node's connection was lost", session.heard_at)

    def _touch(self, node_id: NodeId, task_id: TaskId) -> None:
        if session := self._sessions.get(node_id):
            session.touch(task_id)


async def turn_away(stream: Stream[FromAgent, FromManager], goodbye: Goodbye) -> None:
    """Send an agent away that has just opened a stream. It speaks first: a stream that ended while its hello is under way would
    take the goodbye, and where the leader is, with it."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await stream.receive()
    except (StackdError, TimeoutError):
        pass  # whatever it has to say, it isn't for this manager
    await _say_goodbye(stream, goodbye)
    await stream.close()


async def _say_goodbye(stream: Stream[FromAgent, FromManager], goodbye: Goodbye) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await stream.send(goodbye)
    except (StreamClosed, TimeoutError):
        pass  # it has gone, or doesn't listen
