"""What answers Control on this node, whatever the node is at the moment: made anew for each role, out of what stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackd import __version__
from stackd.api.control import Caller, DownProgress, DownRequest, VersionResponse
from stackd.base.errors import Refused
from stackd.daemon.options import UpOptions
from stackd.daemon.role import Bystander
from stackd.daemon.sources import Following
from stackd.manager.control import Control, Identity
from stackd.manager.manager import Manager
from stackd.security.keyring import NodeKeys

if TYPE_CHECKING:
    from stackd.daemon.metrics import Metrics  # its library is loaded only by a daemon that answers Prometheus


class NodeControl(Control):
    """Control of a manager. Taking everything down is for the only node of a cluster."""

    async def down(self, request: DownRequest, caller: Caller) -> AsyncIterator[DownProgress]:
        nodes = len(self._view.nodes)
        if request.remove and nodes > 1:
            hint = "remove the stacks (`stackd stack rm`), or take this node out (`stackd cluster leave`)"
            raise Refused("daemon.down.in_cluster", f"this is one of {nodes} nodes, and `down` would end them all", hint=hint)
        async for progress in super().down(request, caller):
            yield progress


@dataclass(frozen=True, slots=True)
class Desk:
    """`node_idle` returns once this node's agent has removed everything; `stop` ends the daemon. `metrics` is there if somebody
    may ask for them."""

    options: UpOptions
    node_idle: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    metrics: Metrics | None = None

    def control(self, manager: Manager, keys: NodeKeys, following: Following) -> NodeControl:
        """Control of a manager."""
        return NodeControl(
            identity=Identity(
                node_id=manager.managers.me, version=__version__, data_dir=str(self.options.data_dir), pid=os.getpid()
            ),
            writer=manager.writer,
            keeper=keys.cluster,
            sources=following,
            logs=manager.role,
            node_idle=self.node_idle,
            stop=self.stop,
        )

    def bystander(self, why: Refused, node_id: str = "") -> Bystander:
        """Control of a node that is no manager, which refuses with `why`."""
        version = VersionResponse(version=__version__, data_dir=str(self.options.data_dir), pid=os.getpid(), node_id=node_id)
        return Bystander(why, version, self.stop)
