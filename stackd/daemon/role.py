"""What a node is at a time, as the supervisor and the local API see it; and the roles in which it decides nothing.

Idle: in no cluster. Locked: a manager that waits for its unlock key. Worker: what it runs, a manager says. In all of these the
local API answers what concerns this machine, and refuses the rest with what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from stackd.api.control import Caller, DownProgress, DownRequest, Empty, VersionResponse
from stackd.api.dispatch import FromAgent, FromManager
from stackd.api.forward import Router
from stackd.api.stream import Stream
from stackd.base.errors import Refused, Unavailable
from stackd.daemon.reach import Reach

IDLE = "idle"
LOCKED = "locked"
ALONE = "alone"
WORKER = "worker"
MANAGER = "manager"


class Role(Protocol):
    """A role while the node has it."""

    @property
    def state(self) -> str:
        """One of the words above."""
        ...

    @property
    def control(self) -> Any:
        """Answers Control (`api.control.ControlHandler`), or refuses."""
        ...

    @property
    def cluster(self) -> Any:
        """Answers Cluster (`api.cluster.ClusterHandler`), or refuses."""
        ...

    @property
    def router(self) -> Router | None:
        """Where calls are answered that are not for this manager."""
        ...

    @property
    def message(self) -> str:
        """What the node waits for, in one sentence; "" for nothing."""
        ...

    async def connect(self) -> Stream[FromManager, FromAgent]:
        """A stream for the node's agent. Raises StackdError."""
        ...

    async def over(self) -> None:
        """Return when the role has ended by itself. Raises StackdError if the daemon can't go on."""
        ...


class Refusing:
    """Stands for a service that this node doesn't have: every method refuses."""

    def __init__(self, why: Refused) -> None:
        self._why = why

    def __getattr__(self, name: str) -> Callable[[object, Caller], Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._refuse

    def _refuse(self, _request: object, _caller: Caller) -> Any:
        raise self._why


class Bystander(Refusing):
    """Control on a node that is no manager: it says who it is, and can be ended."""

    def __init__(self, why: Refused, version: VersionResponse, stop: Callable[[], Awaitable[None]]) -> None:
        super().__init__(why)
        self._version = version
        self._stop = stop

    async def version(self, _request: Empty, _caller: Caller) -> VersionResponse:
        return self._version

    async def down(self, request: DownRequest, _caller: Caller) -> AsyncIterator[DownProgress]:
        """End the daemon. What runs is not this node's to remove."""
        if request.remove:
            raise self._why
        yield DownProgress(remaining=0, done=True)
        await self._stop()


NO_CLUSTER = Refused(
    "daemon.no_cluster",
    "this node belongs to no cluster",
    hint="`stackd cluster init` founds one, `stackd cluster join` joins one",
)
NOT_A_MANAGER = Refused(
    "daemon.not_a_manager",
    "this node is a worker: it can't answer for the cluster",
    hint="type it on a manager, or use --context with what `stackd cluster ca user` makes there",
)
IS_LOCKED = Refused("daemon.locked", "this manager is locked", hint="`stackd cluster unlock`")


class Waiting:
    """Idle or locked: it is over when somebody does something about it. A locked manager's agent works on."""

    def __init__(self, state: str, why: Refused, control: Any, reach: Reach | None = None) -> None:
        self.state = state
        self.control = control
        self.cluster: Any = Refusing(why)
        self.router: Router | None = None
        self.message = f"{why.message}: {why.hint}"
        self._why = why
        self._reach = reach

    async def connect(self) -> Stream[FromManager, FromAgent]:
        if self._reach is None:
            raise Unavailable(self._why.code, self._why.message)
        return await self._reach.stream()

    async def over(self) -> None:
        await asyncio.Event().wait()
