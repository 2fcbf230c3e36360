"""A control service that lives in memory, and builders of what it shows.

It implements `stackd.cli.client.ControlClient`: it keeps what it is given, answers lists from that, and plays back what
a daemon would push. Unknown names are errors as in the real one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from stackd.api.cluster import (
    AutolockRequest,
    BackupPiece,
    ChangeCertificatesRequest,
    IssuedUser,
    IssueUserRequest,
    JoinTokenRequest,
    JoinTokenResponse,
    RemoveNodeRequest,
    RotateRootRequest,
    UnlockKeyResponse,
    UpdateNodeRequest,
    UserRequest,
    Users,
)
from stackd.api.control import (
    ApplyRequest,
    ApplyResponse,
    ClusterRequest,
    ConfigDetail,
    Configs,
    DownProgress,
    DownRequest,
    EventsRequest,
    FileRequest,
    ListRequest,
    LogsRequest,
    NameRequest,
    NetworkRequest,
    Networks,
    Nodes,
    PlanRequest,
    RemoveRequest,
    ScaleRequest,
    Secrets,
    ServiceDetail,
    Services,
    Stacks,
    SyncRequest,
    Tasks,
    UpdateRequest,
    VersionResponse,
)
from stackd.api.local import InitRequest, JoinClusterRequest, LeaveClusterRequest, LocalNodeView, UnlockRequest
from stackd.api.secure import TlsMaterial
from stackd.api.views import (
    ClusterInfoView,
    ClusterView,
    ConfigView,
    EventView,
    LogLineView,
    NetworkView,
    NodeView,
    PlanView,
    PortView,
    RolloutView,
    RootRotationView,
    SecretView,
    ServicePlanView,
    ServiceView,
    SourceView,
    StackView,
    StatusView,
    SubnetView,
    TaskView,
    UserView,
)
from stackd.base.errors import NotFound, StackdError

SILENCE_SECONDS = 30.0
"""A bound on how long a silent daemon keeps a test."""


def a_service(name: str = "shop_web", **fields: Any) -> ServiceView:
    """A converged service with three running tasks, but for `fields`."""
    service = ServiceView(
        id="k3v5m1q0x8c2z7b4n6a9s1d3f",
        name=name,
        stack=name.partition("_")[0],
        mode="replicated",
        image="nginx:1.25",
        replicas=3,
        running=3,
        updated=3,
        converged=True,
        health="healthy",
        message="",
        ports=(),
        version=7,
        spec_version=5,
        spec_digest="0123456789abcdef",
        rollout=None,
        frozen="",
        override=False,
        revision="r1",
        created_at="2026-05-01T11:00:00.000Z",
        updated_at="2026-05-01T11:30:00.000Z",
    )
    return msgspec.structs.replace(service, **fields)


def a_port(published: int = 8080, target: int = 80, mode: str = "ingress") -> PortView:
    return PortView(target=target, published=published, protocol="tcp", mode=mode)


def a_rollout(state: str, started_at: str = "2026-05-01T11:59:00.000Z", message: str = "") -> RolloutView:
    over = None if state in ("updating", "rollback_started") else "2026-05-01T11:59:30.000Z"
    return RolloutView(state=state, message=message, started_at=started_at, completed_at=over, total=3, done=1, failed=1)


def a_task(slot: int = 1, **fields: Any) -> TaskView:
    """A task of shop_web that has been running for five minutes, but for `fields`."""
    task = TaskView(
        id=f"{slot}aaaabbbbccccddddeeeeffff",
        name=f"shop_web.{slot}",
        service="shop_web",
        stack="shop",
        slot=slot,
        node="east",
        image="nginx:1.25",
        desired_state="running",
        state="running",
        message="",
        error="",
        exit_code=None,
        spec_version=5,
        container_id="c0ffee",
        pid=4242,
        created_at="2026-05-01T11:55:00.000Z",
        updated_at="2026-05-01T11:55:00.000Z",
    )
    return msgspec.structs.replace(task, **fields)


def a_stack(name: str = "shop", **fields: Any) -> StackView:
    stack = StackView(
        name=name,
        source="main",
        file="shop/stack.yaml",
        revision="8c0d2e1f9a7b6c5d",
        services=2,
        converged=True,
        health="healthy",
        sync="synced",
        message="",
        updated_at="2026-05-01T11:30:00.000Z",
    )
    return msgspec.structs.replace(stack, **fields)


def a_source(**fields: Any) -> SourceView:
    source = SourceView(
        name="main",
        kind="git",
        location="https://git.example.org/ops.git",
        ref="main",
        path="stacks",
        revision="r1",
        label="8c0d2e1f9a7b6c5d",
        state="converged",
        seen="8c0d2e1f9a7b6c5d",
        seen_at="2026-05-01T11:59:50.000Z",
        error="",
        error_code="",
        held_prune=(),
    )
    return msgspec.structs.replace(source, **fields)


def a_status(**fields: Any) -> StatusView:
    status = StatusView(
        cluster_id="c1uster",
        version="0.1.0",
        leader="east",
        sync="synced",
        health="healthy",
        converged=True,
        sources=(a_source(),),
        stacks=(a_stack(),),
        nodes=1,
        nodes_ready=1,
    )
    return msgspec.structs.replace(status, **fields)


def a_node(**fields: Any) -> NodeView:
    node = NodeView(
        id="n0de5m1q0x8c2z7b4n6a9s1d3",
        hostname="east",
        state="ready",
        availability="active",
        role="manager",
        manager_status="leader",
        self_=True,
        executors=("docker", "process"),
        engine_version="20.10.24",
        os="linux",
        arch="x86_64",
        cpus=2.0,
        memory_bytes=8 * 1024**3,
        labels={"disk": "ssd"},
        tasks=3,
        message="",
    )
    return msgspec.structs.replace(node, **fields)


def a_cluster(**fields: Any) -> ClusterInfoView:
    """A cluster of two nodes with certificates, but for `fields`."""
    info = ClusterInfoView(
        cluster=some_settings(),
        leader="east",
        managers=("10.0.0.1:2377",),
        nodes=2,
        nodes_ready=2,
        autolock=False,
        root_digest="r00t",
        certificate_life_seconds=90 * 24 * 3600,
        rotation=None,
    )
    return msgspec.structs.replace(info, **fields)


def some_settings(**fields: Any) -> ClusterView:
    settings = ClusterView(id="c1uster", history_limit=5, rebalance_tasks=0, address_pools=("10.0.0.0/8",), subnet_bits=20)
    return msgspec.structs.replace(settings, **fields)


def a_rotation(*behind: str) -> RootRotationView:
    return RootRotationView(digest="r00t2", started_at="2026-05-01T11:59:00.000Z", behind=behind)


def a_local_node(state: str = "manager", **fields: Any) -> LocalNodeView:
    """This machine's node, in that state, but for `fields`."""
    here = LocalNodeView(
        node_id="n0de5m1q0x8c2z7b4n6a9s1d3",
        cluster="c1uster",
        state=state,
        executor="process",
        advertise="10.0.0.1:2377",
        managers=("10.0.0.1:2377",),
        certificate_until="2026-07-30T12:00:00.000Z",
    )
    return msgspec.structs.replace(here, **fields)


