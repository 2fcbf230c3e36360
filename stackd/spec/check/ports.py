"""Checks published ports: that no two services want the same one, and that updates leave room for the old task's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stackd.spec.document import PortDocument, Said, ServiceDocument
from stackd.spec.placed import PlacedProblems
from stackd.spec.resolve.deploy import JOB_MODES, mode_of, settings_of
from stackd.spec.stack import EndpointMode, PublishMode, ServiceMode, UpdateConfig, UpdateOrder


def check_ports(services: Iterable[ServiceDocument], problems: PlacedProblems) -> None:
    checker = _Checker(problems)
    publishing = [service for service in services if service.ports]
    for service in sorted(publishing, key=lambda service: problems.place(service.path)):
        checker.check_duplicates(service)
        checker.check_endpoint_mode(service)
        checker.check_order(service)
        checker.check_listeners(service)


class _Checker:
    def __init__(self, problems: PlacedProblems) -> None:
        self._problems = problems
        self._taken: dict[tuple[int, str, str], _Listeners] = {}

    def check_duplicates(self, service: ServiceDocument) -> None:
        """No two may listen on one port. Host-mode ports of different services may be equal: their tasks then run on
        different nodes (semantics 27)."""
        for said in service.ports:
            port = said.value
            if not port.published:
                continue
            earlier = self._earlier(service, port)
            if earlier is not None:
                self._duplicate(service, said, earlier)
            for address in {_ANYONE, port.host_ip}:
                self._taken.setdefault((port.published, _protocol(port), address), _Listeners()).add(service, said)

    def _earlier(self, service: ServiceDocument, port: PortDocument) -> _Listener | None:
        """Who already listens where `port` would: on its address or on all, and anywhere if it takes all itself."""
        for address in (port.host_ip, "") if port.host_ip else (_ANYONE,):
            listeners = self._taken.get((port.published, _protocol(port), address))
            found = listeners.excluding(service, port) if listeners else None
            if found is not None:
                return found
        return None

    def _duplicate(self, service: ServiceDocument, said: Said[PortDocument], earlier: _Listener) -> None:
        port = said.value
        owner = "this service" if earlier.service is service else f'the service "{earlier.service.name}"'
        line = f" in line {self._problems.line(earlier.said)}"
        message = f"{said.path}: port {port.published}/{_protocol(port)} is already published by {owner}{line}"
        self._problems.error_at("spec.port.duplicate", message, said, "publish another port")

    def check_endpoint_mode(self, service: ServiceDocument) -> None:
        """Names that lead to the tasks themselves leave no address that ingress ports could lead to (semantics 27)."""
        if service.deploy.endpoint_mode.lower() != EndpointMode.DNSRR:
            return
        for said in service.ports:
            if _is_ingress(said.value):
                message = f"{said.path}: a port in ingress mode can't be published with endpoint_mode: dnsrr"
                self._problems.error_at("spec.port.dnsrr", message, said, "publish it with mode: host, or use vip")
                return

    def check_order(self, service: ServiceDocument) -> None:
        """A global service has one task on each node, so a new one never finds a node where the port is free."""
        fixed = next((said for said in service.ports if said.value.published and not _is_ingress(said.value)), None)
        if fixed is None or mode_of(service) is not ServiceMode.GLOBAL:
            return
        for path, update in _updates(service):
            if update.order is UpdateOrder.START_FIRST:
                message = f"{path}: a new task can't start while the old one listens on port {fixed.value.published}"
                self._problems.error("spec.port.start_first", message, path, "use order: stop-first")

    def check_listeners(self, service: ServiceDocument) -> None:
        """Not there yet: as long as an ingress port is one listener on a node, it belongs to one task of it. Then further
        tasks need further nodes, and so does the new one beside the old one; on a single node they would wait. A port of
        0 is chosen anew for each task and is free."""
        fixed = next((said for said in service.ports if said.value.published and _is_ingress(said.value)), None)
        mode = mode_of(service)
        if fixed is None or mode in JOB_MODES:
            return
        replicas, port = settings_of(service).replicas, fixed.value.published
        if mode is ServiceMode.REPLICATED and replicas > 1:
            path = f"{service.path}.deploy.replicas"
            message = f"{service.path}: {replicas} tasks need {replicas} nodes, because each listens on port {port} of its node"
            hint = f"target {fixed.value.target} alone gets a free port for each task"
            self._problems.warning("spec.port.replicas", message, path, hint)
        for path, update in _updates(service):
            if update.order is UpdateOrder.START_FIRST:
                message = f"{path}: a new task needs another node while the old one listens on port {port}"
                self._problems.warning("spec.port.one_listener", message, path, "use order: stop-first on a single node")


def _updates(service: ServiceDocument) -> tuple[tuple[str, UpdateConfig], ...]:
    settings, deploy = settings_of(service), f"{service.path}.deploy"
    return (f"{deploy}.update_config.order", settings.update), (f"{deploy}.rollback_config.order", settings.rollback)


def _is_ingress(port: PortDocument) -> bool:
    return port.mode != PublishMode.HOST


def _protocol(port: PortDocument) -> str:
    return port.protocol or "tcp"


_ANYONE = "*"
"""Beside the listeners on each address, all listeners on a port: a new one on all addresses excludes them."""


@dataclass(frozen=True, slots=True)
class _Listener:
    service: ServiceDocument
    said: Said[PortDocument]


@dataclass(slots=True)
class _Listeners:
    """Who listens on one port of one address: the first of all, the first in ingress mode, the first of each service."""

    first: _Listener | None = None
    ingress: _Listener | None = None
    of_service: dict[str, _Listener] = field(default_factory=dict)

    def add(self, service: ServiceDocument, said: Said[PortDocument]) -> None:
        listener = _Listener(service, said)
        self.first = self.first or listener
        if _is_ingress(said.value):
            self.ingress = self.ingress or listener
        self.of_service.setdefault(service.name, listener)

    def excluding(self, service: ServiceDocument, port: PortDocument) -> _Listener | None:
        """One that doesn't go together with `port` of `service`."""
        if _is_ingress(port):
            return self.first
        return self.of_service.get(service.name) or self.ingress
