"""No two services publish the same port over the whole cluster (semantics 27).

Host-mode ports of two services may be equal, as they can live on different nodes; an ingress port takes it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from stackd.engine.admit.refusal import Refusal
from stackd.engine.model import Service
from stackd.engine.view import View
from stackd.spec.stack import PublishMode


def check_ports(view: View, written: Iterable[Service]) -> None:
    """Refuse if one of the services just written publishes a port that another service has."""
    wanted = {(port, service.name) for service in written for port in _published(view, service)}
    if not wanted:
        return
    for other in view.services.values():
        if other.removing:
            continue
        for protocol, number, mode in _published(view, other):
            for (wanted_protocol, wanted_number, wanted_mode), name in wanted:
                same = (protocol, number) == (wanted_protocol, wanted_number) and name != other.name
                if same and PublishMode.INGRESS in (mode, wanted_mode):
                    raise Refusal(
                        "deploy.port.conflict",
                        f"{name} publishes port {number}/{protocol}, which {other.name} has already",
                        "choose another port, or remove the other service first",
                    )


def _published(view: View, service: Service) -> list[tuple[str, int, PublishMode]]:
    row = view.specs.get(service.spec)
    ports = row.spec.ports if row is not None else ()
    return [(port.protocol, port.published, port.mode) for port in ports if port.published]
