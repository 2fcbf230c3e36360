"""Managers whose hosts come back with other addresses, one of them or all: they say what to do, and then everybody knows
where they are."""

from __future__ import annotations

from functools import partial

import pytest

from cluster import PORT, Cluster, ClusterNode, cluster_of
from sleepers import deploy, running

pytestmark = pytest.mark.needs("root", "net")


def move(node: ClusterNode, address: str) -> None:
    """Give the host of a node, whose daemon is off, another address."""
    host = node.host_of
    host.run("ip", "address", "flush", "dev", "eth0")
    host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")


def knows(manager: ClusterNode, node: ClusterNode, place: str) -> bool:
    return manager.nodes()[node.name].manager_address == place


def test_a_manager_is_known_at_the_address_that_it_is_started_with(cluster: Cluster) -> None:
    first, second = cluster.nodes
    cluster.form(2)
    deploy(first)
    before = running(first)
    for node, other, address in ((second, first, "10.213.0.102"), (first, second, "10.213.0.101")):
        node.kill()
        move(node, address)
        assert node.launch().wait(60) == 3
        assert "error[daemon.address.gone]" in node.report()
        node.options = ("--advertise-addr", address)
        node.start()
        place = f"{address}:{PORT}"
        cluster.eventually(partial(knows, other, node, place), "the other knows the address")
        cluster.until_ready(2)
        with other.client() as client:
            assert place in client.cluster_info().managers
    assert running(first) == before
    node.options = ()
    first.kill()
    first.start()  # it has remembered
    cluster.until_ready(2)


def test_a_worker_whose_only_manager_has_moved_is_told_where_it_is(cluster: Cluster) -> None:
    manager, worker = cluster.nodes
    cluster.form(1)
    deploy(manager)
    before = running(manager)
    for node in cluster.nodes:
        node.kill()
    move(manager, "10.213.0.101")
    manager.options = ("--advertise-addr", "10.213.0.101")
    worker.options = ("--manager-addr", "10.213.0.101")
    cluster.start()
    cluster.until_ready(1)
    assert running(manager) == before
    worker.options = ()
    worker.kill()
    worker.start()
    cluster.until_ready(1)
    with worker.client() as client:
        assert client.local_node().managers == (f"10.213.0.101:{PORT}",)


def test_managers_that_have_all_moved_find_each_other_where_they_are_told() -> None:
    with cluster_of(4) as cluster:
        cluster.form(3)
        deploy(cluster[0])
        before = running(cluster[0])
        places = {node.name: f"10.213.0.{101 + number}" for number, node in enumerate(cluster.nodes)}
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            move(node, places[node.name])
            others = [places[other.name] for other in cluster.nodes[:3] if other is not node]
            told = [word for place in others for word in ("--manager-addr", place)]
            node.options = ("--advertise-addr", places[node.name], *told)
        cluster.start()
        cluster.until_ready(3)
        known = {f"{places[node.name]}:{PORT}" for node in cluster.nodes[:3]}
        for node in cluster.nodes:
            cluster.eventually(partial(remembers, node, known), "everybody knows all of the new addresses")
        assert running(cluster[1]) == before


def remembers(node: ClusterNode, managers: set[str]) -> bool:
    with node.client() as client:
        return set(client.local_node().managers) == managers
