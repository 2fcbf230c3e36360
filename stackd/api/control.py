"""The Control service, `stackd.v1.Control`: one table of methods with their request and response records.

Server (`api/server.py`), client (`api/client.py`) and handlers are all derived from METHODS: a method that isn't in the
table doesn't exist. Payloads are msgspec MessagePack. Errors travel as `Failure` in the trailing metadata.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from stackd.api.views import (
    ClusterView,
    ConfigView,
    EventView,
    LogLineView,
    NetworkView,
    NodeView,
    PlanView,
    SecretView,
    ServiceView,
    StackView,
    StatusView,
    TaskView,
)
from stackd.base.records import Record
from stackd.engine.parts import Principal, Role, UserRole
from stackd.spec.stack import ExternalKind, NetworkSpec, StackSpec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of requests and responses: maps on the wire, so that either side may be newer."""


class Empty(Message, frozen=True, kw_only=True):
    pass


class Caller(Record):
    """Who calls: filled in by the listener, never by the client."""

    principal: Principal


class ApplyRequest(Message, frozen=True, kw_only=True):
    """Deploy these stacks. `files` names the file each stack came from, in the same order. `base_version`: refuse if the
    state has moved since the plan that was shown (0: don't care)."""

    stacks: tuple[StackSpec, ...]
    files: tuple[str, ...]
    adopt: bool = False
    override: bool = False
    base_version: int = 0


class ApplyResponse(Message, frozen=True, kw_only=True):
    revision: str
    changed: bool
    services: tuple[str, ...]


class PlanRequest(Message, frozen=True, kw_only=True):
    stacks: tuple[StackSpec, ...]
    files: tuple[str, ...]
    adopt: bool = False
    override: bool = False


class SyncRequest(Message, frozen=True, kw_only=True):
    """Look at a source now ("" is all). `approve_prune` lets held-back removals go ahead."""

    source: str = ""
    approve_prune: bool = False


class EventsRequest(Message, frozen=True, kw_only=True):
    """Events after `after` (0: the last `limit`), then with `follow` those to come. `audit`: only what somebody did."""

    after: int = 0
    limit: int = 100
    follow: bool = False
    stack: str = ""
    audit: bool = False


class ListRequest(Message, frozen=True, kw_only=True):
    """`stack`, `service` and, for tasks, `node` (name or id) narrow the list ("" is all); `history` includes tasks that are
    over."""

    stack: str = ""
    service: str = ""
    history: bool = True
    node: str = ""


class Stacks(Message, frozen=True, kw_only=True):
    items: tuple[StackView, ...]


class Services(Message, frozen=True, kw_only=True):
    """`index` is the state's version: what `Watch` sends again when it has moved."""

    items: tuple[ServiceView, ...]
    index: int = 0


class Tasks(Message, frozen=True, kw_only=True):
    items: tuple[TaskView, ...]


class Nodes(Message, frozen=True, kw_only=True):
    items: tuple[NodeView, ...]


class ClusterRequest(Message, frozen=True, kw_only=True):
    """Change the cluster's settings; None leaves one as it is. `address_pools` (CIDR, IPv4) and the mask length `subnet_bits`
    count for networks that get their subnets from now on."""

    history: int | None = None
    rebalance: int | None = None
    address_pools: tuple[str, ...] | None = None
    subnet_bits: int | None = None


class Networks(Message, frozen=True, kw_only=True):
    items: tuple[NetworkView, ...]


class Configs(Message, frozen=True, kw_only=True):
    items: tuple[ConfigView, ...]


class ConfigDetail(Message, frozen=True, kw_only=True):
    """A config with its content."""

    config: ConfigView
    data: bytes


class Secrets(Message, frozen=True, kw_only=True):
    items: tuple[SecretView, ...]


class NetworkRequest(Message, frozen=True, kw_only=True):
    """Make a network."""

    spec: NetworkSpec


