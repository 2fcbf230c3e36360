"""Addresses: given with the task, unique, held until it has stopped, and free again by themselves (semantics 15)."""

from __future__ import annotations

import ipaddress

import pytest
from stackd.base.ids import NetworkId
from stackd.engine.inputs import RemoveService, RemoveStack
from stackd.engine.parts import NodeState
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import EndpointMode, NetworkAttachment, NetworkSpec, Pool, ServiceMode

from engine_builders import SOMEBODY, ToyCluster, a_spec, settings
from network_builders import (
    FRONT,
    a_network,
    address_of,
    addresses_in_use,
    endpoint_of,
    joining,
    run_on,
    status_of,
)

TINY = a_network(subnet="10.9.0.0/29")
"""Five addresses beside the gateway."""


def test_a_task_is_addressed_and_placed_in_the_entry_that_makes_it() -> None:
    cluster = ToyCluster()
    run_on(cluster, FRONT, replicas=3)
    assert cluster.entries == 4  # the first pass, the node, the content, and everything else at once
    for task in cluster.tasks():
        assert task.attachments
        assert task.node_id


def test_addresses_lie_in_the_subnet_and_are_neither_gateway_nor_broadcast() -> None:
    cluster = ToyCluster()
    run_on(cluster, TINY, replicas=4)
    taken = {address_of(task) for task in cluster.tasks()} | {address_of(endpoint_of(cluster))}
    assert taken == {f"10.9.0.{number}" for number in range(2, 7)}


def test_the_prefix_of_the_subnet_is_part_of_the_address() -> None:
    cluster = ToyCluster()
    run_on(cluster, TINY)
    assert all(task.attachments[0].v4.endswith("/29") for task in cluster.tasks())


def test_no_two_live_allocations_share_an_address() -> None:
    cluster = ToyCluster(nodes=3)
    run_on(cluster, FRONT, replicas=20)
    cluster.settle()
    run_on(cluster, FRONT, replicas=25, image="v2")
    cluster.settle()
    in_use = addresses_in_use(cluster.view)
    assert len(in_use) == len(set(in_use)) == 26


def test_a_released_address_is_not_given_out_again_before_the_range_wraps() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network(subnet="10.9.0.0/28"))
    cluster.settle()
    seen = [address_of(cluster.live()[0])]
    for number in range(10):
        run_on(cluster, a_network(subnet="10.9.0.0/28"), image=f"v{number + 2}")
        cluster.settle()
        seen.append(address_of(cluster.live()[0]))
    assert len(seen) == len(set(seen))


def test_an_address_is_held_while_the_task_is_shutting_down() -> None:
    cluster = ToyCluster()
    run_on(cluster, FRONT)
    cluster.settle()
    task = cluster.tasks()[0]
    network = status_of(cluster.view, "shop_front").id
    before = cluster.view.ledger.addresses
    cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))
    assert before.uses(network, task.attachments[0].v4) == 1
    cluster.report(task, TaskState.SHUTDOWN)
    assert before.uses(network, task.attachments[0].v4) == 0


def test_an_exhausted_pool_says_so_in_the_status_of_the_tasks() -> None:
    cluster = ToyCluster()
    run_on(cluster, TINY, replicas=6)
    waiting = [task for task in cluster.tasks() if not task.attachments]
    assert len(waiting) == 2
    for task in waiting:
        status = cluster.view.status_of(task.id)
        assert status.state is TaskState.NEW
        assert status.reason == "allocate.address.exhausted"
        assert status.error == 'no address is left in network "shop_front" (10.9.0.0/29)'
        assert not task.node_id
    assert cluster.kinds().count("task.unaddressable") == 1


def test_freeing_one_address_unblocks_exactly_one_task() -> None:
    cluster = ToyCluster()
    run_on(cluster, TINY, replicas=6)
    cluster.rounds(4)
    assert len(cluster.running()) == 4
    cluster.deploy(("web", joining("shop_front"), settings(6)), ("gone", a_spec(), settings(1)), objects={"networks": (TINY,)})
    victim = cluster.running()[0]
    cluster.report(victim, TaskState.FAILED, error="gone")
    with_address = [task for task in cluster.live() if task.attachments]
    assert len(with_address) == 4
    assert len(cluster.live()) == 6


