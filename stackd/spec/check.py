"""What only shows when services are looked at as a whole: ports that exclude each other, mounts on top of each other.

Everything here is about what one node can do, or what can't be meant; whether a cluster has room is the scheduler's to say.
"""

from __future__ import annotations

from collections.abc import Iterable

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
        different nodes (semantics section 27)."""
        taken: dict[tuple[int, str], list[tuple[ServiceDocument, Said[Port]]]] = {}
        for service in services:
            for said in service.ports:
                port = said.value
                if not port.published:
                    continue
                others = taken.setdefault((port.published, port.protocol), [])
                for other, earlier in others:
                    if _overlap(port, earlier.value) and (other is service or not _both_in_host_mode(port, earlier.value)):
                        self._duplicate_port(
                            said, earlier, "this service" if other is service else f'the service "{other.name}"'
                        )
                        break
                others.append((service, said))

    def _duplicate_port(self, said: Said[Port], earlier: Said[Port], owner: str) -> None:
        where = self._sources.position(earlier.path)
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


def _overlap(one: Port, other: Port) -> bool:
    """Whether two listeners on one port exclude each other: one of them takes all addresses, or both take the same."""
    return not one.host_ip or not other.host_ip or one.host_ip == other.host_ip


def _both_in_host_mode(one: Port, other: Port) -> bool:
    return one.mode is PublishMode.HOST and other.mode is PublishMode.HOST