class FileRequest(Message, frozen=True, kw_only=True):
    """Make a config or secret with this content. Its repr never shows it."""

    name: str
    data: bytes
    labels: dict[str, str] = {}
    template: str = ""

    def __repr__(self) -> str:
        return f"FileRequest(name={self.name!r}, data=<{len(self.data)} bytes>)"


class RemoveRequest(Message, frozen=True, kw_only=True):
    """Remove a network, config or secret that nothing uses."""

    kind: ExternalKind
    name: str
    override: bool = False


class NameRequest(Message, frozen=True, kw_only=True):
    name: str
    override: bool = False


class ServiceDetail(Message, frozen=True, kw_only=True):
    """A service with its whole spec as JSON (secrets appear by name and digest only)."""

    service: ServiceView
    spec: Any
    previous_spec: Any = None


class ScaleRequest(Message, frozen=True, kw_only=True):
    name: str
    replicas: int
    override: bool = False


class UpdateRequest(Message, frozen=True, kw_only=True):
    """Imperative change of one service. None leaves a setting as it is; `force` replaces tasks even without a change."""

    name: str
    image: str | None = None
    env_add: tuple[str, ...] = ()
    env_remove: tuple[str, ...] = ()
    parallelism: int | None = None
    order: str | None = None
    force: bool = False
    override: bool = False


class LogsRequest(Message, frozen=True, kw_only=True):
    """Lines of a service's or one task's log, merged over nodes. `tail` is per task, -1 everything."""

    name: str
    follow: bool = False
    tail: int = -1
    since_ns: int = 0


class DownRequest(Message, frozen=True, kw_only=True):
    """Stop the daemon. `remove` also removes every task (and the stacks) from this single-node cluster first."""

    remove: bool = True


class DownProgress(Message, frozen=True, kw_only=True):
    remaining: int
    message: str = ""
    done: bool = False


class VersionResponse(Message, frozen=True, kw_only=True):
    """The daemon that is asked, whoever leads."""

    version: str
    data_dir: str
    pid: int
    node_id: str = ""


class Failure(Message, frozen=True, kw_only=True):
    """A StackdError on the wire. `kind` is the class: error | refused | not_found | unavailable; `file` with `line` and
    `column` is its position, if it has one."""

    kind: str
    code: str
    message: str
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Method:
    """One method: its wire name and types. `stream` methods answer with a sequence of `response`; `local` ones are about
    the daemon that is asked, so they are never carried on to the leader.

    `needs` is the least role of a person from afar who may call it, `nodes` that of a node that may do so in its own name
    (None: no node). Whoever can open the daemon's unix socket may call everything."""

    name: str
    request: Any
    response: Any
    stream: bool = False
    local: bool = False
    needs: UserRole = UserRole.ADMIN
    nodes: Role | None = None
    service: str = "Control"

    @property
    def path(self) -> str:
        """Where gRPC finds it."""
        return f"/stackd.v1.{self.service}/{self.name}"