def test_what_a_step_frees_itself_is_looked_at_again_at_once() -> None:
    cluster = ToyCluster(nodes=0)
    run_on(cluster, TINY, replicas=4)
    cluster.deploy(("web", joining("shop_front"), settings(2)), stack="late", objects={})
    assert {cluster.view.status_of(task.id).reason for task in cluster.tasks("late_web")} == {"allocate.address.exhausted"}
    cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))  # none of its tasks ever had a node
    assert all(task.attachments for task in cluster.tasks("late_web"))


def test_a_node_that_is_lost_keeps_the_addresses_of_its_tasks() -> None:
    cluster = ToyCluster(nodes=2)
    run_on(cluster, FRONT, replicas=2)
    cluster.settle()
    lost = next(task for task in cluster.running() if task.node_id == "node1")
    cluster.crash(1)
    cluster.settle()
    network = status_of(cluster.view, "shop_front").id
    assert cluster.view.ledger.addresses.uses(network, lost.attachments[0].v4) == 1
    cluster.recover(1)
    cluster.until(lambda: cluster.state(lost) is TaskState.SHUTDOWN)
    assert cluster.view.ledger.addresses.uses(network, lost.attachments[0].v4) == 0


def test_ipv6_addresses_come_beside_the_ipv4_ones() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network(ipv6=True), replicas=2)
    held = [task.attachments[0] for task in cluster.tasks()]
    assert all(ipaddress.ip_interface(one.v6).ip in ipaddress.ip_network("fd00::/8") for one in held)
    assert len({one.v6 for one in held}) == 2
    assert all(one.v4 for one in held)


def test_a_service_on_two_networks_has_an_address_in_each() -> None:
    cluster = ToyCluster()
    networks = (a_network("shop_front"), a_network("shop_back"))
    cluster.deploy(("web", joining("shop_front", "shop_back"), settings()), objects={"networks": networks})
    (task,) = cluster.tasks()
    assert [one.network for one in task.attachments] == [status_of(cluster.view, one.name).id for one in networks]


def test_a_task_that_lacks_one_address_takes_none() -> None:
    cluster = ToyCluster()
    full = a_network("shop_full", subnet="10.9.0.0/30")  # one address, and the service takes it
    spec = joining("shop_front", "shop_full")
    cluster.deploy(("web", spec, settings()), objects={"networks": (FRONT, full)})
    (task,) = cluster.tasks()
    assert task.attachments == ()
    assert cluster.view.ledger.addresses.population(status_of(cluster.view, "shop_front").id) == 1  # the service's


def test_a_static_address_of_two_replicas_leaves_the_second_waiting() -> None:
    cluster = ToyCluster()
    attachment = NetworkAttachment(network="shop_front", addresses=("10.9.0.5",))
    spec = a_spec(networks=(attachment,))
    cluster.deploy(("web", spec, settings(2)), objects={"networks": (a_network(subnet="10.9.0.0/24"),)})
    first, second = cluster.tasks()
    assert address_of(first) == "10.9.0.5"
    assert cluster.view.status_of(second.id).reason == "allocate.address.taken"


@pytest.mark.parametrize("address", ["192.0.2.1", "10.9.0.1"])
def test_a_static_address_outside_of_the_subnet_or_the_gateways_is_said_to_be_impossible(address: str) -> None:
    cluster = ToyCluster()
    attachment = NetworkAttachment(network="shop_front", addresses=(address,))
    cluster.deploy(
        ("web", a_spec(networks=(attachment,)), settings()), objects={"networks": (a_network(subnet="10.9.0.0/24"),)}
    )
    assert cluster.view.status_of(cluster.tasks()[0].id).reason == "allocate.address.taken"


def test_tasks_of_node_local_networks_have_no_address() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network(driver="bridge"), replicas=2)
    cluster.settle()
    assert all(not task.attachments for task in cluster.tasks())


def test_tasks_on_the_network_of_the_host_have_no_address() -> None:
    cluster = ToyCluster()
    cluster.run(joining("host"))
    cluster.settle()
    assert cluster.tasks()[0].attachments == ()


def test_global_tasks_are_addressed_too() -> None:
    cluster = ToyCluster(nodes=3)
    run_on(cluster, FRONT, mode=ServiceMode.GLOBAL)
    assert len({address_of(task) for task in cluster.tasks()}) == 3


def test_people_are_told_once_when_four_fifths_are_in_use_and_again_only_after_many_came_back() -> None:
    cluster = ToyCluster()
    network = a_network(subnet="10.9.0.0/28")  # 13 addresses, of which the service itself has one
    told = []
    for replicas in (9, 10, 12, 9, 10, 2, 9, 10):
        run_on(cluster, network, replicas=replicas)
        cluster.settle()
        told.append(cluster.kinds().count("network.crowded"))
    assert told == [0, 1, 1, 1, 1, 1, 1, 2]


