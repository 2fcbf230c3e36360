"""Lets the node be what its directory and its certificate say, one role after the other, while its agent works on.

Nothing here decides what the node shall be: commands (`local.py`), a renewed certificate, or a role that has ended change what
is on the disk, and the supervisor takes the next role from there. So a restart at any moment goes on where it stood. The agent
is there from the moment at which the node has a name until it has left its cluster; changing roles touches no task.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from stackd.agent.session import Agent
from stackd.agent.taskfiles import TaskFiles
from stackd.api.addresses import ManagerAddress
from stackd.api.dispatch import FromAgent, FromManager, Standing
from stackd.api.stream import Stream
from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.daemon.addresses import Addresses, changed, is_here
from stackd.daemon.clock import SystemClock
from stackd.daemon.credentials import Credentials
from stackd.daemon.desk import Desk
from stackd.daemon.executors import DOCKER, build_executor, choose_executor, docker_host, import_executor
from stackd.daemon.home import Home, Station
from stackd.daemon.identity import Identity, new_identity
from stackd.daemon.managing import ManagerRole, Network, managing
from stackd.daemon.options import UpOptions
from stackd.daemon.reach import Reach
from stackd.daemon.renewal import Renewal
from stackd.daemon.role import ALONE, IDLE, IS_LOCKED, LOCKED, NO_CLUSTER, NOT_A_MANAGER, Role, Waiting
from stackd.daemon.worker import Worker
from stackd.engine.parts import NodeCertificate
from stackd.engine.parts import Role as NodeRole
from stackd.manager.feed import Feed
from stackd.security.keyring import NodeKeys

if TYPE_CHECKING:
    from stackd.daemon.metrics import Metrics

log = logging.getLogger(__name__)

_LOCKED = ("security.key.locked", "security.key.wrong_unlock_key")


class Membership:
    """What a node has that is in a cluster with others: its certificate, kept good, and the way to the managers."""

    def __init__(self, credentials: Credentials, reach: Reach, renewal: Renewal) -> None:
        self.credentials = credentials
        self.reach = reach
        self.renewal = renewal


class Supervisor:
    """`run` is the node's life, from the start to `stop`."""

    def __init__(
        self, options: UpOptions, home: Home, stop: Callable[[], Awaitable[None]], metrics: Metrics | None = None
    ) -> None:
        """`stop` is what a client calls to end the daemon."""
        self.options = options
        self.home = home
        self.clock = SystemClock()
        self.entropy = random.SystemRandom()
        self.unlock_key = ""
        """What opens the manager's keys, while it is known: roles change without anybody being asked for it again."""
        self.present: Role | None = None
        """The role that the node has; None between two."""
        self.membership: Membership | None = None
        self._desk = Desk(options, self.wait_idle, stop, metrics)
        self._changes = Feed()
        self._turn = asyncio.Event()
        self._stopping = False
        self._leaving = False
        self._tasks = TaskFiles(home.path / "agent")
        self._agent: Agent | None = None
        self._lives: list[asyncio.Task[None]] = []
        """Agent and renewal: what goes on while roles change."""
        self.welcomed = asyncio.Event()
        """A manager has said how this node stands in the cluster."""
        self._failure: StackdError | None = None
        """Why the node's life has ended."""

    # What commands and the local API use

    @property
    def role(self) -> Role:
        """The role that the node has. Raises Unavailable while it changes."""
        if self.present is None:
            raise Unavailable("daemon.changing", "this node is changing its role", hint="try again in a moment")
        return self.present

    @property
    def changes(self) -> int:
        """Counts the roles that there were."""
        return self._changes.index

    async def wait_past(self, changes: int) -> None:
        """Return once there is another role than the one that `changes` counted. Raises why there won't be one."""
        await self._changes.wait_past(changes)
        self.check()

    def check(self) -> None:
        """Raises StackdError once the node's life has ended, with the reason: whoever waits for something hears it."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    def turn(self) -> None:
        """What is on the disk has changed: take up the role that it says."""
        self._turn.set()

    def vacate(self) -> None:
        """Leave the cluster: every task and everything that belongs to the cluster is removed from this host."""
        self._leaving = True
        self._turn.set()

    def stop(self) -> None:
        """End the node; tasks go on."""
        self._stopping = True
        self._turn.set()

    async def wait_idle(self) -> None:
        """Returns once no task is left on this host."""
        if self._agent is not None:
            await self._agent.wait_idle()

    @property
    def trouble(self) -> str:
        """What the node's agent lacks, in one sentence; "" for nothing."""
        return self._agent.message if self._agent is not None else ""

    def named(self, identity: Identity) -> Identity:
        """`identity` with the executor that this node is to have. Raises Refused("daemon.executor.changed")."""
        known = self.home.known
        executor = choose_executor(self.options, known, tasks_known=bool(self._tasks.load()))
        host = docker_host(self.options, known) if executor == DOCKER else ""
        return msgspec.structs.replace(identity, executor=executor, docker_host=host)

    def found(self) -> None:
        """Make this node a cluster of one, on the disk. Raises what making keys and log raises."""
        self.home.remember(self.named(self.home.known or new_identity(self.entropy, "")))
        self.home.open_log(self.home.open_keys())

    # The node's life

    async def run(self) -> None:
        """Raises an ExceptionGroup when a role can't be taken up, or can't go on; what `_take_addresses` raises before that."""
        self._take_addresses()
        try:
            await self._be_what_it_is()
        except ExceptionGroup as errors:
            self._end(reason_of(errors) or Unavailable("daemon.broken", "the daemon ends by a defect", hint="see its log"))
            raise
        self._end(_stopping())

    def _end(self, why: StackdError) -> None:
        """There will be no other role."""
        self._failure = why
        self.present = None
        self._changes.advance(self._changes.index + 1)

    async def _be_what_it_is(self) -> None:
        """One role after the other."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                self._turn.clear()
                if self._leaving:
                    await self._clear_out()
                async with self._next_role() as role:
                    self._employ(group)
                    self.present = role
                    await self._until_taken_up(role)
                    self._changes.advance(self._changes.index + 1)
                    if role.state == IDLE:
                        group.create_task(asyncio.to_thread(import_executor, self.options, self.home.known), name="import")
                    over = await self._until_over(role)
                    self.present = None
                if isinstance(role, Worker | ManagerRole):
                    self.unlock_key = role.unlock_key
                if over and isinstance(role, ManagerRole):
                    self.home.end_as_manager()
            for life in self._lives:
                life.cancel()

    def _take_addresses(self) -> None:
        """A node that is in a cluster takes up the addresses that it was started with; others hear of it from the manager that
        it is (`moving.py`). Raises Refused("daemon.address.gone") for a manager that can't listen where it did, and what
        choosing addresses raises."""
        identity = self.home.known
        if identity is None or not identity.advertise:
            return
        former = Addresses(ManagerAddress.parse(identity.listen), ManagerAddress.parse(identity.advertise))
        now = changed(former, self.options.listen, self.options.advertise)
        managers = tuple(dict.fromkeys((*map(_as_address, self.options.managers), *identity.managers)))
        self.home.remember(
            msgspec.structs.replace(identity, listen=str(now.listen), advertise=str(now.advertise), managers=managers)
        )
        if self.home.station is not Station.MANAGER:
            return
        if not is_here(now.listen.host):
            hint = (
                "if it has another one now: `stackd daemon --advertise-addr ADDRESS`, with --manager-addr ADDRESS for each "
                "other manager that has moved as well"
            )
            raise Refused("daemon.address.gone", f"this host has no address {now.listen.host} any more", hint=hint)
        if not is_here(now.advertise.host):
            log.warning("this host has no such address: advertised=%s; --advertise-addr names another one", now.advertise)

    @asynccontextmanager
    async def _next_role(self) -> AsyncIterator[Role]:
        """The role that the disk says."""
        home = self.home
        if home.station is Station.MANAGER and self._is_demoted():
            home.end_as_manager()
        match home.station:
            case Station.IDLE:
                yield Waiting(IDLE, NO_CLUSTER, self._desk.bystander(NO_CLUSTER))
            case Station.WORKER:
                home.remember(self.named(home.identity))
                control = self._desk.bystander(NOT_A_MANAGER, home.identity.node_id)
                yield Worker(home, self._belong().reach, control)
            case Station.ALONE | Station.MANAGER:
                home.remember(self.named(home.identity))
                if (keys := self._keys()) is None:
                    control = self._desk.bystander(IS_LOCKED, home.identity.node_id)
                    yield Waiting(LOCKED, IS_LOCKED, control, self._belong().reach if home.credentials else None)
                    return
                async with managing(home, keys, self._network(), self.clock, self._desk) as role:
                    yield role

    def _is_demoted(self) -> bool:
        credentials = self.home.credentials
        return credentials is not None and credentials.presented.node.role is NodeRole.WORKER

    def _keys(self) -> NodeKeys | None:
        """The manager's keys; None if they take another unlock key than is known. Raises what opening them raises."""
        try:
            return self.home.open_keys(self.unlock_key)
        except StackdError as error:
            if error.code not in _LOCKED:
                raise
            return None

    def _network(self) -> Network | None:
        if self.home.credentials is None:
            return None
        identity, belonging = self.home.identity, self._belong()
        place, advertised = ManagerAddress.parse(identity.listen), ManagerAddress.parse(identity.advertise)
        return Network(belonging.credentials, belonging.reach, place, advertised)

    def _belong(self) -> Membership:
        """The membership of a node that has a certificate."""
        credentials = self.home.credentials
        assert credentials is not None
        if self.membership is None or self.membership.credentials is not credentials:
            reach = Reach(self.home, credentials)
            renewed, alone = self._certificate_renewed, self._renew_alone
            renewal = Renewal(self.home, credentials, reach, self.clock, self.entropy, renewed, alone)
            self.membership = Membership(credentials, reach, renewal)
        return self.membership

    async def _until_taken_up(self, role: Role) -> None:
        """A cluster of one begins with its own node known: nothing could be placed before."""
        if role.state == ALONE and isinstance(role, ManagerRole):
            await role.wait_registered()

    async def _until_over(self, role: Role) -> bool:
        """Return when the node is to have another role; whether this one has ended by itself."""
        turned, over = asyncio.ensure_future(self._turn.wait()), asyncio.ensure_future(role.over())
        try:
            await asyncio.wait((turned, over), return_when=asyncio.FIRST_COMPLETED)
            if not over.done():
                return False
            over.result()
            return True
        finally:
            turned.cancel()
            over.cancel()

    # The agent and the certificate

    def _employ(self, group: asyncio.TaskGroup) -> None:
        """Start what goes on while roles change, as soon as there is something for it to do."""
        names = {life.get_name() for life in self._lives}
        if self.membership is not None and "renewal" not in names:
            self._lives.append(group.create_task(self.membership.renewal.run(), name="renewal"))
        if self.home.station is not Station.IDLE and "agent" not in names:
            identity = self.home.identity
            self._agent = Agent(
                identity.node_id,
                build_executor(identity, self.home.path),
                self._connect,
                self._tasks,
                self.clock,
                self.entropy,
                certificate=self._certificate,
                heed=self._heed,
                redirect=self._redirect,
            )
            self._lives.append(group.create_task(self._agent.run(), name="agent"))

    async def _clear_out(self) -> None:
        """Remove what this node had of the cluster, its tasks first."""
        if self._agent is not None:
            await self._agent.clear()
        for life in self._lives:
            life.cancel()
        if self._lives:
            await asyncio.wait(self._lives)
        self._lives.clear()
        self._agent = self.membership = None
        self.welcomed.clear()
        self.home.forget()
        self._leaving = False

    async def _connect(self) -> Stream[FromManager, FromAgent]:
        if self._stopping or self._leaving:
            raise _stopping()
        return await self.role.connect()

    def _certificate(self) -> NodeCertificate | None:
        return self.membership.renewal.certificate() if self.membership is not None else None

    def _heed(self, standing: Standing) -> None:
        if self.membership is not None:
            self.membership.renewal.heed(standing)
        self.welcomed.set()

    def _redirect(self, leader: str) -> None:
        if self.membership is not None:
            self.membership.reach.redirect(leader)

    def _renew_alone(self) -> None:
        """Managers have what signing takes."""
        if isinstance(self.present, ManagerRole):
            self.present.renew_expired()

    def _certificate_renewed(self) -> None:
        """Managers hear of it at once; a worker may be promoted by it, and a manager that was demoted is none any more."""
        if self._agent is not None:
            self._agent.tell()
        if isinstance(self.present, Worker):
            self.present.certificate_renewed()
        if isinstance(self.present, ManagerRole) and self._is_demoted():
            self._turn.set()


def reason_of(errors: ExceptionGroup[Exception]) -> StackdError | None:
    """The first of the errors that ended the node; None if there is a bug among them, which keeps its traceback."""
    ours, bugs = errors.split(StackdError)
    if ours is None or bugs is not None:
        return None
    first: Exception = ours
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, StackdError) else None


def _as_address(text: str) -> str:
    return str(ManagerAddress.parse(text))


def _stopping() -> Unavailable:
    return Unavailable("daemon.stopping", "the daemon is stopping")