def a_network(name: str = "shop_front", **fields: Any) -> NetworkView:
    """An overlay with one service on it, but for `fields`."""
    network = NetworkView(
        id="netw5m1q0x8c2z7b4n6a9s1d3",
        name=name,
        stack="shop",
        driver="overlay",
        state="ready",
        message="",
        subnets=(SubnetView(subnet="10.0.0.0/20", gateway="10.0.0.1", ip_range=""),),
        vxlan_id=4096,
        internal=False,
        attachable=False,
        ipv6=False,
        addresses=4,
        capacity=4093,
        services=("shop_web",),
        labels={},
        driver_options={},
        created_at="2026-05-01T11:55:00.000Z",
    )
    return msgspec.structs.replace(network, **fields)


def a_config(name: str = "shop_site", **fields: Any) -> ConfigView:
    config = ConfigView(
        id="c0nf5m1q0x8c2z7b4n6a9s1d3",
        name=name,
        stack="shop",
        state="ready",
        digest="0123456789abcdef0123456789abcdef",
        size_bytes=11,
        template="",
        services=("shop_web",),
        labels={},
        created_at="2026-05-01T11:55:00.000Z",
        updated_at="2026-05-01T11:59:00.000Z",
    )
    return msgspec.structs.replace(config, **fields)


def a_secret(name: str = "shop_password", **fields: Any) -> SecretView:
    secret = SecretView(
        id="secr5m1q0x8c2z7b4n6a9s1d3",
        name=name,
        stack="",
        state="ready",
        template="",
        driver="",
        services=("shop_db", "shop_web"),
        labels={"tier": "back"},
        created_at="2026-05-01T11:55:00.000Z",
        updated_at="2026-05-01T11:55:00.000Z",
    )
    return msgspec.structs.replace(secret, **fields)


def a_service_plan(name: str = "shop_web", action: str = "update", **fields: Any) -> ServicePlanView:
    plan = ServicePlanView(
        name=name,
        stack=name.partition("_")[0],
        action=action,
        changes=(),
        steps=(),
        replaced=0,
        created=0,
        removed=0,
        lowest_running=3,
        wanted=3,
        duration_seconds=0.0,
        placement={},
    )
    return msgspec.structs.replace(plan, **fields)


