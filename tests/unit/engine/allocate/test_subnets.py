"""Subnets and VXLAN ids for networks: first fit, never overlapping, given back with the last address (semantics 15.2)."""

from __future__ import annotations

import pytest
from stackd.engine.inputs import Applied, CreateNetwork, Rejected, RemoveObject, Reply
from stackd.engine.model import Cluster
from stackd.spec.stack import ExternalKind, NetworkSpec, Pool

from engine_builders import SOMEBODY, ToyCluster
from network_builders import a_network, status_of


def create(cluster: ToyCluster, spec: NetworkSpec) -> Reply:
    return cluster.submit(CreateNetwork(spec=spec, principal=SOMEBODY))


def remove(cluster: ToyCluster, name: str) -> Reply:
    return cluster.submit(RemoveObject(kind=ExternalKind.NETWORK, name=name, principal=SOMEBODY))


def subnet_of(cluster: ToyCluster, name: str) -> str:
    return status_of(cluster.view, name).pools[0].subnet


def a_small_cluster(pool: str, bits: int) -> ToyCluster:
    """A cluster that gives out subnets of /bits out of `pool`."""
    cluster = ToyCluster()
    settings = cluster.view.cluster
    assert settings is not None
    cluster.put(Cluster(id=settings.id, created_at=settings.created_at, address_pools=(pool,), subnet_bits=bits))
    return cluster


def test_networks_get_the_first_free_subnets_of_four_thousand_addresses() -> None:
    cluster = ToyCluster()
    for name in ("one", "two"):
        create(cluster, a_network(name))
    assert [subnet_of(cluster, name) for name in ("one", "two")] == ["10.0.0.0/20", "10.0.16.0/20"]


def test_the_first_address_is_the_gateway_unless_one_is_named() -> None:
    cluster = ToyCluster()
    create(cluster, a_network("one"))
    create(cluster, NetworkSpec(name="two", pools=(Pool(subnet="10.9.0.0/24", gateway="10.9.0.254"),)))
    assert status_of(cluster.view, "one").pools[0].gateway == "10.0.0.1"
    assert status_of(cluster.view, "two").pools[0].gateway == "10.9.0.254"


def test_a_subnet_that_is_asked_for_is_passed_over_by_the_others() -> None:
    cluster = ToyCluster()
    create(cluster, a_network("asked", subnet="10.0.1.0/24"))
    create(cluster, a_network("any"))
    assert subnet_of(cluster, "any") == "10.0.16.0/20"


def test_the_subnet_of_a_node_is_passed_over() -> None:
    cluster = ToyCluster()
    cluster.join(2, address="10.0.0.17")
    create(cluster, a_network("any"))
    assert subnet_of(cluster, "any") == "10.0.16.0/20"


def test_an_overlapping_subnet_waits_with_the_reason_until_the_other_one_is_gone() -> None:
    cluster = ToyCluster()
    create(cluster, a_network("one", subnet="10.9.0.0/16"))
    create(cluster, a_network("two", subnet="10.9.8.0/24"))
    status = status_of(cluster.view, "two")
    assert (status.pools, status.reason) == ((), "allocate.subnet.taken")
    assert status.error == 'the subnet 10.9.8.0/24 overlaps with network "one"'
    remove(cluster, "one")
    assert subnet_of(cluster, "two") == "10.9.8.0/24"


def test_when_all_subnets_are_given_out_the_next_network_waits_for_one() -> None:
    cluster = a_small_cluster("10.0.0.0/24", 25)
    for name in ("one", "two", "three"):
        create(cluster, a_network(name))
    assert status_of(cluster.view, "three").reason == "allocate.subnet.exhausted"
    remove(cluster, "one")
    assert subnet_of(cluster, "three") == "10.0.0.0/25"


def test_overlays_get_a_vxlan_id_of_their_own() -> None:
    cluster = ToyCluster()
    for name in ("one", "two"):
        create(cluster, a_network(name))
    create(cluster, a_network("local", driver="bridge"))
    assert [status_of(cluster.view, name).vni for name in ("one", "two", "local")] == [4096, 4097, 0]


def test_a_vxlan_id_that_is_asked_for_is_given_once() -> None:
    cluster = ToyCluster()
    option = (("com.docker.network.driver.overlay.vxlanid_list", "5000"),)
    create(cluster, a_network("one", driver_options=option))
    create(cluster, a_network("two", driver_options=option))
    assert status_of(cluster.view, "one").vni == 5000
    assert status_of(cluster.view, "two").reason == "allocate.subnet.taken"


def test_an_ipv6_network_gets_a_unique_local_subnet_beside_its_ipv4_one() -> None:
    cluster = ToyCluster()
    create(cluster, a_network("one", ipv6=True))
    create(cluster, a_network("two", ipv6=True))
    first, second = (status_of(cluster.view, name).pools for name in ("one", "two"))
    assert first[0].subnet == "10.0.0.0/20"
    assert first[1].subnet.startswith("fd")
    assert first[1].subnet.endswith("::/64")
    assert first[1].subnet != second[1].subnet


def test_networks_of_a_node_get_no_subnet() -> None:
    cluster = ToyCluster()
    create(cluster, a_network("local", driver="bridge"))
    assert status_of(cluster.view, "local").pools == ()
    assert status_of(cluster.view, "local").reason == ""


@pytest.mark.parametrize(
    "pool",
    [
        Pool(subnet="10.9.0.0/33"),
        Pool(subnet="somewhere"),
        Pool(subnet="10.9.0.0/24", gateway="10.8.0.1"),
        Pool(subnet="10.9.0.0/24", ip_range="10.8.0.0/25"),
        Pool(subnet="10.9.0.0/31"),
        Pool(gateway="10.9.0.1"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(pool: Pool) -> None:
    reply = create(ToyCluster(), NetworkSpec(name="one", pools=(pool,)))
    assert isinstance(reply, Rejected)
    assert reply.code == "network.pool"


def test_addresses_come_from_the_range_that_is_named() -> None:
    cluster = ToyCluster()
    reply = create(cluster, NetworkSpec(name="one", pools=(Pool(subnet="10.9.0.0/24", ip_range="10.9.0.128/25"),)))
    assert isinstance(reply, Applied)
    assert status_of(cluster.view, "one").pools[0].gateway == "10.9.0.1"