def test_a_virtual_address_is_given_per_network_and_kept_through_updates() -> None:
    cluster = ToyCluster()
    run_on(cluster, FRONT, replicas=2)
    cluster.settle()
    before = endpoint_of(cluster).virtual
    assert len(before) == 1
    run_on(cluster, FRONT, replicas=3, image="v2")
    cluster.settle()
    assert endpoint_of(cluster).virtual == before


def test_switching_to_dnsrr_frees_the_virtual_address_and_back_gives_one() -> None:
    cluster = ToyCluster()
    run_on(cluster, FRONT)
    cluster.settle()
    network = status_of(cluster.view, "shop_front").id
    assert cluster.view.ledger.addresses.population(network) == 2
    run_on(cluster, FRONT, endpoint_mode=EndpointMode.DNSRR)
    cluster.settle()
    assert endpoint_of(cluster).virtual == ()
    assert cluster.view.ledger.addresses.population(network) == 1
    run_on(cluster, FRONT)
    cluster.settle()
    assert len(endpoint_of(cluster).virtual) == 1


def test_leaving_a_network_frees_the_virtual_address_there() -> None:
    cluster = ToyCluster()
    both = (FRONT, a_network("shop_back"))
    cluster.deploy(("web", joining("shop_front", "shop_back"), settings()), objects={"networks": both})
    cluster.settle()
    kept = endpoint_of(cluster).virtual[0]
    cluster.deploy(("web", joining("shop_front"), settings()), objects={"networks": both})
    cluster.settle()
    assert endpoint_of(cluster).virtual == (kept,)
    assert cluster.view.ledger.addresses.population(status_of(cluster.view, "shop_back").id) == 0


def test_a_removed_service_gives_its_virtual_address_back() -> None:
    cluster = ToyCluster()
    run_on(cluster, FRONT)
    cluster.settle()
    network = status_of(cluster.view, "shop_front").id
    cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))
    cluster.rounds(5)
    assert cluster.view.ledger.addresses.population(network) == 0


def test_addresses_of_a_removed_network_are_free_when_its_last_task_has_ended() -> None:
    cluster = ToyCluster()
    run_on(cluster, FRONT)
    cluster.settle()
    network = status_of(cluster.view, "shop_front")
    task = cluster.tasks()[0]
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    assert network.id in cluster.view.network_statuses
    cluster.report(task, TaskState.SHUTDOWN)
    assert "shop_front" not in cluster.view.networks
    assert network.id not in cluster.view.network_statuses


def test_a_network_made_again_while_old_tasks_stop_is_another_one() -> None:
    cluster = ToyCluster()
    run_on(cluster, FRONT)
    cluster.settle()
    old = status_of(cluster.view, "shop_front")
    task = cluster.tasks()[0]
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    run_on(cluster, FRONT)
    cluster.settle()
    assert cluster.live()[0].attachments[0].v4 != task.attachments[0].v4
    assert NetworkId(status_of(cluster.view, "shop_front").id) in cluster.view.network_statuses
    assert old.pools == status_of(cluster.view, "shop_front").pools or old.id not in cluster.view.network_statuses


def test_a_leader_that_reads_the_state_back_gives_out_nothing_twice() -> None:
    cluster = ToyCluster()
    run_on(cluster, FRONT, replicas=3)
    cluster.restore()
    run_on(cluster, FRONT, replicas=9)
    in_use = addresses_in_use(cluster.view)
    assert len(in_use) == len(set(in_use)) == 10


def test_two_pools_are_filled_one_after_the_other() -> None:
    cluster = ToyCluster()
    network = NetworkSpec(name="shop_front", pools=(Pool(subnet="10.9.0.0/30"), Pool(subnet="10.9.1.0/29")))
    run_on(cluster, network, replicas=3)
    assert {address_of(task).rpartition(".")[0] for task in cluster.tasks()} == {"10.9.1"}
    assert address_of(endpoint_of(cluster)) == "10.9.0.2"


def test_a_node_that_goes_down_while_a_task_waits_for_an_address_changes_nothing() -> None:
    cluster = ToyCluster(nodes=2)
    run_on(cluster, TINY, replicas=5)
    cluster.rounds(4)
    cluster.crash(2)
    assert cluster.view.node_statuses.get("node2").state is NodeState.DOWN  # type: ignore[union-attr]
    assert len(set(addresses_in_use(cluster.view))) == 5
