"""The certificate authority as the state holds it: what is changed, for whom, and when a rotation of the root is over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from stackd.base.ids import NodeId
from stackd.base.time import HOUR, Duration, Instant
from stackd.engine.admit.authority import nodes_behind
from stackd.engine.inputs import (
    Applied,
    FinishRootRotation,
    FoundAuthority,
    Input,
    RegisterNode,
    Rejected,
    RemoveNode,
    ReportNode,
    RotateRoot,
    RotateToken,
    UpdateCluster,
)
from stackd.engine.model import Authority
from stackd.engine.parts import NodeCertificate, NodeState, Role, RootRotation

from engine_builders import SOMEBODY, ToyCluster, a_description

AUTHORITY = Authority(cluster="c1", root_pem=b"old", issuer="k1", sealed_key=b"s1", sealed_secrets=b"t1", created_at=Instant(0))
ROTATION = RootRotation(root_pem=b"new", sealed_key=b"s2", crossed_pem=b"x", issuer="k2", started_at=Instant(0))


def a_cluster(nodes: int = 2) -> ToyCluster:
    cluster = ToyCluster(nodes=nodes)
    cluster.submit(FoundAuthority(authority=AUTHORITY, principal=SOMEBODY))
    for number in range(1, nodes + 1):
        cluster.submit(shows(number, "k1"))
    return cluster


def shows(number: int, issuer: str) -> RegisterNode:
    certificate = NodeCertificate(role=Role.WORKER, issuer=issuer, until=Instant(9))
    return RegisterNode(id=NodeId(f"node{number}"), description=a_description(number), certificate=certificate)


def authority(cluster: ToyCluster) -> Authority:
    found = cluster.view.authority
    assert found is not None
    return found


def begin(cluster: ToyCluster, **fields: Any) -> None:
    rotation = msgspec.structs.replace(ROTATION, **fields)
    reply = cluster.submit(RotateRoot(rotation=rotation, version=authority(cluster).version, principal=SOMEBODY))
    assert isinstance(reply, Applied)


def finish(cluster: ToyCluster) -> str:
    reply = cluster.submit(FinishRootRotation(sealed_secrets=b"t2", version=authority(cluster).version))
    return reply.code if isinstance(reply, Rejected) else ""


def test_the_authority_is_founded_once() -> None:
    cluster = a_cluster()
    other = msgspec.structs.replace(AUTHORITY, root_pem=b"another")
    reply = cluster.submit(FoundAuthority(authority=other, principal=SOMEBODY))
    assert isinstance(reply, Applied)
    assert not reply.changed
    assert authority(cluster).root_pem == b"old"


@pytest.mark.parametrize(
    "command",
    [
        RotateToken(role=Role.WORKER, sealed_secrets=b"t2", version=0, principal=SOMEBODY),
        RotateRoot(rotation=ROTATION, version=0, principal=SOMEBODY),
        FinishRootRotation(sealed_secrets=b"t2", version=0),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_change_of_an_authority_that_somebody_else_has_changed_is_refused(command: Input) -> None:
    for cluster, code in ((a_cluster(), "cluster.authority.stale"), (ToyCluster(), "cluster.authority.missing")):
        reply = cluster.submit(command)
        assert isinstance(reply, Rejected)
        assert reply.code == code


def test_a_new_token_leaves_the_root_alone() -> None:
    cluster = a_cluster()
    version = authority(cluster).version
    cluster.submit(RotateToken(role=Role.WORKER, sealed_secrets=b"t2", version=version, principal=SOMEBODY))
    assert authority(cluster).sealed_secrets == b"t2"
    assert authority(cluster).root_pem == b"old"


def test_a_rotation_ends_when_every_node_uses_the_new_root() -> None:
    cluster = a_cluster()
    begin(cluster)
    cluster.submit(shows(1, "k2"))
    assert nodes_behind(cluster.view) == ["node2"]
    assert finish(cluster) == "cluster.root.rotating"
    cluster.submit(shows(2, "k2"))
    assert finish(cluster) == ""
    done = authority(cluster)
    assert (done.root_pem, done.issuer, done.sealed_key, done.sealed_secrets) == (b"new", "k2", b"s2", b"t2")
    assert done.rotation is None


def test_a_node_that_is_down_holds_a_rotation_up_until_it_is_removed() -> None:
    cluster = a_cluster()
    begin(cluster)
    cluster.submit(shows(1, "k2"))
    cluster.submit(ReportNode(id=NodeId("node2"), state=NodeState.DOWN))
    assert finish(cluster) == "cluster.root.rotating"
    cluster.alive.discard(NodeId("node2"))
    cluster.submit(RemoveNode(id=NodeId("node2"), principal=SOMEBODY))
    assert finish(cluster) == ""


def test_a_rotation_that_is_given_another_aim_starts_over() -> None:
    cluster = a_cluster(nodes=1)
    begin(cluster)
    cluster.submit(shows(1, "k2"))
    begin(cluster, issuer="k3", root_pem=b"newest")
    assert finish(cluster) == "cluster.root.rotating"
    cluster.submit(shows(1, "k3"))
    assert finish(cluster) == ""
    assert authority(cluster).root_pem == b"newest"


def test_ending_what_has_ended_changes_nothing() -> None:
    cluster = a_cluster()
    version = authority(cluster).version
    assert finish(cluster) == ""
    assert authority(cluster).version == version


def test_a_node_that_says_nothing_of_a_certificate_keeps_the_one_it_told_of() -> None:
    cluster = a_cluster(nodes=1)
    cluster.submit(RegisterNode(id=NodeId("node1"), description=a_description(1)))
    assert nodes_behind(cluster.view) == []


def test_certificates_live_as_long_as_is_set() -> None:
    cluster = a_cluster()
    cluster.submit(UpdateCluster(principal=SOMEBODY, history_limit=7, certificate_life_ns=Duration(2 * HOUR)))
    assert authority(cluster).certificate_life_ns == 2 * HOUR
    assert cluster.view.cluster is not None
    assert cluster.view.cluster.history_limit == 7
    again = cluster.submit(UpdateCluster(principal=SOMEBODY, certificate_life_ns=Duration(2 * HOUR)))
    assert isinstance(again, Applied)
    assert not again.changed
    short = cluster.submit(UpdateCluster(principal=SOMEBODY, certificate_life_ns=Duration(1)))
    assert isinstance(short, Rejected)
    assert short.code == "cluster.setting"


def test_the_authoritys_repr_shows_no_secret() -> None:
    assert "t1" not in repr(AUTHORITY)
    assert "s1" not in repr(AUTHORITY)
