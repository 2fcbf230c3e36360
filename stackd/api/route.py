"""The way from a manager that doesn't lead to the one that does: one connection, on which all calls are carried on.

It is made anew when another manager leads, or when this node's certificate or roots have changed. The one before is let go only
after a while, so that what is still being streamed over it isn't cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc.aio

from stackd.api.addresses import ManagerAddress
from stackd.api.secure import TlsMaterial, secure_channel

RETIRE_SECONDS = 600.0
"""How long a connection that has been replaced may go on with the calls that are on it."""


class LeaderRoute:
    """Implements `api.forward.Router`. `elsewhere` is where the leader is, None if that is this manager. Connections that were
    replaced are closed by `group`."""

    def __init__(
        self,
        elsewhere: Callable[[], ManagerAddress | None],
        material: Callable[[], TlsMaterial],
        group: asyncio.TaskGroup,
    ) -> None:
        self._elsewhere = elsewhere
        self._material = material
        self._group = group
        self._present: tuple[str, TlsMaterial, grpc.aio.Channel] | None = None
        self._retired: set[asyncio.Task[None]] = set()

    def leader(self) -> grpc.aio.Channel | None:
        """See Router."""
        place = self._elsewhere()
        if place is None:
            return None
        address, material = str(place), self._material()
        present = self._present
        if present is None or present[:2] != (address, material):
            self._retire()
            present = self._present = (address, material, secure_channel(address, material))
        return present[2]

    async def close(self) -> None:
        """Cut every connection."""
        self._retire()
        for task in tuple(self._retired):
            task.cancel()
        if self._retired:
            await asyncio.wait(self._retired)

    def _retire(self) -> None:
        present, self._present = self._present, None
        if present is not None:
            task = self._group.create_task(_let_go(present[2]), name="connection let go")
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)


async def _let_go(channel: grpc.aio.Channel) -> None:
    try:
        await channel.close(RETIRE_SECONDS)
    except asyncio.CancelledError:
        await channel.close()
        raise