def a_plan(*services: ServicePlanView, **fields: Any) -> PlanView:
    changes = any(service.action != "unchanged" for service in services)
    return msgspec.structs.replace(PlanView(base_version=42, changes=changes, services=services, prune=()), **fields)


class MemoryWatch:
    """Plays back what a daemon would push. If it is silent, it says nothing more after that until it is closed."""

    def __init__(self, pushed: Sequence[Sequence[ServiceView]], ended: threading.Event, *, silent: bool) -> None:
        self._pushed = pushed
        self._ended = ended
        self._silent = silent

    def __iter__(self) -> Iterator[Services]:
        for snapshot in self._pushed:
            yield Services(items=tuple(snapshot))
        if self._silent:
            assert self._ended.wait(SILENCE_SECONDS), "nobody has closed the watch"

    def close(self) -> None:
        self._ended.set()


class MemoryControl:
    """Answers from its attributes; `requests` is everything that was asked, in order.

    `pushed` is what `watch` sends, one snapshot after the other. `silent` makes it say nothing more after the last one,
    until it is closed; otherwise the stream ends. `looks` are what `nodes` says one time after the other, and `node_list`
    after that; `rotations` likewise what `cluster_info` says of the root."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.service_list: Sequence[ServiceView] = ()
        self.pushed: Sequence[Sequence[ServiceView]] = ()
        self.task_list: Sequence[TaskView] = ()
        self.stack_list: Sequence[StackView] = ()
        self.node_list: Sequence[NodeView] = ()
        self.network_list: Sequence[NetworkView] = ()
        self.config_list: Sequence[ConfigView] = ()
        self.config_data = b"listen 80;\n"
        self.secret_list: Sequence[SecretView] = ()
        self.event_list: Sequence[EventView] = ()
        self.log_lines: Sequence[LogLineView] = ()
        self.planned = a_plan()
        self.state = a_status()
        self.apply_response = ApplyResponse(revision="r2", changed=True, services=())
        self.down_progress: Sequence[DownProgress] = ()
        self.failure: StackdError | None = None
        self.hosts: list[str] = []
        self.material: TlsMaterial | None = None
        self.silent = False
        self._ended = threading.Event()
        self.answering = ""
        self.looks: list[Sequence[NodeView]] = []
        self.info = a_cluster()
        self.rotations: list[RootRotationView | None] = []
        self.here = a_local_node()
        self.cluster_failure: StackdError | None = None
        self.key = ""
        self.user_list: Sequence[UserView] = ()
        self.issued = IssuedUser(certificate=b"certificate", roots=b"roots", managers=("10.0.0.1:2377",))
        self.pieces: Sequence[bytes] = ()

    def connect(self, *hosts: str, material: TlsMaterial | None = None) -> MemoryControl:
        self.hosts += hosts
        self.material = material
        return self

    def close(self) -> None:
        self._ended.set()

    def _asked(self, request: Any) -> None:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure

    def version(self) -> VersionResponse:
        self._asked("version")
        return VersionResponse(version="0.1.0", data_dir="/var/lib/stackd", pid=77, node_id=self.answering)

    def status(self) -> StatusView:
        self._asked("status")
        return self.state

    def apply(self, request: ApplyRequest) -> ApplyResponse:
        self._asked(request)
        return self.apply_response

    def plan(self, request: PlanRequest) -> PlanView:
        self._asked(request)
        return self.planned

    def sync(self, request: SyncRequest) -> StatusView:
        self._asked(request)
        return self.state

    def events(self, request: EventsRequest) -> Iterator[EventView]:
        self._asked(request)
        yield from self.event_list

    def stacks(self) -> Stacks:
        self._asked("stacks")
        return Stacks(items=tuple(self.stack_list))

    def services(self, request: ListRequest) -> Services:
        self._asked(request)
        found = [service for service in self.service_list if request.stack in ("", service.stack)]
        return Services(items=tuple(found), index=1)

    def watch(self, request: ListRequest) -> MemoryWatch:
        self._asked(request)
        return MemoryWatch(self.pushed, self._ended, silent=self.silent)

    def tasks(self, request: ListRequest) -> Tasks:
        self._asked(request)
        found = [task for task in self.task_list if request.service in ("", task.service)]
        return Tasks(items=tuple(task for task in found if request.history or task.desired_state == "running"))

    def inspect(self, request: NameRequest) -> ServiceDetail:
        self._asked(request)
        return ServiceDetail(service=self._service(request.name), spec={"container": {"image": "nginx:1.25", "env": []}})

    def scale(self, request: ScaleRequest) -> ServiceView:
        self._asked(request)
        return self._service(request.name)

    def update(self, request: UpdateRequest) -> ServiceView:
        self._asked(request)
        return self._service(request.name)

    def rollback(self, request: NameRequest) -> ServiceView:
        self._asked(request)
        return self._service(request.name)

    def remove_service(self, request: NameRequest) -> None:
        self._asked(request)
        self._service(request.name)

    def remove_stack(self, request: NameRequest) -> None:
        self._asked(request)

    def nodes(self) -> Nodes:
        self._asked("nodes")
        return Nodes(items=tuple(self.looks.pop(0) if self.looks else self.node_list))

    def update_cluster(self, request: ClusterRequest) -> ClusterView:
        self._asked(request)
        return some_settings(rebalance_tasks=request.rebalance or 0)

    def networks(self) -> Networks:
        self._asked("networks")
        return Networks(items=tuple(self.network_list))

    def configs(self) -> Configs:
        self._asked("configs")
        return Configs(items=tuple(self.config_list))

    def secrets(self) -> Secrets:
        self._asked("secrets")
        return Secrets(items=tuple(self.secret_list))

    def inspect_config(self, request: NameRequest) -> ConfigDetail:
        self._asked(request)
        for config in self.config_list:
            if config.name == request.name:
                return ConfigDetail(config=config, data=self.config_data)
        raise NotFound("object.unknown", f'no config named "{request.name}"')

    def create_network(self, request: NetworkRequest) -> NetworkView:
        self._asked(request)
        return a_network(request.spec.name)

    def create_config(self, request: FileRequest) -> ConfigView:
        self._asked(request)
        return a_config(request.name)

    def create_secret(self, request: FileRequest) -> SecretView:
        self._asked(request)
        return a_secret(request.name)

    def remove_object(self, request: RemoveRequest) -> None:
        self._asked(request)

    def logs(self, request: LogsRequest) -> Iterator[LogLineView]:
        self._asked(request)
        yield from self.log_lines

    def down(self, request: DownRequest) -> Iterator[DownProgress]:
        self._asked(request)
        yield from self.down_progress

    def cluster_info(self) -> ClusterInfoView:
        self._asked("cluster_info")
        if self.cluster_failure is not None:
            raise self.cluster_failure
        rotation = self.rotations.pop(0) if self.rotations else self.info.rotation
        return msgspec.structs.replace(self.info, rotation=rotation)

    def join_token(self, request: JoinTokenRequest) -> JoinTokenResponse:
        self._asked(request)
        return JoinTokenResponse(token=f"STKN-1-{request.role}", addresses=("10.0.0.1:2379",))

    def rotate_token(self, request: JoinTokenRequest) -> JoinTokenResponse:
        self._asked("rotate")
        return self.join_token(request)

    def update_node(self, request: UpdateNodeRequest) -> NodeView:
        self._asked(request)
        return next(node for node in self.node_list if node.id == request.name)

    def remove_node(self, request: RemoveNodeRequest) -> None:
        self._asked(request)

    def change_certificates(self, request: ChangeCertificatesRequest) -> ClusterInfoView:
        self._asked(request)
        return self.info

    def rotate_root(self, request: RotateRootRequest) -> ClusterInfoView:
        self._asked(request)
        return self.info

    def set_autolock(self, request: AutolockRequest) -> UnlockKeyResponse:
        self._asked(request)
        self.key = "stackd-unlock-1-new" if request.on else ""
        return UnlockKeyResponse(key=self.key)

    def unlock_key(self) -> UnlockKeyResponse:
        self._asked("unlock_key")
        return UnlockKeyResponse(key=self.key)

    def issue_user(self, request: IssueUserRequest) -> IssuedUser:
        self._asked(request)
        return self.issued

    def users(self) -> Users:
        self._asked("users")
        return Users(items=tuple(self.user_list))

    def remove_user(self, request: UserRequest) -> None:
        self._asked(request)

    def backup(self) -> Iterator[BackupPiece]:
        self._asked("backup")
        yield from (BackupPiece(data=piece) for piece in self.pieces)

    def local_node(self) -> LocalNodeView:
        self._asked("local_node")
        return self.here

    def init_cluster(self, request: InitRequest) -> LocalNodeView:
        self._asked(request)
        return self.here

    def join_cluster(self, request: JoinClusterRequest) -> LocalNodeView:
        self._asked(request)
        return self.here

    def leave_cluster(self, request: LeaveClusterRequest) -> LocalNodeView:
        self._asked(request)
        return self.here

    def unlock(self, request: UnlockRequest) -> LocalNodeView:
        self._asked(request)
        return self.here

    def _service(self, name: str) -> ServiceView:
        for service in self.service_list:
            if service.name == name:
                return service
        raise NotFound("service.unknown", f'no service named "{name}"')