METHODS = (
    Method("Version", Empty, VersionResponse, local=True, needs=UserRole.VIEWER),
    Method("Status", Empty, StatusView, needs=UserRole.VIEWER),
    Method("Apply", ApplyRequest, ApplyResponse, needs=UserRole.DEPLOYER),
    Method("Plan", PlanRequest, PlanView, needs=UserRole.VIEWER),
    Method("Sync", SyncRequest, StatusView, needs=UserRole.DEPLOYER),
    Method("Events", EventsRequest, EventView, stream=True, needs=UserRole.VIEWER),
    Method("Stacks", Empty, Stacks, needs=UserRole.VIEWER),
    Method("Services", ListRequest, Services, needs=UserRole.VIEWER),
    Method("Watch", ListRequest, Services, stream=True, needs=UserRole.VIEWER),
    Method("Tasks", ListRequest, Tasks, needs=UserRole.VIEWER),
    Method("Inspect", NameRequest, ServiceDetail, needs=UserRole.VIEWER),
    Method("Scale", ScaleRequest, ServiceView, needs=UserRole.DEPLOYER),
    Method("Update", UpdateRequest, ServiceView, needs=UserRole.DEPLOYER),
    Method("Rollback", NameRequest, ServiceView, needs=UserRole.DEPLOYER),
    Method("RemoveService", NameRequest, Empty, needs=UserRole.DEPLOYER),
    Method("RemoveStack", NameRequest, Empty, needs=UserRole.DEPLOYER),
    Method("Nodes", Empty, Nodes, needs=UserRole.VIEWER),
    Method("UpdateCluster", ClusterRequest, ClusterView),
    Method("Networks", Empty, Networks, needs=UserRole.VIEWER),
    Method("Configs", Empty, Configs, needs=UserRole.VIEWER),
    Method("Secrets", Empty, Secrets, needs=UserRole.VIEWER),
    Method("InspectConfig", NameRequest, ConfigDetail, needs=UserRole.VIEWER),
    Method("CreateNetwork", NetworkRequest, NetworkView, needs=UserRole.DEPLOYER),
    Method("CreateConfig", FileRequest, ConfigView, needs=UserRole.DEPLOYER),
    Method("CreateSecret", FileRequest, SecretView, needs=UserRole.DEPLOYER),
    Method("RemoveObject", RemoveRequest, Empty, needs=UserRole.DEPLOYER),
    Method("Logs", LogsRequest, LogLineView, stream=True, needs=UserRole.VIEWER),
    Method("Down", DownRequest, DownProgress, stream=True, local=True),
)


class ControlHandler(Protocol):
    """What the manager implements: one coroutine (or async generator) per method, named in snake_case, e.g. `apply`."""

    async def version(self, request: Empty, caller: Caller) -> VersionResponse: ...
    async def status(self, request: Empty, caller: Caller) -> StatusView: ...
    async def apply(self, request: ApplyRequest, caller: Caller) -> ApplyResponse: ...
    async def plan(self, request: PlanRequest, caller: Caller) -> PlanView: ...
    async def sync(self, request: SyncRequest, caller: Caller) -> StatusView: ...
    def events(self, request: EventsRequest, caller: Caller) -> AsyncIterator[EventView]: ...
    async def stacks(self, request: Empty, caller: Caller) -> Stacks: ...
    async def services(self, request: ListRequest, caller: Caller) -> Services: ...
    def watch(self, request: ListRequest, caller: Caller) -> AsyncIterator[Services]: ...
    async def tasks(self, request: ListRequest, caller: Caller) -> Tasks: ...
    async def inspect(self, request: NameRequest, caller: Caller) -> ServiceDetail: ...
    async def scale(self, request: ScaleRequest, caller: Caller) -> ServiceView: ...
    async def update(self, request: UpdateRequest, caller: Caller) -> ServiceView: ...
    async def rollback(self, request: NameRequest, caller: Caller) -> ServiceView: ...
    async def remove_service(self, request: NameRequest, caller: Caller) -> Empty: ...
    async def remove_stack(self, request: NameRequest, caller: Caller) -> Empty: ...
    async def nodes(self, request: Empty, caller: Caller) -> Nodes: ...
    async def update_cluster(self, request: ClusterRequest, caller: Caller) -> ClusterView: ...
    async def networks(self, request: Empty, caller: Caller) -> Networks: ...
    async def configs(self, request: Empty, caller: Caller) -> Configs: ...
    async def secrets(self, request: Empty, caller: Caller) -> Secrets: ...
    async def inspect_config(self, request: NameRequest, caller: Caller) -> ConfigDetail: ...
    async def create_network(self, request: NetworkRequest, caller: Caller) -> NetworkView: ...
    async def create_config(self, request: FileRequest, caller: Caller) -> ConfigView: ...
    async def create_secret(self, request: FileRequest, caller: Caller) -> SecretView: ...
    async def remove_object(self, request: RemoveRequest, caller: Caller) -> Empty: ...
    def logs(self, request: LogsRequest, caller: Caller) -> AsyncIterator[LogLineView]: ...
    def down(self, request: DownRequest, caller: Caller) -> AsyncIterator[DownProgress]: ...
