"""The part of the checker that is about what is given out once: addresses, subnets, ports, resources, places on a node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from stackd.base.ids import NodeId
from stackd.engine.accounts import shared_with_predecessor, takes_over
from stackd.engine.allocate.addresses import Attachments, attachments_held, endpoint_holder, texts
from stackd.engine.allocate.ipmath import Range, address_number, space_of
from stackd.engine.model import Task
from stackd.engine.schedule.resources import NOTHING, minus
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import PublishMode, Resources


def check_allocation(view: View) -> Iterator[str]:
    """What is wrong with what a state says was given out."""
    yield from _check_addresses(view)
    yield from _check_subnets(view)
    yield from _check_ports(view)
    yield from _check_names(view)


def _check_addresses(view: View) -> Iterator[str]:
    """Every address is held once and lies in its network, and the index of addresses knows the same holders."""
    held: Counter[tuple[str, str]] = Counter()
    for holder, attachments in _holders(view):
        if view.ledger.addresses.held(holder) != attachments:
            yield f"the index of addresses does not say what {holder} holds"
        for one in attachments:
            held.update((one.network, text) for text in texts(one))
    for (network_id, text), count in held.items():
        status = view.network_statuses.get(network_id)
        if count > 1:
            yield f"the address {text} of network {network_id} is held {count} times"
        if status is None:
            yield f"the address {text} is held in the network {network_id}, which is missing"
            continue
        version, number = address_number(text)
        spaces = [space for space in map(space_of, status.pools) if space.subnet.version == version]
        if not any(number in space.subnet and number != space.gateway for space in spaces):
            yield f'the address {text} does not lie in network "{status.name}"'
    counts = Counter(network_id for network_id, _ in held.elements())
    for status in view.network_statuses.values():
        if view.ledger.addresses.population(status.id) != counts[status.id]:
            yield f'the index does not say how many addresses of network "{status.name}" are in use'


def _holders(view: View) -> Iterator[tuple[str, Attachments]]:
    for task in view.tasks.values():
        if task.attachments:
            yield task.id, attachments_held(task, view.statuses.get(task.id))
    for endpoint in view.endpoints.values():
        yield endpoint_holder(endpoint.service_id), endpoint.virtual


def _check_subnets(view: View) -> Iterator[str]:
    """No two networks share a subnet or a VXLAN id."""
    subnets: list[tuple[Range, str]] = []
    for status in view.network_statuses.values():
        for pool in status.pools:
            subnet = space_of(pool).subnet
            for other, name in subnets:
                if subnet.overlaps(other):
                    yield f'the subnet {pool.subnet} of network "{status.name}" overlaps with one of network "{name}"'
            subnets.append((subnet, status.name))
    vnis = Counter(status.vni for status in view.network_statuses.values() if status.vni)
    yield from (f"{count} networks have the VXLAN id {vni}" for vni, count in vnis.items() if count > 1)


def _check_ports(view: View) -> Iterator[str]:
    """No two services have one port of the whole cluster."""
    ports: Counter[tuple[str, int]] = Counter()
    for endpoint in view.endpoints.values():
        service = view.services.get(endpoint.service_id)
        if service is None:
            yield f"there is an endpoint of service {endpoint.service_id}, which is missing"
        elif not service.removing and not service.frozen:
            ports.update(
                (port.protocol, port.published)
                for port in endpoint.ports
                if port.mode is PublishMode.INGRESS and port.published
            )
    yield from (f"{count} services have port {port}/{protocol}" for (protocol, port), count in ports.items() if count > 1)


def _check_names(view: View) -> Iterator[str]:
    """No value of a generic resource is used by two tasks of a node that run or start."""
    used: Counter[tuple[NodeId, str, str]] = Counter()
    for task in view.tasks.values():
        if task.generic and TaskState.STARTING <= view.status_of(task.id).state <= TaskState.RUNNING:
            used.update((task.node_id, one.kind, name) for one in task.generic for name in one.names)
    for (node_id, kind, name), count in used.items():
        if count > 1:
            yield f"node {node_id} has {count} tasks with the {kind} {name}"


def check_placements(old: View, new: View) -> Iterator[str]:
    """What is wrong with the tasks that a step has placed: no node was given more than it has, by our own hand."""
    placed: dict[NodeId, list[Task]] = {}
    for task in new.tasks.values():
        if old.status_of(task.id).state < TaskState.ASSIGNED <= new.status_of(task.id).state <= TaskState.RUNNING:
            placed.setdefault(task.node_id, []).append(task)
    for node_id, tasks in placed.items():
        yield from _check_room(new, node_id, tasks)
        yield from _check_crowding(new, node_id, tasks)


def _check_room(new: View, node_id: NodeId, placed: list[Task]) -> Iterator[str]:
    """A node may have too much on it already: it has shrunk, or a successor that never started is stopping beside the task it
    was to follow. Then nothing came on top of that."""
    status = new.node_statuses.get(node_id)
    specs = [row.spec for task in placed if (row := new.specs.get(task.spec)) is not None]
    if status is None or all(spec.reservations == NOTHING for spec in specs):
        return
    described, before, after = status.description.resources, _in_use(new, node_id, placed), _in_use(new, node_id)
    for field in ("nano_cpus", "memory_bytes"):
        asked = any(getattr(spec.reservations, field) for spec in specs)
        most = max(getattr(described, field), getattr(before, field))
        if asked and getattr(after, field) > most:
            yield f"node {node_id} was given more tasks than it has {field} for"


def _in_use(view: View, node_id: NodeId, but: Sequence[Task] = ()) -> Resources:
    """What the tasks of a node reserve, all `but` these; a successor and its predecessor there reserve it once."""
    total = view.ledger.usage(node_id).reserved
    left_out = {task.id for task in but}
    for task in view.tasks_of_node(node_id):
        if task.id in left_out and (charge := view.ledger.charge(task.id)) is not None:
            total = minus(total, charge.reserved)
        elif task.id not in left_out and (task.replaces or task.gate is not None):
            total = minus(total, shared_with_predecessor(view, task) or NOTHING)
    return total


def _check_crowding(new: View, node_id: NodeId, placed: list[Task]) -> Iterator[str]:
    """No node has more tasks of a service than its spec allows; of several specs that are placed the most generous counts."""
    for service_id in {task.service_id for task in placed}:
        service = new.services.get(service_id)
        specs = [row.spec for task in placed if task.service_id == service_id and (row := new.specs.get(task.spec)) is not None]
        limits = {spec.placement.max_per_node for spec in specs}
        if service is None or not limits or 0 in limits:
            continue
        succeeding = sum(task.node_id == node_id and takes_over(new, service, task) for task in new.tasks_in_flux(service_id))
        count = new.ledger.members(service_id, node_id) - succeeding
        if count > max(limits):
            yield f"node {node_id} has {count} tasks of {service.name}, which allows {max(limits)}"
