"""What a service is reached at: a virtual address on each of its networks, and published ports (semantics 15.3).

Both are sticky: an address stays as long as the service is on the network, a port that the engine chose as long as the
service publishes that target. Ports that are published by name of number are checked at admission, for the whole cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from stackd.engine.allocate.addresses import AddressBook, endpoint_holder
from stackd.engine.allocate.pick import Picker, Unaddressable, lacks
from stackd.engine.draft import Draft
from stackd.engine.model import Service
from stackd.engine.status import Endpoint, NetworkStatus
from stackd.engine.view import View
from stackd.spec.stack import EndpointMode, Port, PublishMode, TaskSpec

DYNAMIC_FIRST = 30_000
DYNAMIC_LAST = 32_767
"""Where ports come from that a service publishes without a number (semantics 15.3)."""

NO_PORT = "allocate.port.exhausted"


def settle_endpoint(draft: Draft, service: Service, spec: TaskSpec, networks: list[NetworkStatus], picker: Picker) -> Endpoint:
    """Bring the service's endpoint up to date; its `reason` says what it lacks."""
    present = draft.endpoints.get(service.id) or Endpoint(service_id=service.id)
    wanted = networks if service.settings.endpoint_mode is EndpointMode.VIP else []
    endpoint = msgspec.structs.replace(present, reason="", error="")
    try:
        endpoint = _with_ports(draft, service, spec, endpoint)
        endpoint = _with_addresses(endpoint, wanted, picker)
    except Unaddressable as error:
        if present.reason != error.code:
            draft.event("service.unallocated", service.name, error.sentence, stack=service.stack)
        endpoint = msgspec.structs.replace(endpoint, reason=error.code, error=error.sentence)
    if endpoint != Endpoint(service_id=service.id) or service.id in draft.endpoints:
        draft.put(endpoint)
    return endpoint


def _with_addresses(endpoint: Endpoint, wanted: list[NetworkStatus], picker: Picker) -> Endpoint:
    """One virtual address per wanted network: those of other networks are given back."""
    ids = {status.id for status in wanted}
    kept = tuple(one for one in endpoint.virtual if one.network in ids)
    lacking = lacks(kept, wanted)
    if not lacking and kept == endpoint.virtual:
        return endpoint
    holder = endpoint_holder(endpoint.service_id)
    try:
        return msgspec.structs.replace(endpoint, virtual=picker.attach(holder, kept, lacking))
    except Unaddressable:
        picker.book.change(holder, endpoint.virtual)
        raise


def _with_ports(draft: Draft, service: Service, spec: TaskSpec, endpoint: Endpoint) -> Endpoint:
    """The published ports, with a number for those of the cluster that have none. Ports of a node in host mode without one
    are left to the node."""
    kept = _chosen_before(spec, endpoint)
    ports: list[Port] = []
    used: set[tuple[str, int]] | None = None
    for port in spec.ports:
        if port.published or port.mode is PublishMode.HOST:
            ports.append(port)
            continue
        number = kept.pop((port.protocol, port.target), 0)
        if not number:
            used = used if used is not None else set(_used(draft, service))
            number = _free_port(port, used | {(one.protocol, one.published) for one in ports} | _values(kept))
        ports.append(msgspec.structs.replace(port, published=number))
    return msgspec.structs.replace(endpoint, ports=tuple(ports))


def _chosen_before(spec: TaskSpec, endpoint: Endpoint) -> dict[tuple[str, int], int]:
    """The numbers chosen earlier, by protocol and target; not those that the service has come to ask for itself."""
    asked = {(port.protocol, port.published) for port in spec.ports if port.published}
    return {
        (port.protocol, port.target): port.published
        for port in endpoint.ports
        if port.mode is PublishMode.INGRESS
        and DYNAMIC_FIRST <= port.published <= DYNAMIC_LAST
        and (port.protocol, port.published) not in asked
    }


def _values(kept: dict[tuple[str, int], int]) -> set[tuple[str, int]]:
    return {(protocol, number) for (protocol, _), number in kept.items()}


def _used(view: View, service: Service) -> Iterator[tuple[str, int]]:
    """Every port that any service publishes or was given, and those that this one names itself."""
    for other in view.services.values():
        row = view.specs.get(other.spec)
        if row is not None and not other.removing:
            yield from ((port.protocol, port.published) for port in row.spec.ports if port.published)
    for endpoint in view.endpoints.values():
        if endpoint.service_id != service.id:
            yield from ((port.protocol, port.published) for port in endpoint.ports)


def _free_port(port: Port, used: set[tuple[str, int]]) -> int:
    for number in range(DYNAMIC_FIRST, DYNAMIC_LAST + 1):
        if (port.protocol, number) not in used:
            return number
    raise Unaddressable(NO_PORT, f"no port of {DYNAMIC_FIRST} to {DYNAMIC_LAST} is left for target {port.target}")


def drop_endpoint(draft: Draft, service: Service, book: AddressBook) -> None:
    """The service is on its way out: what it was reached at is free."""
    if service.id in draft.endpoints:
        draft.delete(Endpoint, service.id)
        book.change(endpoint_holder(service.id), ())
