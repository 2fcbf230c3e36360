"""What a manager signs with, and what joiners get."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import msgspec
import pytest
from stackd.api.join import JoinAnswer, JoinRequest, Redirect, RenewalRequest
from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.base.ids import NodeId
from stackd.base.time import DAY, HOUR, Duration, Instant
from stackd.engine.inputs import FoundAuthority, FullPass, Input, Reply, UpdateNode
from stackd.engine.model import Authority
from stackd.engine.parts import SYSTEM, Availability, Role, UserRole
from stackd.engine.step import step
from stackd.engine.store import Store, encode_transaction
from stackd.manager.authority import Issuer, new_authority, role_now, roots_of
from stackd.manager.joining import Joiners
from stackd.manager.managers import Managers
from stackd.security.authority import Authority as Signer
from stackd.security.authority import Root
from stackd.security.identity import NodeIdentity, NodeKey, UserIdentity, read_certificate, verify_certificate
from stackd.security.keys import KEY_BYTES, Purpose, RootKey
from stackd.security.tokens import JoinToken

SEALER = RootKey(bytes(KEY_BYTES)).sealer(Purpose.AUTHORITY)
NOW = Instant(1_800_000_000 * 10**9)
FOUNDED = Instant(NOW - 300 * DAY)
NODE = NodeId("n1")


class StillClock:
    def now(self) -> Instant:
        return NOW


@dataclass
class Members:
    """Members of consensus as far as `Managers` looks."""

    known_leader: str = "m1"
    known_addresses: dict[str, str] = field(default_factory=lambda: {"m1": "10.0.0.1:2378", "m2": "10.0.0.2:2378"})


class Desk:
    """A state, and a writer without a log."""

    def __init__(self) -> None:
        self.store = Store()
        self.entropy = random.Random(1)
        self.members = Members()
        self.issuer = Issuer(lambda: self.store.view.authority, SEALER, StillClock())
        managers = Managers(NodeId("m1"), self.members)  # type: ignore[arg-type]  # the two properties are all it reads
        self.joiners = Joiners(lambda: self.store.view, self.submit, self.issuer, managers)
        asyncio.run(self.submit(FullPass()))
        asyncio.run(self.submit(FoundAuthority(authority=new_authority(SEALER, "c1", FOUNDED), principal=SYSTEM)))

    @property
    def row(self) -> Authority:
        return self.issuer.row

    async def submit(self, command: Input) -> Reply:
        decision = step(self.store.view, [command], NOW, self.entropy)
        if decision.transaction is not None:
            self.store.apply(self.store.index + 1, encode_transaction(decision.transaction))
        return decision.replies[0]

    def join(self, key: NodeKey, secret: str, **fields: str) -> JoinAnswer | Redirect:
        request = JoinRequest(secret=secret, request=key.request(), hostname="box", peer="10.0.0.9", **fields)
        return asyncio.run(self.joiners.join(request))

    def joined(self, key: NodeKey, role: Role, **fields: str) -> JoinAnswer:
        answer = self.join(key, self.issuer.token(role).secret, **fields)
        assert isinstance(answer, JoinAnswer)
        return answer


@pytest.fixture
def desk() -> Desk:
    return Desk()


def rotating(issuer: Issuer) -> Issuer:
    """The same authority, on its way to a new root."""
    row = msgspec.structs.replace(issuer.row, rotation=issuer.rotation_to(b"", b""))
    return Issuer(lambda: row, SEALER, StillClock())


def test_a_certificate_names_node_role_and_cluster_and_lives_as_long_as_the_cluster_says(desk: Desk) -> None:
    key = NodeKey.create()
    presented = verify_certificate(desk.issuer.issue_node(key.request(), NODE, Role.WORKER), desk.issuer.roots, NOW)
    assert presented.identity == NodeIdentity(NODE, Role.WORKER, "c1")
    assert presented.issuer_key == desk.row.issuer
    assert presented.not_after == NOW + 90 * DAY


def test_a_users_certificate_names_the_user_and_is_no_servers(desk: Desk) -> None:
    certificate = desk.issuer.issue_user(NodeKey.create().request(), "ann", UserRole.DEPLOYER, HOUR)
    presented = verify_certificate(certificate, desk.issuer.roots, NOW)
    assert presented.identity == UserIdentity("ann", UserRole.DEPLOYER, "c1")
    with pytest.raises(StackdError, match="not of a node"):
        _ = presented.node


def test_the_state_holds_neither_the_roots_key_nor_a_tokens_secret_in_the_clear(desk: Desk) -> None:
    stored = msgspec.msgpack.encode(desk.row)
    assert b"PRIVATE KEY" not in stored
    assert not any(desk.issuer.token(role).secret.encode() in stored for role in Role)


def test_each_token_gives_its_role_and_names_the_root(desk: Desk) -> None:
    for role in Role:
        token = desk.issuer.token(role)
        assert JoinToken.parse(str(token)) == token
        assert desk.issuer.role_of(token.secret) is role
        assert Root.trusted_by_digest(desk.issuer.roots, token.digest)
    assert desk.issuer.role_of("0" * 25) is None


def test_replacing_one_token_leaves_the_other_one_valid(desk: Desk) -> None:
    worker, manager = desk.issuer.token(Role.WORKER), desk.issuer.token(Role.MANAGER)
    changed = msgspec.structs.replace(desk.row, sealed_secrets=desk.issuer.with_new_token(Role.WORKER))
    after = Issuer(lambda: changed, SEALER, StillClock())
    assert after.role_of(worker.secret) is None
    assert after.role_of(manager.secret) is Role.MANAGER
    assert after.token(Role.WORKER).digest == worker.digest


def test_while_the_root_is_replaced_whoever_trusts_only_the_old_one_accepts_what_the_new_one_signs(desk: Desk) -> None:
    after, key = rotating(desk.issuer), NodeKey.create()
    certificate = after.issue_node(key.request(), NODE, Role.WORKER)
    rotation = after.row.rotation
    assert rotation is not None
    for roots in (desk.row.root_pem, rotation.root_pem, after.roots):
        assert verify_certificate(certificate, roots, NOW).issuer_key == rotation.issuer
    assert after.roots == desk.row.root_pem + rotation.root_pem
    assert after.token(Role.WORKER).digest == Root(desk.row.root_pem).digest


def test_a_root_that_people_bring_signs(desk: Desk) -> None:
    brought = Signer.create(NOW)
    row = new_authority(SEALER, "c1", NOW, root=brought.root.pem, key=brought.key_pem())
    issuer = Issuer(lambda: row, SEALER, StillClock())
    certificate = issuer.issue_node(NodeKey.create().request(), NODE, Role.WORKER)
    assert verify_certificate(certificate, brought.root.pem, NOW).issuer_key == brought.root.public_key_id
    with pytest.raises(Refused) as caught:
        issuer.rotation_to(brought.root.pem, brought.key_pem())
    assert caught.value.code == "cluster.root.same"


def test_without_its_roots_key_a_cluster_signs_nothing(desk: Desk) -> None:
    row = msgspec.structs.replace(desk.row, sealed_key=b"")
    with pytest.raises(Refused) as caught:
        Issuer(lambda: row, SEALER, StillClock()).issue_node(NodeKey.create().request(), NODE, Role.WORKER)
    assert caught.value.code == "cluster.root.no_key"


def test_without_an_authority_there_is_nothing_to_sign_with() -> None:
    with pytest.raises(Refused) as caught:
        Issuer(lambda: None, SEALER, StillClock()).token(Role.WORKER)
    assert caught.value.code == "cluster.authority.missing"


# Joining.


def test_a_joiner_becomes_a_node_of_its_tokens_role(desk: Desk) -> None:
    key = NodeKey.create()
    answer = desk.joined(key, Role.WORKER, availability="drain")
    node = desk.store.view.nodes.get(answer.node_id)
    assert node is not None
    assert (node.role, node.availability) == (Role.WORKER, Availability.DRAIN)
    presented = verify_certificate(answer.certificate, answer.roots, NOW)
    assert presented.identity == NodeIdentity(node.id, Role.WORKER, "c1")
    assert answer.managers == ("10.0.0.1:2377", "10.0.0.2:2377")
    assert (answer.cluster, answer.peer) == ("c1", "10.0.0.9")


def test_a_joiner_that_did_not_hear_the_answer_is_the_same_node_when_it_asks_again(desk: Desk) -> None:
    key = NodeKey.create()
    first, second = desk.joined(key, Role.WORKER), desk.joined(key, Role.WORKER)
    assert first.node_id == second.node_id
    assert len(desk.store.view.nodes) == 1
    assert desk.joined(NodeKey.create(), Role.WORKER).node_id != first.node_id


def test_a_node_that_is_known_gets_the_role_that_it_has_whatever_the_token_says(desk: Desk) -> None:
    key = NodeKey.create()
    desk.joined(key, Role.WORKER)
    assert read_certificate(desk.joined(key, Role.MANAGER).certificate).node.role is Role.WORKER


def test_a_replaced_token_opens_nothing(desk: Desk) -> None:
    with pytest.raises(Refused) as caught:
        desk.join(NodeKey.create(), "0" * 25)
    assert caught.value.code == "cluster.token.wrong"
    assert len(desk.store.view.nodes) == 0


def test_a_request_that_makes_no_sense_leaves_no_node_behind(desk: Desk) -> None:
    secret = desk.issuer.token(Role.WORKER).secret
    for request, code in (
        (JoinRequest(secret=secret, request=b"garbage"), "security.request.bad"),
        (JoinRequest(secret=secret, request=NodeKey.create().request(), availability="maybe"), "cluster.availability.bad"),
    ):
        with pytest.raises(StackdError) as caught:
            asyncio.run(desk.joiners.join(request))
        assert caught.value.code == code
    assert len(desk.store.view.nodes) == 0


def test_a_manager_that_does_not_lead_sends_joiners_on(desk: Desk) -> None:
    desk.members.known_leader = "m2"
    assert desk.join(NodeKey.create(), "whatever") == Redirect(address="10.0.0.2:2379")


def test_while_nobody_leads_nobody_joins(desk: Desk) -> None:
    desk.members.known_leader = ""
    with pytest.raises(Unavailable) as caught:
        desk.join(NodeKey.create(), "whatever")
    assert caught.value.code == "manager.no_leader"


def test_joiners_are_shown_every_root_that_nodes_trust(desk: Desk) -> None:
    assert desk.joiners.roots() == roots_of(desk.row)


def test_the_next_certificate_is_for_the_role_that_is_wanted(desk: Desk) -> None:
    answer = desk.joined(NodeKey.create(), Role.WORKER)
    node_id = NodeId(answer.node_id)
    asyncio.run(desk.submit(UpdateNode(id=node_id, role=Role.MANAGER, principal=SYSTEM)))
    assert role_now(desk.store.view, node_id) is Role.MANAGER
    assert role_now(desk.store.view, NodeId("stranger")) is None


# Nodes that were off for too long.


def expired(desk: Desk, key: NodeKey, node_id: str) -> RenewalRequest:
    """What a node says long after its certificate has ended."""
    identity = NodeIdentity(NodeId(node_id), Role.WORKER, "c1")
    signer = Signer.load(Root(desk.row.root_pem), SEALER.open(desk.row.sealed_key, b"root key:" + desk.row.issuer.encode()))
    certificate = signer.issue(key.request(), identity, Instant(NOW - 200 * DAY), Duration(90 * DAY))
    return RenewalRequest(certificate=certificate, request=key.request())


def test_a_node_whose_certificate_has_expired_has_its_place_as_long_as_it_is_a_member(desk: Desk) -> None:
    key = NodeKey.create()
    node_id = desk.joined(key, Role.WORKER).node_id
    answer = asyncio.run(desk.joiners.renew(expired(desk, key, node_id)))
    assert isinstance(answer, JoinAnswer)
    assert verify_certificate(answer.certificate, answer.roots, NOW).node.node_id == node_id


def test_an_expired_certificate_is_worth_nothing_without_its_key_or_without_a_place(desk: Desk) -> None:
    key, thief = NodeKey.create(), NodeKey.create()
    node_id = desk.joined(key, Role.WORKER).node_id
    stolen = msgspec.structs.replace(expired(desk, key, node_id), request=thief.request())
    for request in (stolen, expired(desk, thief, "removed")):
        with pytest.raises(Refused) as caught:
            asyncio.run(desk.joiners.renew(request))
        assert caught.value.code == "api.access.denied"


def test_a_certificate_of_another_authority_gets_no_other_one(desk: Desk) -> None:
    key = NodeKey.create()
    node_id = NodeId(desk.joined(key, Role.WORKER).node_id)
    foreign = Signer.create(NOW).issue(key.request(), NodeIdentity(node_id, Role.WORKER, "c1"), NOW)
    with pytest.raises(StackdError) as caught:
        asyncio.run(desk.joiners.renew(RenewalRequest(certificate=foreign, request=key.request())))
    assert caught.value.code == "security.certificate.untrusted"
