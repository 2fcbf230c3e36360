"""Who may call what: by certificate and by what the state says now."""

from __future__ import annotations

import asyncio

import pytest
from stackd.api.cluster import CLUSTER_METHODS
from stackd.api.control import METHODS, Caller, Method
from stackd.api.secure import Peer
from stackd.base.errors import Refused
from stackd.base.ids import NodeId
from stackd.base.records import encode
from stackd.base.time import Instant
from stackd.engine.model import Authority, Node, Row, User
from stackd.engine.parts import Principal, PrincipalKind, Role, UserRole
from stackd.engine.store import Store, Transaction
from stackd.engine.view import TABLE_OF
from stackd.manager.access import Access
from stackd.security.identity import Identity, NodeIdentity, Presented, UserIdentity

METHOD = {f"{method.service}.{method.name}": method for method in (*METHODS, *CLUSTER_METHODS)}
STATUS, APPLY, DOWN = METHOD["Control.Status"], METHOD["Control.Apply"], METHOD["Control.Down"]
RENEW, BECOME, TOKEN = METHOD["Cluster.Renew"], METHOD["Cluster.BecomeManager"], METHOD["Cluster.JoinToken"]

WORKER = Node(id=NodeId("w1"), created_at=Instant(0))
MANAGER = Node(id=NodeId("m1"), created_at=Instant(0), role=Role.MANAGER)
ANN = User(name="ann", role=UserRole.DEPLOYER, created_at=Instant(0))


class State:
    def __init__(self) -> None:
        self.store = Store()
        self.access = Access(lambda: self.store.view)
        authority = Authority(cluster="c1", root_pem=b"", issuer="k", sealed_key=b"", sealed_secrets=b"", created_at=Instant(0))
        self.write(authority, WORKER, MANAGER, ANN)

    def write(self, *rows: Row, delete: tuple[Row, ...] = ()) -> None:
        deletes = tuple((TABLE_OF[type(row)], row.key) for row in delete)
        entry = encode(Transaction(now=Instant(1), puts=rows, deletes=deletes))
        self.access.notice(self.store.apply(self.store.index + 1, entry))

    def allows(self, peer: Peer, method: Method, named: Caller | None = None) -> bool:
        try:
            self.access.authorize(peer, method, named)
        except Refused as refusal:
            return refusal.code != "api.access.denied"
        return True


def a_peer(identity: Identity) -> Peer:
    return Peer(Presented(identity, serial=1, not_before=Instant(0), not_after=Instant(9), issuer_key="k"), "10.0.0.1")


def node(name: str, role: Role, cluster: str = "c1") -> Peer:
    return a_peer(NodeIdentity(NodeId(name), role, cluster))


def user(name: str, role: UserRole, cluster: str = "c1") -> Peer:
    return a_peer(UserIdentity(name, role, cluster))


def called_by(kind: PrincipalKind, name: str) -> Caller:
    return Caller(principal=Principal(kind=kind, name=name))


def test_nodes_call_only_what_is_for_nodes_of_their_role() -> None:
    state = State()
    allowed = {
        (name, method.name)
        for name, peer in (("worker", node("w1", Role.WORKER)), ("manager", node("m1", Role.MANAGER)))
        for method in METHOD.values()
        if state.allows(peer, method)
    }
    assert allowed == {
        ("worker", "Renew"),
        ("worker", "Leave"),
        ("manager", "Renew"),
        ("manager", "Leave"),
        ("manager", "BecomeManager"),
        ("manager", "MoveManager"),
    }


def test_a_role_counts_only_if_state_and_certificate_both_give_it() -> None:
    state = State()
    assert not state.allows(node("w1", Role.MANAGER), BECOME)
    assert not state.allows(node("m1", Role.WORKER), BECOME)


def test_whoever_is_no_member_or_of_another_cluster_is_refused() -> None:
    state = State()
    assert not state.allows(node("stranger", Role.WORKER), RENEW)
    assert not state.allows(node("w1", Role.WORKER, "c2"), RENEW)
    assert not state.allows(user("ann", UserRole.DEPLOYER, "c2"), STATUS)
    assert not state.allows(user("stranger", UserRole.ADMIN), STATUS)


