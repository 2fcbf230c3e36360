"""Ports of the whole cluster: those that a service names, and those that the engine chooses (semantics 15.3)."""

from __future__ import annotations

from stackd.engine.inputs import Applied, Rejected, RemoveService, Reply
from stackd.spec.stack import EndpointMode, Port, PublishMode, TaskSpec

from engine_builders import SOMEBODY, ToyCluster, a_spec, settings
from network_builders import endpoint_of

DYNAMIC_FIRST, DYNAMIC_LAST = 30_000, 32_767
"""Swarm's range, which firewalls know."""


def publishing(*ports: Port, image: str = "v1") -> TaskSpec:
    return a_spec(image, ports=ports)


def ingress(published: int = 0, target: int = 80) -> Port:
    return Port(target=target, published=published)


def host(published: int = 0, target: int = 80) -> Port:
    return Port(target=target, published=published, mode=PublishMode.HOST)


def numbers(cluster: ToyCluster, service: str = "shop_web") -> list[int]:
    return [port.published for port in endpoint_of(cluster, service).ports]


def refused(reply: Reply, code: str) -> None:
    assert isinstance(reply, Rejected), reply
    assert reply.code == code


def deploy(cluster: ToyCluster, stack: str, *ports: Port, **fields: object) -> Reply:
    return cluster.deploy(("web", publishing(*ports), settings(**fields)), stack=stack)


def test_two_services_cannot_hold_the_same_ingress_port() -> None:
    cluster = ToyCluster(nodes=2)
    assert isinstance(deploy(cluster, "shop", ingress(8080)), Applied)
    refused(deploy(cluster, "late", ingress(8080)), "deploy.port.conflict")


def test_the_same_host_port_in_two_services_is_accepted() -> None:
    cluster = ToyCluster(nodes=2)
    deploy(cluster, "shop", host(8080))
    assert isinstance(deploy(cluster, "late", host(8080)), Applied)


def test_an_ingress_and_a_host_port_of_one_number_are_refused_either_way_round() -> None:
    cluster = ToyCluster(nodes=2)
    deploy(cluster, "shop", host(8080))
    refused(deploy(cluster, "late", ingress(8080)), "deploy.port.conflict")
    deploy(cluster, "other", ingress(9090))
    refused(deploy(cluster, "late", host(9090)), "deploy.port.conflict")


def test_the_same_number_of_another_protocol_is_another_port() -> None:
    cluster = ToyCluster(nodes=2)
    deploy(cluster, "shop", ingress(53))
    assert isinstance(deploy(cluster, "late", Port(target=53, published=53, protocol="udp")), Applied)


def test_a_port_without_a_number_gets_one_between_30000_and_32767() -> None:
    cluster = ToyCluster()
    deploy(cluster, "shop", ingress(), ingress(target=81))
    assert numbers(cluster) == [DYNAMIC_FIRST, DYNAMIC_FIRST + 1]


def test_a_chosen_port_is_stable_across_unrelated_updates_and_changes_of_leader() -> None:
    cluster = ToyCluster()
    deploy(cluster, "early", ingress())
    deploy(cluster, "shop", ingress())
    before = numbers(cluster)
    cluster.submit(RemoveService(name="early_web", principal=SOMEBODY))
    cluster.restore()
    cluster.deploy(("web", publishing(ingress(target=81), ingress(), image="v2"), settings(3)))
    assert numbers(cluster)[1:] == before


def test_a_port_that_is_named_wins_over_one_that_was_chosen() -> None:
    cluster = ToyCluster()
    deploy(cluster, "shop", ingress())
    (chosen,) = numbers(cluster)
    cluster.deploy(("web", publishing(ingress(target=80), ingress(chosen, target=90)), settings()))
    first, second = numbers(cluster)
    assert second == chosen
    assert first not in (0, chosen)


def test_a_chosen_port_is_taken_for_everybody_else() -> None:
    cluster = ToyCluster(nodes=2)
    deploy(cluster, "shop", ingress())
    (chosen,) = numbers(cluster)
    refused(deploy(cluster, "late", ingress(chosen)), "deploy.port.conflict")


def test_a_port_is_not_chosen_that_a_service_of_the_same_revision_names() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.deploy(
        ("any", publishing(ingress()), settings()),
        ("named", publishing(ingress(DYNAMIC_FIRST)), settings()),
    )
    assert numbers(cluster, "shop_any") == [DYNAMIC_FIRST + 1]


def test_a_host_port_without_a_number_is_left_to_the_node() -> None:
    cluster = ToyCluster()
    deploy(cluster, "shop", host())
    assert numbers(cluster) == [0]


def test_the_ports_of_a_removed_service_are_free() -> None:
    """At once, those that it named and those that were chosen, although its tasks are still stopping."""
    cluster = ToyCluster()
    deploy(cluster, "shop", ingress(), ingress(8080, target=81))
    cluster.settle()
    ports = numbers(cluster)
    cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))
    assert isinstance(deploy(cluster, "late", *(ingress(port, target=port) for port in ports)), Applied)


def test_dnsrr_and_an_ingress_port_are_refused() -> None:
    cluster = ToyCluster()
    refused(deploy(cluster, "shop", ingress(8080), endpoint_mode=EndpointMode.DNSRR), "deploy.port.dnsrr")
    assert isinstance(deploy(cluster, "shop", host(8080), endpoint_mode=EndpointMode.DNSRR), Applied)


def test_without_a_free_port_the_tasks_say_what_they_wait_for() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.checked = False
    crowd = tuple(ingress(number, target=number) for number in range(DYNAMIC_FIRST, DYNAMIC_LAST + 1))
    deploy(cluster, "crowd", *crowd)
    deploy(cluster, "shop", ingress())
    status = cluster.view.status_of(cluster.tasks()[0].id)
    assert status.reason == "allocate.port.exhausted"
    cluster.submit(RemoveService(name="crowd_web", principal=SOMEBODY))
    assert cluster.tasks()[0].node_id
