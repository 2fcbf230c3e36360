"""The client of the daemon's services for the command line: blocking calls over a unix socket, or to a manager from afar.

One method per entry of their tables, but for what nodes ask each other. Errors come back as the StackdError that the daemon
raised; a daemon that isn't there is `Unavailable("api.no_daemon")`. Synchronous on purpose: a command makes one or two calls
and must start quickly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
import msgspec

from stackd.api import cluster, codec, control, local
from stackd.api.addresses import ManagerAddress
from stackd.api.control import Empty, Failure
from stackd.api.views import (
    ClusterInfoView,
    ClusterView,
    ConfigView,
    EventView,
    LogLineView,
    NetworkView,
    NodeView,
    PlanView,
    SecretView,
    ServiceView,
    StatusView,
)
from stackd.base.errors import StackdError, Unavailable

if TYPE_CHECKING:
    from stackd.api.secure import TlsMaterial

CALL_SECONDS = 60.0
"""How long a call may take before the daemon counts as stuck; streams have no such limit."""

CHANGE_SECONDS = 300.0
"""How long this machine's daemon may take to change what the node is: its tasks may have to stop first."""

_OPTIONS = (
    ("grpc.max_receive_message_length", codec.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", codec.MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)

UNIX = "unix://"
TCP = "tcp://"

CLUSTER = "stackd.v1.Cluster"
NODE = "stackd.v1.Node"

T = TypeVar("T")


class Incoming(Generic[T]):
    """What the daemon streams, item by item. `close` may be called from another thread: it ends the call, and with it the
    iteration, also one that is waiting for the next item."""

    def __init__(self, call: Any, item: type[T], error_of: Callable[[Any], StackdError]) -> None:
        self._call = call
        self._item = item
        self._error_of = error_of
        self._closed = False

    def __iter__(self) -> Incoming[T]:
        return self

    def __next__(self) -> T:
        try:
            payload = next(self._call)
        except grpc.RpcError as exc:
            if self._closed:
                raise StopIteration from None
            raise self._error_of(exc) from None
        item: T = codec.decode(payload, self._item)
        return item

    def close(self) -> None:
        self._closed = True
        self._call.cancel()


def _connection(hosts: tuple[str, ...], material: TlsMaterial | None) -> tuple[Any, str, str]:
    """The channel, what errors call the other end, and what they say to do when it doesn't answer."""
    if len(hosts) == 1 and hosts[0].startswith(UNIX):
        path = hosts[0].removeprefix(UNIX)
        return (
            grpc.insecure_channel(f"unix:{path}", options=_OPTIONS),
            path,
            "start one with `stackd up DIR` or `stackd daemon`",
        )
    if bad := [host for host in hosts if not host.startswith(TCP)]:
        hint = "use unix:///path/to/stackd.sock or tcp://HOST:PORT"
        raise StackdError("api.host.bad", f"{bad[0]} is not an address of a daemon", hint=hint)
    if material is None:
        why = f"reaching {hosts[0]} takes a certificate"
        raise StackdError("api.host.no_certificate", why, hint="`stackd cluster ca user` issues one; give it with --context")
    from stackd.api.remote import open_channel

    channel, where = open_channel([str(ManagerAddress.parse(host.removeprefix(TCP))) for host in hosts], material)
    return channel, where, "try again: another manager may answer"


class Client:
    """A connection to this machine's daemon (`unix:///path/stackd.sock`), or, with a certificate, to the first of several
    managers (`tcp://HOST[:PORT]`) that answers; a context manager."""

    def __init__(self, *hosts: str, material: TlsMaterial | None = None, timeout_seconds: float = CALL_SECONDS) -> None:
        """Raises StackdError with api.host.bad, api.host.no_certificate or api.address.bad; Unavailable
        ("api.manager.unreachable")."""
        self._timeout_seconds = timeout_seconds
        self._channel, self._where, self._hint = _connection(hosts, material)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and every stream that is still open on it."""
        self._channel.close()

    def version(self) -> control.VersionResponse:
        return self._call("Version", Empty(), control.VersionResponse)

    def status(self) -> StatusView:
        return self._call("Status", Empty(), StatusView)

    def apply(self, request: control.ApplyRequest) -> control.ApplyResponse:
        return self._call("Apply", request, control.ApplyResponse)

    def plan(self, request: control.PlanRequest) -> PlanView:
        return self._call("Plan", request, PlanView)

    def sync(self, request: control.SyncRequest) -> StatusView:
        return self._call("Sync", request, StatusView)

    def events(self, request: control.EventsRequest) -> Incoming[EventView]:
        return self._stream("Events", request, EventView)

    def stacks(self) -> control.Stacks:
        return self._call("Stacks", Empty(), control.Stacks)

    def services(self, request: control.ListRequest) -> control.Services:
        return self._call("Services", request, control.Services)

    def watch(self, request: control.ListRequest) -> Incoming[control.Services]:
        return self._stream("Watch", request, control.Services)

    def tasks(self, request: control.ListRequest) -> control.Tasks:
        return self._call("Tasks", request, control.Tasks)

    def inspect(self, request: control.NameRequest) -> control.ServiceDetail:
        return self._call("Inspect", request, control.ServiceDetail)

    def scale(self, request: control.ScaleRequest) -> ServiceView:
        return self._call("Scale", request, ServiceView)

    def update(self, request: control.UpdateRequest) -> ServiceView:
        return self._call("Update", request, ServiceView)

    def rollback(self, request: control.NameRequest) -> ServiceView:
        return self._call("Rollback", request, ServiceView)

    def remove_service(self, request: control.NameRequest) -> None:
        self._call("RemoveService", request, Empty)

    def remove_stack(self, request: control.NameRequest) -> None:
        self._call("RemoveStack", request, Empty)

    def nodes(self) -> control.Nodes:
        return self._call("Nodes", Empty(), control.Nodes)

    def update_cluster(self, request: control.ClusterRequest) -> ClusterView:
        return self._call("UpdateCluster", request, ClusterView)

    def networks(self) -> control.Networks:
        return self._call("Networks", Empty(), control.Networks)

    def configs(self) -> control.Configs:
        return self._call("Configs", Empty(), control.Configs)

    def secrets(self) -> control.Secrets:
        return self._call("Secrets", Empty(), control.Secrets)

    def inspect_config(self, request: control.NameRequest) -> control.ConfigDetail:
        return self._call("InspectConfig", request, control.ConfigDetail)

    def create_network(self, request: control.NetworkRequest) -> NetworkView:
        return self._call("CreateNetwork", request, NetworkView)

    def create_config(self, request: control.FileRequest) -> ConfigView:
        return self._call("CreateConfig", request, ConfigView)

    def create_secret(self, request: control.FileRequest) -> SecretView:
        return self._call("CreateSecret", request, SecretView)

    def remove_object(self, request: control.RemoveRequest) -> None:
        self._call("RemoveObject", request, Empty)

    def logs(self, request: control.LogsRequest) -> Incoming[LogLineView]:
        return self._stream("Logs", request, LogLineView)

    def down(self, request: control.DownRequest) -> Incoming[control.DownProgress]:
        return self._stream("Down", request, control.DownProgress)

    # The cluster: nodes, certificates, users.

    def cluster_info(self) -> ClusterInfoView:
        return self._call("Info", Empty(), ClusterInfoView, CLUSTER)

    def join_token(self, request: cluster.JoinTokenRequest) -> cluster.JoinTokenResponse:
        return self._call("JoinToken", request, cluster.JoinTokenResponse, CLUSTER)

    def rotate_token(self, request: cluster.JoinTokenRequest) -> cluster.JoinTokenResponse:
        return self._call("RotateToken", request, cluster.JoinTokenResponse, CLUSTER)

    def update_node(self, request: cluster.UpdateNodeRequest) -> NodeView:
        return self._call("UpdateNode", request, NodeView, CLUSTER)

    def remove_node(self, request: cluster.RemoveNodeRequest) -> None:
        self._call("RemoveNode", request, Empty, CLUSTER)

    def change_certificates(self, request: cluster.ChangeCertificatesRequest) -> ClusterInfoView:
        return self._call("ChangeCertificates", request, ClusterInfoView, CLUSTER)

    def rotate_root(self, request: cluster.RotateRootRequest) -> ClusterInfoView:
        return self._call("RotateRoot", request, ClusterInfoView, CLUSTER)

    def set_autolock(self, request: cluster.AutolockRequest) -> cluster.UnlockKeyResponse:
        return self._call("SetAutolock", request, cluster.UnlockKeyResponse, CLUSTER)

    def unlock_key(self) -> cluster.UnlockKeyResponse:
        return self._call("UnlockKey", Empty(), cluster.UnlockKeyResponse, CLUSTER)

    def issue_user(self, request: cluster.IssueUserRequest) -> cluster.IssuedUser:
        return self._call("IssueUser", request, cluster.IssuedUser, CLUSTER)

    def users(self) -> cluster.Users:
        return self._call("Users", Empty(), cluster.Users, CLUSTER)

    def remove_user(self, request: cluster.UserRequest) -> None:
        self._call("RemoveUser", request, Empty, CLUSTER)

    def backup(self) -> Incoming[cluster.BackupPiece]:
        return self._stream("Backup", Empty(), cluster.BackupPiece, CLUSTER)

    # This machine's own daemon.

    def local_node(self) -> local.LocalNodeView:
        return self._call("Info", Empty(), local.LocalNodeView, NODE)

    def init_cluster(self, request: local.InitRequest) -> local.LocalNodeView:
        return self._change("Init", request)

    def join_cluster(self, request: local.JoinClusterRequest) -> local.LocalNodeView:
        return self._change("Join", request)

    def leave_cluster(self, request: local.LeaveClusterRequest) -> local.LocalNodeView:
        return self._change("Leave", request)

    def unlock(self, request: local.UnlockRequest) -> local.LocalNodeView:
        return self._change("Unlock", request)

    def _change(self, name: str, request: msgspec.Struct) -> local.LocalNodeView:
        return self._call(name, request, local.LocalNodeView, NODE, CHANGE_SECONDS)

    def _call(
        self,
        name: str,
        request: msgspec.Struct,
        response: type[T],
        service: str = codec.CONTROL_SERVICE,
        timeout_seconds: float | None = None,
    ) -> T:
        call = self._channel.unary_unary(f"/{service}/{name}")
        try:
            payload = call(codec.encode(request), timeout=timeout_seconds or self._timeout_seconds)
        except grpc.RpcError as exc:
            raise self._error(exc) from None
        answer: T = codec.decode(payload, response)
        return answer

    def _stream(self, name: str, request: msgspec.Struct, item: type[T], service: str = codec.CONTROL_SERVICE) -> Incoming[T]:
        call = self._channel.unary_stream(f"/{service}/{name}")(codec.encode(request))
        return Incoming(call, item, self._error)

    def _error(self, exc: Any) -> StackdError:
        """What went wrong: the daemon's own word if it said one, else what became of the connection."""
        for key, value in exc.trailing_metadata() or ():
            if key == codec.FAILURE_KEY:
                return codec.error_of(codec.decode(value, Failure))
        match exc.code():
            case grpc.StatusCode.UNAVAILABLE:
                return Unavailable("api.no_daemon", f"no daemon answers on {self._where}", hint=self._hint)
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return Unavailable("api.timeout", f"the daemon did not answer within {self._timeout_seconds:g} s")
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return StackdError("api.message.too_large", f"the daemon's transport refused the call: {exc.details()}")
            case grpc.StatusCode.UNIMPLEMENTED:
                return StackdError("api.method.unknown", "the daemon does not know this call: it is older than this command")
            case code:
                return StackdError("api.call.failed", f"the call failed: {code.name.lower()}: {exc.details()}")
