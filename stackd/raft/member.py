"""A member of the cluster as the daemon uses it: the asyncio side of `node.Node`, and the thread that drives it.

The thread waits in the node's `tick` until a message comes, something is asked, or time is due; it doesn't poll. What is
asked gathers while the disk is busy, and is written together. What comes of it returns to the event loop in one call for
each tick: entries first, then changes of role, then answers.

When the node ends (its disk fails, it was removed, it meets what must not be) this member follows, and says so: it announces
that it doesn't lead, and answers everything with the reason.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from stackd.base.errors import StackdError, Unavailable
from stackd.base.records import encode
from stackd.raft.backup import Content
from stackd.raft.channel import Announcements, Channel
from stackd.raft.consensus import (
    Entry,
    Installed,
    Keyring,
    Leadership,
    Member,
    SnapshotView,
    StorageFailed,
    check_size,
)
from stackd.raft.disk import Disk
from stackd.raft.frame import Identity
from stackd.raft.membership import Membership
from stackd.raft.node import Node
from stackd.raft.peers import Alone, Peers
from stackd.raft.settings import DEFAULT_SETTINGS, Settings
from stackd.raft.snapshot import SnapshotJob
from stackd.raft.ticket import Output, Ticket

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Request:
    """Something to be asked of the node, in its thread. `abandon` answers it when it won't be."""

    ask: Callable[[], None]
    abandon: Callable[[], None]
    size: int = 0


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The present term, and the indexes of the last entry in the log, of the last one known to be committed, and of the last
    one that the newest snapshot covers."""

    term: int
    last: int
    committed: int
    snapshot: int


class ClusterMember:
    """One member. It satisfies `consensus.Consensus`; whoever makes it holds the directory's lock."""

    def __init__(
        self,
        disk: Disk,
        keys: Keyring,
        identity: Identity,
        *,
        peers: Peers | None = None,
        initial: Membership | None = None,
        settings: Settings = DEFAULT_SETTINGS,
    ) -> None:
        """Without `peers` it has none. `initial` is who the members are until the directory says so: by default a cluster of
        one, which it founds."""
        self._me = identity.member
        self._peers = peers or Alone()
        self._node = Node(
            disk,
            keys,
            identity,
            self._peers,
            initial=initial or Membership.sole(identity.member),
            clock=time.monotonic,
            random=Random(),
            settings=settings,
        )
        self._settings = settings
        self._requests: deque[_Request] = deque()
        self._futures: dict[Ticket, asyncio.Future[int]] = {}
        self._unanswered = 0
        self._thread = threading.Thread(target=self._run, name="raft", daemon=True)
        self._snapshot_thread = ThreadPoolExecutor(1, "raft-snapshot")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = False
        self._stopping = False
        self._committed: Channel[Entry | Installed] = Channel()
        self._role = Announcements(Leadership(0, is_leader=False))
        self._snapshotting = False
        self._ended = asyncio.Event()

    async def start(self) -> bytes | None:
        """See Consensus. A cluster of one leads on return, unless there is a `storage_error`. Raises as `Node.open` does."""
        self._loop = asyncio.get_running_loop()
        try:
            content = await asyncio.to_thread(self._open)
        except BaseException:
            await self.close()
            raise
        self._deliver(self._node.take(), [])
        self._is_open = True
        self._thread.start()
        return content

    async def propose(self, data: bytes, term: int) -> int:
        """See Consensus. Raises also LogUnusable, raft.member.removed or what else ended the node, and Unavailable with
        raft.closed or raft.overloaded."""
        check_size(data)
        self._check_running()
        if self._unanswered >= self._settings.waiting_proposals:
            raise Unavailable("raft.overloaded", "the log can't keep up with what is being proposed")
        self._unanswered += 1
        try:
            return await self._answer(lambda: self._node.propose(data, term), len(data))
        finally:
            self._unanswered -= 1

    async def read_barrier(self) -> int:
        """See Consensus. Raises NotLeader and as `propose` does."""
        self._check_running()
        return await self._answer(self._node.read)

    def leadership(self) -> AsyncIterator[Leadership]:
        return self._role.follow()

    def committed(self) -> AsyncIterator[Entry | Installed]:
        return self._committed.items()

    @property
    def storage_error(self) -> StorageFailed | None:
        """Why nothing can be written at present; None if it can, as far as is known."""
        return self._node.storage_error

    def leader(self) -> str:
        """See Cluster."""
        return self.known_leader

    def feature_level(self) -> int:
        """See Cluster."""
        return self._node.membership.feature_level

    @property
    def known_leader(self) -> str:
        """See Cluster. A member that is cut off campaigns in vain, and would name the leader of old for ever."""
        leader = self._node.leader
        return leader if leader == self._me or leader in self._node.connected else ""

    @property
    def known_addresses(self) -> Mapping[str, str]:
        """See Cluster."""
        return self._node.membership.addresses

    @property
    def log_position(self) -> LogPosition:
        """How far this member's log is. Costs nothing."""
        node = self._node
        return LogPosition(node.term, node.last.index, node.commit_index, node.snapshot_index)

    async def members(self) -> tuple[Member, ...]:
        """See Cluster."""
        self._check_running()
        node, membership = self._node, self._node.membership
        return tuple(
            Member(
                node=member,
                address=address,
                is_voter=member in membership.voter_ids,
                is_leader=member == node.leader,
                is_connected=member == self._me or member in node.connected,
            )
            for member, address in sorted(membership.addresses.items())
        )

    async def add(self, member: str, address: str) -> bytes:
        """See Cluster. Raises NotLeader, StorageFailed, OutcomeUnknown; Unavailable("raft.member.change_pending")."""
        self._check_running()
        await self._answer(lambda: self._node.add(member, address))
        return await self._call(lambda: encode(self._node.membership))

    async def remove(self, member: str) -> None:
        """See Cluster. Raises as `add`; NotFound("raft.member.unknown"); Refused with raft.member.leads, .last, .quorum."""
        self._check_running()
        await self._answer(lambda: self._node.remove(member))

    async def transfer_leadership(self, to: str = "") -> None:
        """See Cluster. Raises NotLeader; Refused("raft.transfer.impossible"); Unavailable("raft.transfer.failed")."""
        self._check_running()
        await self._answer(lambda: self._node.transfer_leadership(to))

    def snapshot_due(self) -> bool:
        return not self._snapshotting and self._node.snapshot_due()

    async def take_snapshot(self, view: SnapshotView) -> None:
        """See Consensus. Does nothing while another one is being written, or if there is one as new."""
        self._check_running()
        if self._snapshotting:
            return
        self._snapshotting = True
        try:
            job = await self._call(lambda: self._node.begin_snapshot(view.index))
            if job is not None:
                await self._write_snapshot(job, view)
        except StorageFailed:
            self._node.snapshot_failed()
            raise
        finally:
            self._snapshotting = False

    async def content(self, view: SnapshotView) -> Content:
        """See Cluster. Raises Unavailable("raft.backup.moved")."""
        self._check_running()
        content = await self._call(lambda: self._node.content(view))
        if content is None:
            raise Unavailable("raft.backup.moved", "the log has moved on meanwhile", hint="try again")
        return content

    async def ended(self) -> StackdError:
        """Return, with the reason, once the node has ended by itself: nothing but a restart helps then, if that."""
        await self._ended.wait()
        assert self._node.failure is not None
        return self._node.failure

    async def close(self) -> None:
        """Write what was accepted, give up what isn't committed, and end the streams."""
        self._is_open = False
        self._stopping = True
        self._peers.wake()
        await asyncio.to_thread(self._join)
        while self._requests:
            self._requests.popleft().abandon()
        self._committed.end()
        self._role.end()

    def _check_running(self) -> None:
        if not self._is_open:
            raise _not_running()
        if self._node.failure is not None:
            raise self._node.failure.with_traceback(None)

    # -- in the node's thread

    def _open(self) -> bytes | None:
        """Open the directory. A cluster of one has nobody to wait for."""
        content = self._node.open()
        if self._node.is_sole_voter:
            self._node.tick()
            if self._node.failure is not None:
                raise self._node.failure
        return content

    def _run(self) -> None:
        while not self._stopping:
            self._node.tick(self._wait_seconds(), self._gather)
            self._hand_out()
        self._node.tick(0.0, self._gather)
        self._node.close()
        self._hand_out()

    def _wait_seconds(self) -> float | None:
        """How long to wait for what the others say. A leader at rest has waited already: it takes in the answers to a heartbeat
        when the next one is due, all at once, and is woken a third as often."""
        if self._requests:
            return 0.0
        seconds = self._node.due_in()
        return 0.0 if self._node.awaits_nothing and self._peers.rest(seconds) else seconds

    def _gather(self) -> None:
        """Take up what is asked, but not more proposals than should be written together."""
        size = 0
        while self._requests and size < self._settings.batch_bytes:
            request = self._requests.popleft()
            request.ask()
            size += request.size

    def _hand_out(self) -> None:
        output = self._node.take()
        if output.items or output.roles or output.done or self._node.failure is not None:
            answered = [(ticket, future) for ticket in output.done if (future := self._futures.pop(ticket, None))]
            self._to_loop(lambda: self._deliver(output, answered))

    def _to_loop(self, callback: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            pass  # the loop was closed under us: nobody is left to hear it

    def _join(self) -> None:
        self._snapshot_thread.shutdown()
        if self._thread.ident is None:  # it never began
            self._node.close()
        else:
            self._thread.join()

    # -- in the event loop

    def _answer(self, ask: Callable[[], Ticket], size: int = 0) -> asyncio.Future[int]:
        """Ask the node, and wait for the ticket to be done."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def register() -> None:
            self._futures[ask()] = future

        self._ask(_Request(register, lambda: _fail(future, _not_running()), size))
        return future

    def _call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """What `function` returns when it is called in the node's thread."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def call() -> None:
            try:
                result = function()
            except StackdError as error:
                self._to_loop(lambda error=error: _fail(future, error))  # type: ignore[misc]
            else:
                self._to_loop(lambda: None if future.done() else future.set_result(result))

        self._ask(_Request(call, lambda: _fail(future, _not_running())))
        return future

    def _ask(self, request: _Request) -> None:
        self._requests.append(request)
        self._peers.wake()

    async def _write_snapshot(self, job: SnapshotJob, view: SnapshotView) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._snapshot_thread, lambda: job.write(view.chunks()))
        if self._is_open:
            await self._call(lambda: self._node.finish_snapshot(job))

    def _deliver(self, output: Output, answered: list[tuple[Ticket, asyncio.Future[int]]]) -> None:
        for item in output.items:
            self._committed.put(item)
        for role in output.roles if not self._stopping else ():  # whoever closes it knows
            self._role.announce(role)
        for ticket, future in answered:
            if ticket.index is None:
                _fail(future, ticket.error or _not_running())
            elif not future.done():  # whoever asked may have been cancelled
                future.set_result(ticket.index)
        if self._node.failure is not None and self._is_open:
            self._ended.set()


def _not_running() -> Unavailable:
    return Unavailable("raft.closed", "the member is not running")


def _fail(future: asyncio.Future[T], error: StackdError) -> None:
    if not future.done():
        future.set_exception(error)
