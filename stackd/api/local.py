"""The Node service, `stackd.v1.Node`: what the daemon of this very machine is asked to do, over its unix socket alone.

It answers also while the node belongs to no cluster, waits for its unlock key, or has no manager: what it does concerns this
node, and none of it is carried on to another one.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from stackd.api.control import Caller, Empty, Message, Method


class InitRequest(Message, frozen=True, kw_only=True):
    """Make this node the first manager of a cluster that others can join. Addresses are HOST[:PORT]; "" is the default. `root`
    and `key` (PEM) are a certificate authority that people bring, b"" for a new one."""

    listen: str = ""
    advertise: str = ""
    root: bytes = b""
    key: bytes = b""

    def __repr__(self) -> str:
        return f"InitRequest(listen={self.listen!r}, advertise={self.advertise!r})"


class JoinClusterRequest(Message, frozen=True, kw_only=True):
    """Join the cluster of `token`, one of whose managers takes joiners at `manager` (HOST[:PORT])."""

    token: str
    manager: str
    listen: str = ""
    advertise: str = ""
    availability: str = "active"

    def __repr__(self) -> str:
        return f"JoinClusterRequest(manager={self.manager!r})"


class LeaveClusterRequest(Message, frozen=True, kw_only=True):
    """Leave the cluster. `force`: also if no manager can be asked, or the others can't go on; then this node only forgets."""

    force: bool = False


class UnlockRequest(Message, frozen=True, kw_only=True):
    """Go on starting, with this unlock key."""

    key: str

    def __repr__(self) -> str:
        return "UnlockRequest()"


class LocalNodeView(Message, frozen=True, kw_only=True):
    """This node as it knows itself. `state` is idle (in no cluster) | locked | alone (a cluster of one, without listeners) |
    worker | manager; `managers` are the addresses it remembers; `message` says what it waits for, `doing` how far a command is
    that is under way here (join, leave)."""

    node_id: str
    cluster: str
    state: str
    executor: str = ""
    advertise: str = ""
    managers: tuple[str, ...] = ()
    certificate_until: str | None = None
    message: str = ""
    doing: str = ""


_method = partial(Method, service="Node", local=True)

NODE_METHODS = (
    _method("Info", Empty, LocalNodeView),
    _method("Init", InitRequest, LocalNodeView),
    _method("Join", JoinClusterRequest, LocalNodeView),
    _method("Leave", LeaveClusterRequest, LocalNodeView),
    _method("Unlock", UnlockRequest, LocalNodeView),
)


class NodeHandler(Protocol):
    """What the daemon implements: one coroutine per method, named in snake_case."""

    async def info(self, request: Empty, caller: Caller) -> LocalNodeView: ...
    async def init(self, request: InitRequest, caller: Caller) -> LocalNodeView: ...
    async def join(self, request: JoinClusterRequest, caller: Caller) -> LocalNodeView: ...
    async def leave(self, request: LeaveClusterRequest, caller: Caller) -> LocalNodeView: ...
    async def unlock(self, request: UnlockRequest, caller: Caller) -> LocalNodeView: ...
