"""Subnets and VXLAN ids for networks: first fit, never overlapping, given back with the last address (semantics 15.2)."""

from __future__ import annotations

import pytest
from stackd.engine.inputs import Applied, CreateNetwork, Rejected, RemoveObject, Reply, UpdateCluster
from stackd.spec.stack import ExternalKind, NetworkSpec, Pool

from engine_builders import SOMEBODY, ToyCluster
from network_builders import a_network, status_of


def create(cluster: ToyCluster, spec: NetworkSpec) -> Reply:
    return cluster.submit(CreateNetwork(spec=spec, principal=SOMEBODY))


def remove(cluster: ToyCluster, name: str) -> Reply:
    return cluster.submit(RemoveObject(kind=ExternalKind.NETWORK, name=name, principal=SOMEBODY))


def subnet_of(cluster: ToyCluster, name: str) -> str:
    return status_of(cluster.view, name).pools[0].subnet


def use_pools(cluster: ToyCluster, *pools: str, bits: int | None = None) -> Reply:
    """Let networks get their subnets (of /bits) out of `pools`."""
    return cluster.submit(UpdateCluster(principal=SOMEBODY, address_pools=pools or None, subnet_bits=bits))


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
    cluster = ToyCluster()
    use_pools(cluster, "10.0.0.0/24", bits=25)
    for name in ("one", "two", "three"):
        create(cluster, a_network(name))
    assert status_of(cluster.view, "three").reason == "allocate.subnet.exhausted"
    remove(cluster, "one")
    assert subnet_of(cluster, "three") == "10.0.0.0/25"


def test_networks_to_come_get_subnets_of_another_size_out_of_other_pools_and_present_ones_keep_theirs() -> None:
    cluster = ToyCluster()
    create(cluster, a_network("before"))
    assert isinstance(use_pools(cluster, "172.20.0.0/16", "192.168.0.0/16", bits=16), Applied)
    for name in ("one", "two"):
        create(cluster, a_network(name))
    names = ("before", "one", "two")
    assert [subnet_of(cluster, name) for name in names] == ["10.0.0.0/20", "172.20.0.0/16", "192.168.0.0/16"]


def test_another_pool_gives_a_network_that_waits_its_subnet_at_once() -> None:
    cluster = ToyCluster()
    use_pools(cluster, "10.0.0.0/20")
    for name in ("one", "two"):
        create(cluster, a_network(name))
    assert status_of(cluster.view, "two").reason == "allocate.subnet.exhausted"
    use_pools(cluster, "10.0.0.0/20", "10.1.0.0/16")
    assert subnet_of(cluster, "two") == "10.1.0.0/20"


def test_the_same_pools_again_change_nothing() -> None:
    cluster = ToyCluster()
    use_pools(cluster, "10.64.0.0/12", bits=22)
    assert use_pools(cluster, "10.64.0.0/12") == Applied(changed=False)
    assert use_pools(cluster, bits=22) == Applied(changed=False)


@pytest.mark.parametrize(
    ("pools", "bits", "code"),
    [
        (("somewhere",), None, "cluster.pool"),
        (("10.0.0.1/8",), None, "cluster.pool"),  # an address, not a range
        (("fd00::/8",), None, "cluster.pool"),  # IPv6 subnets are of the cluster's own prefix
        (("10.0.0.0/24",), 20, "cluster.pool"),
        (("0.0.0.0/0",), None, "cluster.pool"),
        (("224.0.0.0/8",), None, "cluster.pool"),
        (("10.0.0.0/8", "10.64.0.0/12"), None, "cluster.pool"),
        (("10.0.0.0/8",), 7, "cluster.setting"),
        (("10.0.0.0/8",), 30, "cluster.setting"),
        (tuple(f"10.{number}.0.0/16" for number in range(65)), None, "cluster.setting"),
    ],
)
def test_pools_that_make_no_sense_are_refused(pools: tuple[str, ...], bits: int | None, code: str) -> None:
    reply = use_pools(ToyCluster(), *pools, bits=bits)
    assert isinstance(reply, Rejected)
    assert reply.code == code


def test_the_size_of_subnets_and_the_pools_have_to_fit_also_when_one_of_them_changes() -> None:
    cluster = ToyCluster()
    use_pools(cluster, "10.0.0.0/16")
    assert isinstance(use_pools(cluster, bits=12), Rejected)
    assert isinstance(use_pools(cluster, bits=16), Applied)


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
