"""What only shows when services are looked at as a whole: ports that exclude each other, mounts on top of each other.

Everything here is about what one node can do, or what can't be meant; whether a cluster has room is the scheduler's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stackd.spec.document import Said, ServiceDocument, StackDocument
from stackd.spec.problems import Problems
from stackd.spec.sourcemap import SourceMap
from stackd.spec.stack import Port, PublishMode, ServiceMode, UpdateConfig, UpdateOrder


def check(document: StackDocument, sources: SourceMap, problems: Problems) -> None:
    """Reports what contradicts itself within a service or between services."""
    checker = _Checker(sources, problems)
    checker.check_ports(document.services)
    for service in document.services:
        checker.check_one_listener(service)
        checker.check_targets(service)


class _Checker:
    def __init__(self, sources: SourceMap, problems: Problems) -> None:
        self._sources = sources
        self._problems = problems

    def check_ports(self, services: Iterable[ServiceDocument]) -> None:
        """No two may listen on one port. Host-mode ports of different services may be equal: their tasks then run on
        different nodes (semantics 27)."""
        taken: dict[tuple[int, str, str], _Listeners] = {}
        for service in services:
            for said in service.ports:
                port = said.value
                if not port.published:
                    continue
                earlier = _earlier(taken, service, port)
                if earlier is not None:
                    self._duplicate_port(service, said, earlier)
                for address in {_ANYONE, port.host_ip}:
                    taken.setdefault((port.published, port.protocol, address), _Listeners()).add(service, said)

    def _duplicate_port(self, service: ServiceDocument, said: Said[Port], earlier: _Listener) -> None:
        owner = "this service" if earlier.service is service else f'the service "{earlier.service.name}"'
        where = self._sources.position(earlier.said.path)
        line = f" in line {where.line}" if where else ""
        message = f"{said.path}: port {said.value.published}/{said.value.protocol} is already published by {owner}{line}"
        self._problems.error("spec.port.duplicate", message, self._sources.position(said.path), "publish another port")

    def check_one_listener(self, service: ServiceDocument) -> None:
        """As long as there is no network of the cluster, a published port is one listener per port and node: it belongs
        to a single task. So a second task of the service, or the new one beside the old one while it is replaced, could
        never start, and the stack would hang instead of failing. A port of 0 is chosen anew for each task and is free.
        """
        fixed = next((said for said in service.ports if said.value.published), None)
        if fixed is None:
            return
        settings = service.deploy.settings
        deploy = f"{service.path}.deploy"
        if settings.mode is ServiceMode.REPLICATED and settings.replicas > 1:
            message = f"{service.path}: {settings.replicas} tasks can't all listen on port {fixed.value.published} of one node"
            hint = (
                f"use replicas: 1, or publish no fixed port (target {fixed.value.target} alone gets a free one for each task)"
            )
            self._problems.error("spec.port.replicas", message, self._sources.position(f"{deploy}.replicas"), hint)
        self._check_order(f"{deploy}.update_config.order", settings.update, fixed)
        self._check_order(f"{deploy}.rollback_config.order", settings.rollback, fixed)

    def _check_order(self, path: str, update: UpdateConfig, fixed: Said[Port]) -> None:
        if update.order is UpdateOrder.START_FIRST:
            message = f"{path}: a new task can't start while the old one listens on port {fixed.value.published}"
            self._problems.error("spec.port.start_first", message, self._sources.position(path), "use order: stop-first")

    def check_targets(self, said: ServiceDocument) -> None:
        """No two mounts, configs or secrets stand at one place inside of the task."""
        seen: dict[str, str] = {}
        placed = [(item.path, item.value.target) for item in said.mounts]
        placed += [(item.path, item.value.target) for item in (*said.configs, *said.secrets) if item.value.source]
        for path, target in placed:
            if target in seen:
                message = f"{path}: {target} is already taken by {seen[target]}"
                self._problems.error("spec.mount.duplicate", message, self._sources.position(path), "use another target")
            seen.setdefault(target, path)


_ANYONE = "*"
"""Beside the listeners on each address, all listeners on a port: a new one on all addresses excludes them."""


@dataclass(frozen=True, slots=True)
class _Listener:
    service: ServiceDocument
    said: Said[Port]


@dataclass(slots=True)
class _Listeners:
    """Who listens on one port of one address: the first of all, the first in ingress mode, the first of each service."""

    first: _Listener | None = None
    ingress: _Listener | None = None
    of_service: dict[str, _Listener] = field(default_factory=dict)

    def add(self, service: ServiceDocument, said: Said[Port]) -> None:
        listener = _Listener(service, said)
        self.first = self.first or listener
        if said.value.mode is PublishMode.INGRESS:
            self.ingress = self.ingress or listener
        self.of_service.setdefault(service.name, listener)

    def excluding(self, service: ServiceDocument, port: Port) -> _Listener | None:
        """One that doesn't go together with `port` of `service`."""
        if port.mode is PublishMode.INGRESS:
            return self.first
        return self.of_service.get(service.name) or self.ingress


def _earlier(taken: Mapping[tuple[int, str, str], _Listeners], service: ServiceDocument, port: Port) -> _Listener | None:
    """Who already listens where `port` would: on its address or on all, and anywhere if it takes all itself."""
    for address in (port.host_ip, "") if port.host_ip else (_ANYONE,):
        listeners = taken.get((port.published, port.protocol, address))
        found = listeners.excluding(service, port) if listeners else None
        if found is not None:
            return found
    return None
