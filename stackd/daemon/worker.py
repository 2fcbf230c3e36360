"""A worker: its agent talks to whichever manager leads. With a manager's certificate it is about to become one itself."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from stackd.api.addresses import ManagerAddress
from stackd.api.cluster import CLUSTER_METHODS, BecomeManagerRequest, BecomeManagerResponse
from stackd.api.dispatch import FromAgent, FromManager
from stackd.api.forward import Router
from stackd.api.stream import Stream
from stackd.base.errors import StackdError
from stackd.daemon.addresses import check_free
from stackd.daemon.home import Home
from stackd.daemon.reach import Reach
from stackd.daemon.role import NOT_A_MANAGER, WORKER, Refusing
from stackd.engine.parts import Role

log = logging.getLogger(__name__)

BECOME_MANAGER = next(method for method in CLUSTER_METHODS if method.name == "BecomeManager")

RETRY_FIRST_SECONDS = 0.25
RETRY_MOST_SECONDS = 10.0
"""Between attempts to become a manager, doubling: the managers may be electing a leader, or changing another member."""


class Worker:
    """The role of a worker. It is over when everything is there with which a manager starts."""

    state = WORKER
    router: Router | None = None

    def __init__(self, home: Home, reach: Reach, control: Any) -> None:
        self._home = home
        self._reach = reach
        self.control = control
        self.cluster: Any = Refusing(NOT_A_MANAGER)
        self.unlock_key = ""
        """With which the manager's keys are locked that this node was given, if they are."""
        self._trouble = ""
        self._renewed = asyncio.Event()

    @property
    def message(self) -> str:
        if not self._is_promoted():
            return ""
        return f"its place as a manager: {self._trouble}" if self._trouble else "its place as a manager"

    async def connect(self) -> Stream[FromManager, FromAgent]:
        return await self._reach.stream()

    def certificate_renewed(self) -> None:
        """The node has another certificate, perhaps a manager's."""
        self._renewed.set()

    async def over(self) -> None:
        pause = RETRY_FIRST_SECONDS
        while True:
            while not self._is_promoted():
                self._renewed.clear()
                await self._renewed.wait()
            try:
                await self._prepare()
                return
            except StackdError as error:
                self._trouble = error.message
                log.warning("not a manager yet: code=%s reason=%s", error.code, error.message)
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_MOST_SECONDS)

    def _is_promoted(self) -> bool:
        credentials = self._home.credentials
        return credentials is not None and credentials.presented.node.role is Role.MANAGER

    async def _prepare(self) -> None:
        """Become a member of consensus on paper: the other managers know of it before it starts. Raises also what would keep a
        manager from starting here."""
        check_free(ManagerAddress.parse(self._home.identity.listen))
        request = BecomeManagerRequest(address=self._home.identity.advertise)
        answer: BecomeManagerResponse = await self._reach.ask(BECOME_MANAGER, request)
        self.unlock_key = answer.unlock_key
        self._home.become_manager(answer.cluster_key, answer.unlock_key, answer.membership)
