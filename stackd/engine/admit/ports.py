"""No two services publish the same port over the whole cluster (semantics 27).

Host-mode ports of two services may be equal, as they can live on different nodes; an ingress port takes it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stackd.engine.admit.refusal import Refusal
from stackd.engine.model import Service
from stackd.engine.view import View
from stackd.spec.stack import EndpointMode, Port, PublishMode

Number = tuple[str, int]


def check_ports(view: View, written: Iterable[Service]) -> None:
    """Refuse if one of the services just written publishes a port that another service has, or was given."""
    wanted: dict[Number, list[tuple[Service, Port]]] = {}
    for service in written:
        for port in _published(view, service):
            _check_mode(service, port)
            if port.published:
                wanted.setdefault((port.protocol, port.published), []).append((service, port))
    if not wanted:
        return
    for holder, taken in _taken(view):
        for service, port in wanted.get((taken.protocol, taken.published), ()):
            if service.id != holder.id and PublishMode.INGRESS in (port.mode, taken.mode):
                raise Refusal(
                    "deploy.port.conflict",
                    f"{service.name} publishes port {port.published}/{port.protocol}, which {holder.name} has already",
                    "choose another port, or remove the other service first",
                )


def _check_mode(service: Service, port: Port) -> None:
    """A port of the whole cluster leads to the service's virtual address: without one there is nowhere to lead to."""
    if service.settings.endpoint_mode is EndpointMode.DNSRR and port.mode is PublishMode.INGRESS:
        raise Refusal(
            "deploy.port.dnsrr",
            f"{service.name} publishes port {port.published or port.target} in the whole cluster, but has no virtual address",
            "publish it with `mode: host`, or leave out `endpoint_mode: dnsrr`",
        )


def _taken(view: View) -> Iterator[tuple[Service, Port]]:
    """Every published port with the service that has it, also those that the engine has chosen."""
    for service in view.services.values():
        if service.removing:
            continue
        ports = _published(view, service)
        yield from ((service, port) for port in ports if port.published)
        endpoint = view.endpoints.get(service.id)
        open_targets = {(port.protocol, port.target) for port in ports if not port.published}
        if endpoint is not None and open_targets:
            yield from ((service, port) for port in endpoint.ports if (port.protocol, port.target) in open_targets)


def _published(view: View, service: Service) -> tuple[Port, ...]:
    row = view.specs.get(service.spec)
    return row.spec.ports if row is not None else ()