def test_a_person_may_do_what_record_and_certificate_both_reach() -> None:
    state = State()
    for certificate, reached in (
        (UserRole.VIEWER, [STATUS]),
        (UserRole.DEPLOYER, [STATUS, APPLY]),
        (UserRole.ADMIN, [STATUS, APPLY]),  # the record makes her a deployer
    ):
        peer = user("ann", certificate)
        assert [method for method in (STATUS, APPLY, DOWN, TOKEN) if state.allows(peer, method)] == reached
    assert not state.allows(user("ann", UserRole.ADMIN), RENEW)


def test_the_caller_is_named_by_the_certificate() -> None:
    state = State()
    assert str(state.access.authorize(user("ann", UserRole.VIEWER), STATUS).principal) == "certificate:ann"
    assert str(state.access.authorize(node("w1", Role.WORKER), RENEW).principal) == "node:w1"


def test_a_manager_calls_for_others_with_their_rights_and_nobody_else_does() -> None:
    state, manager = State(), node("m1", Role.MANAGER)
    ann = called_by(PrincipalKind.CERTIFICATE, "ann")
    assert state.allows(manager, APPLY, ann)
    assert not state.allows(manager, TOKEN, ann)
    assert not state.allows(node("w1", Role.WORKER), APPLY, ann)
    assert not state.allows(node("w1", Role.MANAGER), APPLY, ann)
    assert not state.allows(user("ann", UserRole.ADMIN), STATUS, ann)
    assert state.allows(manager, TOKEN, called_by(PrincipalKind.LOCAL_USER, "0"))
    assert state.allows(manager, RENEW, called_by(PrincipalKind.NODE, "w1"))
    assert not state.allows(manager, RENEW, called_by(PrincipalKind.NODE, "stranger"))
    assert not state.allows(manager, APPLY, called_by(PrincipalKind.SYSTEM, "stackd"))
    assert not state.allows(manager, APPLY, called_by(PrincipalKind.SOURCE, "main"))


def test_a_demoted_manager_calls_for_nobody_any_more() -> None:
    state = State()
    state.write(Node(id=MANAGER.id, created_at=Instant(0), role=Role.WORKER))
    assert not state.allows(node("m1", Role.MANAGER), APPLY, called_by(PrincipalKind.LOCAL_USER, "0"))


def test_an_agent_opens_a_stream_as_the_node_of_its_certificate() -> None:
    state = State()
    assert state.access.agent(node("w1", Role.WORKER)) == "w1"
    for peer in (node("stranger", Role.WORKER), user("ann", UserRole.ADMIN)):
        with pytest.raises(Refused):
            state.access.agent(peer)


async def _stream(state: State, caller: Caller, method: Method) -> str:
    try:
        async with state.access.scope(caller, method):
            await asyncio.Event().wait()
    except Refused as refusal:
        return refusal.code
    return ""


def test_streams_of_who_has_lost_the_right_are_cut_and_others_go_on() -> None:
    state = State()

    async def story() -> None:
        ann = asyncio.create_task(_stream(state, called_by(PrincipalKind.CERTIFICATE, "ann"), APPLY))
        other = asyncio.create_task(_stream(state, called_by(PrincipalKind.LOCAL_USER, "0"), APPLY))
        await asyncio.sleep(0)
        state.write(User(name="ann", role=UserRole.VIEWER, created_at=Instant(0)))
        assert await ann == "api.access.denied"
        state.write(delete=(ANN,))
        await asyncio.sleep(0)
        assert not other.done()
        other.cancel()

    asyncio.run(story())


def test_whoever_goes_by_himself_was_not_cut_off() -> None:
    state = State()

    async def story() -> None:
        with pytest.raises(TimeoutError):
            async with state.access.scope(called_by(PrincipalKind.LOCAL_USER, "0"), STATUS):
                raise TimeoutError("of the stream's own")

    asyncio.run(story())
