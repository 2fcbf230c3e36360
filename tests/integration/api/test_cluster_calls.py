"""The services beside Control on the local socket: each method reaches the handler of its own service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from stackd.api.client import Client
from stackd.api.cluster import (
    CLUSTER_METHODS,
    ClusterHandler,
    JoinTokenRequest,
    JoinTokenResponse,
    RemoveNodeRequest,
    UserRequest,
    Users,
)
from stackd.api.control import Caller, Empty
from stackd.api.local import NODE_METHODS, InitRequest, JoinClusterRequest, LocalNodeView, NodeHandler
from stackd.api.server import LocalService, handler_name, serve_unix
from stackd.base.errors import Refused, StackdError
from stackd.engine.parts import Role

from control_server import local


class Nobody:
    """A handler that has whatever method is asked for, and knows of none of them."""

    def __getattr__(self, name: str) -> Any:
        async def unknown(request: object, caller: Caller) -> object:
            raise StackdError("api.method.unknown", name)

        return unknown


class Cluster(Nobody):
    async def join_token(self, request: JoinTokenRequest, caller: Caller) -> JoinTokenResponse:
        return JoinTokenResponse(token=f"token of {request.role} for {caller.principal}", addresses=("a:2379",))

    async def remove_node(self, request: RemoveNodeRequest, caller: Caller) -> Empty:
        raise Refused("node.remove.up", f"{request.name} is not down")

    async def users(self, request: Empty, caller: Caller) -> Users:
        return Users(items=())

    async def remove_user(self, request: UserRequest, caller: Caller) -> Empty:
        return Empty()


class Node(Nobody):
    async def info(self, request: Empty, caller: Caller) -> LocalNodeView:
        return LocalNodeView(node_id="n1", cluster="", state="idle")

    async def init(self, request: InitRequest, caller: Caller) -> LocalNodeView:
        return LocalNodeView(node_id="n1", cluster="c1", state="manager", advertise=request.advertise)


def call(path: Path, *calls: Any) -> list[Any]:
    """What the blocking client gets, called beside the server's loop."""

    def ask() -> list[Any]:
        with Client(f"unix://{path}") as client:
            return [one(client) for one in calls]

    async def main() -> list[Any]:
        more = (LocalService(CLUSTER_METHODS, Cluster()), LocalService(NODE_METHODS, Node()))
        async with serve_unix(path, Nobody(), local, more):  # type: ignore[arg-type]
            return await asyncio.to_thread(ask)

    return asyncio.run(main())


def test_each_service_answers_for_itself(tmp_path: Path) -> None:
    token, users, nothing, info, made = call(
        tmp_path / "s",
        lambda client: client.join_token(JoinTokenRequest(role=Role.WORKER)),
        lambda client: client.users(),
        lambda client: client.remove_user(UserRequest(name="ann")),
        lambda client: client.local_node(),
        lambda client: client.init_cluster(InitRequest(advertise="10.0.0.1")),
    )
    assert token.token.startswith("token of worker for local-user:")
    assert users == Users(items=())
    assert nothing is None
    assert (info.state, made.state, made.advertise) == ("idle", "manager", "10.0.0.1")


def test_refusals_come_back_as_they_were_said(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        call(tmp_path / "s", lambda client: client.remove_node(RemoveNodeRequest(name="box")))
    assert (caught.value.code, caught.value.message) == ("node.remove.up", "box is not down")


@pytest.mark.parametrize(("methods", "handler"), [(CLUSTER_METHODS, ClusterHandler), (NODE_METHODS, NodeHandler)])
def test_every_method_of_a_table_has_a_handler(methods: Any, handler: type) -> None:
    for method in methods:
        assert callable(getattr(handler, handler_name(method)))


def test_what_is_secret_is_not_in_a_repr() -> None:
    for message in (
        JoinTokenResponse(token="sesame", addresses=()),
        JoinClusterRequest(token="sesame", manager="a"),
        InitRequest(key=b"sesame"),
    ):
        assert "sesame" not in repr(message)
