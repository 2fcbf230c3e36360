"""Addresses, ports and subnets over generated histories: given out once, never lost, whatever happens in between.

`ToyCluster` has the checker look at every state: no address twice, every address in its network, the index of addresses equal
to a recount of all records.
"""

from __future__ import annotations

import ipaddress

from hypothesis import HealthCheck, given
from hypothesis import settings as options
from hypothesis import strategies as st
from stackd.base.ids import NodeId
from stackd.engine.allocate.ipmath import Range, TakenRanges, subnet_range
from stackd.engine.inputs import RemoveService, RemoveStack, ScaleService
from stackd.engine.status import NetworkStatus
from stackd.spec.stack import EndpointMode, NetworkAttachment, NetworkSpec, Pool, Port, ServiceMode, TaskSpec

from engine_builders import SOMEBODY, ToyCluster, a_spec, settings
from network_builders import addresses_in_use

NODES = 3
NETWORKS = (
    NetworkSpec(name="shop_tiny", pools=(Pool(subnet="10.9.0.0/29"),)),
    NetworkSpec(name="shop_wide", ipv6=True),
    NetworkSpec(name="shop_local", driver="bridge"),
)

networks = st.lists(st.sampled_from([one.name for one in NETWORKS]), unique=True, max_size=3)
ports = st.lists(st.sampled_from([80, 81]), unique=True, max_size=1)
modes = st.sampled_from([ServiceMode.REPLICATED, ServiceMode.REPLICATED, ServiceMode.GLOBAL])


@st.composite
def specs(draw: st.DrawFn) -> TaskSpec:
    attachments = tuple(NetworkAttachment(network=name) for name in draw(networks))
    published = tuple(Port(target=target) for target in draw(ports))
    return a_spec(draw(st.sampled_from(["v1", "v2", "v3"])), networks=attachments, ports=published)


def change(draw: st.DrawFn, cluster: ToyCluster) -> None:
    """One thing that happens to the cluster."""
    match draw(st.sampled_from(["deploy", "deploy", "scale", "remove", "crash", "recover", "leader", "time", "time", "time"])):
        case "deploy":
            mode = draw(st.sampled_from(EndpointMode))
            wanted = settings(draw(st.integers(0, 6)), mode=draw(modes), endpoint_mode=mode)
            spec = draw(specs())
            if mode is EndpointMode.DNSRR:
                spec = type(spec)(container=spec.container, networks=spec.networks, restart=spec.restart)
            cluster.deploy((draw(st.sampled_from(["web", "db"])), spec, wanted), objects={"networks": NETWORKS})
        case "scale":
            cluster.submit(ScaleService(name="shop_web", replicas=draw(st.integers(0, 6)), principal=SOMEBODY))
        case "remove":
            cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))
        case "crash":
            number = draw(st.integers(1, NODES))
            if NodeId(f"node{number}") in cluster.alive:
                cluster.crash(number)
        case "recover":
            cluster.recover(draw(st.integers(1, NODES)))
        case "leader":
            cluster.restore()
        case _:
            cluster.rounds(draw(st.integers(1, 4)))


@given(st.data())
@options(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_address_is_held_once_and_none_is_lost(data: st.DataObject) -> None:
    cluster = ToyCluster(nodes=NODES)
    for _ in range(data.draw(st.integers(3, 14))):
        change(data.draw, cluster)
        in_use = addresses_in_use(cluster.view)
        assert len(in_use) == len(set(in_use))
    for number in range(1, NODES + 1):
        cluster.recover(number)
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY)) if "shop" in cluster.view.stacks else None
    cluster.until(lambda: not cluster.view.tasks and not cluster.view.services)
    cluster.round()
    assert len(cluster.view.endpoints) == 0
    assert len(cluster.view.networks) == 0
    assert leftovers(cluster) == []


def leftovers(cluster: ToyCluster) -> list[NetworkStatus]:
    return list(cluster.view.network_statuses.values())


prefixes = st.integers(20, 26)


@st.composite
def taken_ranges(draw: st.DrawFn) -> list[Range]:
    """Some subnets of 10.0.0.0/18, which may overlap."""
    network = ipaddress.ip_network("10.0.0.0/18")
    found = []
    for _ in range(draw(st.integers(0, 12))):
        subnets = list(network.subnets(new_prefix=draw(prefixes)))
        found.append(subnet_range(str(draw(st.sampled_from(subnets)))))
    return found


@given(taken_ranges(), prefixes)
@options(max_examples=60, deadline=None)
def test_the_first_free_subnet_is_the_first_that_overlaps_with_nothing(taken: list[Range], prefix: int) -> None:
    candidates = [subnet_range(str(one)) for one in ipaddress.ip_network("10.0.0.0/18").subnets(new_prefix=prefix)]
    free = [one for one in candidates if not any(one.overlaps(other) for other in taken)]
    ranges = TakenRanges(taken)
    found = ranges.first_free(subnet_range("10.0.0.0/18"), prefix)
    assert (subnet_range(found) if found is not None else None) == (free[0] if free else None)
    assert [one for one in candidates if not ranges.overlapping(one)] == free
