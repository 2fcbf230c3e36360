"""How this node gets to managers: those that it knows, one after the other, until one answers.

A manager that doesn't lead names the one that does, and that one is asked first. Which managers there are is remembered on disk
(`Home`), since it is all that a worker has to start with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from stackd.api.control import Method
from stackd.api.dispatch import FromAgent, FromManager
from stackd.api.nodes import ask, open_node_stream
from stackd.api.secure import TlsMaterial
from stackd.api.stream import Stream
from stackd.base.errors import StackdError, Unavailable
from stackd.daemon.credentials import Credentials
from stackd.daemon.home import Home


class Reach:
    """The way to the managers of the cluster that this node is in."""

    def __init__(self, home: Home, credentials: Credentials) -> None:
        self._home = home
        self._credentials = credentials
        self._leader = ""

    def redirect(self, leader: str) -> None:
        """A manager has said where the leader is ("" if it doesn't know)."""
        self._leader = leader

    def managers(self, but: str = "") -> Iterator[str]:
        """Addresses to try, without this node's own (`but`)."""
        known = dict.fromkeys((self._leader, *self._home.identity.managers))
        return (address for address in known if address and address != but)

    async def stream(self, but: str = "") -> Stream[FromManager, FromAgent]:
        """A stream for the agent, to the first manager that answers. Raises Unavailable."""
        last: StackdError = _nobody_known()
        for address in tuple(self.managers(but)):
            try:
                return await open_node_stream(address, self._material())
            except Unavailable as error:
                last = error
            if address == self._leader:
                self._leader = ""
        raise last

    async def ask(self, method: Method, request: msgspec.Struct) -> Any:
        """The answer of the cluster. Raises what it says; Unavailable if no manager can be asked."""
        last: StackdError = _nobody_known()
        for address in tuple(self.managers()):
            try:
                return await ask(address, self._material(), method, request)
            except Unavailable as error:
                last = error
        raise last

    def _material(self) -> TlsMaterial:
        return self._credentials.material()


def _nobody_known() -> Unavailable:
    return Unavailable("daemon.no_manager", "this node knows no manager that it could ask")
