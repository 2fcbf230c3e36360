"""Random services and stacks, and how people change them, for the simulator's workload.

Nearly every setting that the engine decides on is among them. `in_its_last_version` takes back what can't work.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from stackd.simulation.host import CAPACITY
from stackd.simulation.node import SimulatedNode
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.stack import (
    Dependency,
    DependencyCondition,
    FailureAction,
    GenericResource,
    LogDriver,
    Mount,
    MountType,
    NetworkAttachment,
    NetworkSpec,
    Placement,
    Pool,
    Resources,
    RestartCondition,
    ServiceMode,
    ServiceSpec,
    StackSpec,
    TaskSpec,
    UpdateOrder,
)

GOOD_IMAGES = ("img:v1", "img:v2", "img:v3", "img:starts-in-3s", "img:pulls-in-10s", "img:stops-in-8s")
BAD_IMAGES = ("img:missing", "img:fails-at-start", "img:exits-1-after-2s", "img:exits-0-after-4s")
BAD_SHARE = 0.25
LAST_IMAGE = "img:last"

GOOD_RUNS = ("img:exits-0-after-2s", "img:exits-0-after-5s")
BAD_RUNS = ("img:missing", "img:exits-1-after-2s", "img:fails-at-start")
LAST_RUN = "img:exits-0-after-1s"
"""What jobs run: it has to end."""

CONSTRAINTS = ("node.labels.disk == ssd", "node.labels.disk != ssd", "engine.labels.zone == a")
IMPOSSIBLE = "node.labels.disk == tape"
"""No node has this; the loader lets it pass, since a node might come that has."""

JOBS = (ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB)
MODES = (ServiceMode.REPLICATED,) * 8 + (ServiceMode.GLOBAL,) * 2 + JOBS

DEMANDS: tuple[dict[str, Any], ...] = (
    {"executor": "docker"},
    {"log": LogDriver(name="syslog")},
    {"platform": "linux/arm64"},
    {"mounts": (Mount(type=MountType.CLUSTER, target="/data", source="data"),)},
)
"""What only some nodes have, or none."""

SUBNET = "10.9.{}.0/24"

FENCED_SHARE = 0.5
"""Of the services that are updated stop-first: with start-first two tasks of a slot run at once on purpose."""

_RESTARTS = (RestartCondition.ANY,) * 6 + (RestartCondition.ON_FAILURE,) * 3 + (RestartCondition.NONE,)
_CONDITIONS_OF_SERVICES = (DependencyCondition.STARTED, DependencyCondition.HEALTHY)

REPLICAS_MAX = 4


def furnish(nodes: Sequence[SimulatedNode]) -> None:
    """Make the nodes differ: disks, zones, and the last one can't map ports."""
    for number, node in enumerate(nodes):
        node.labels = (("disk", "ssd" if number % 2 else "hdd"),)
        node.host.description = msgspec.structs.replace(
            node.host.description,
            engine_labels=(("zone", "ab"[number // 2 % 2]),),
            features=("log:json-file",) if node is nodes[-1] else ("ports-map", "log:json-file", "log:syslog"),
            resources=msgspec.structs.replace(CAPACITY, generic=(GenericResource(kind="gpu", names=("a", "b")),)),
        )


class Population:
    """A source of services for a cluster of `nodes` nodes."""

    def __init__(self, chance: random.Random, nodes: int) -> None:
        self._chance = chance
        self._nodes = nodes
        self._ports = 30_000

    def stack(self, name: str) -> StackSpec:
        """A whole stack; sometimes with a network, sometimes one of its services has a config and a secret."""
        services = [self.service(f"s{n}") for n in range(self._chance.randint(1, 2))]
        if self._chance.random() < 0.3:
            services[-1] = self._dependent(services[-1], services[0])
        networks: tuple[NetworkSpec, ...] = ()
        if self._chance.random() < 0.3:
            networks = (NetworkSpec(name=f"{name}_net", pools=(Pool(subnet=SUBNET.format(len(name) + ord(name[0]))),)),)
            services = [_with_task(one, networks=(NetworkAttachment(network=f"{name}_net"),)) for one in services]
        stack = self._with_contents(name, services) if self._chance.random() < 0.3 else a_stack(name, *services)
        return msgspec.structs.replace(stack, networks=networks)

    def _with_contents(self, name: str, services: Sequence[ServiceSpec]) -> StackSpec:
        config, secret = (f"{kind} {self._chance.randint(1, 3)}".encode() for kind in ("config", "secret"))
        key, conf = f"{name}_key", f"{name}_conf"
        service = a_service("configured", self.image(), config=config, config_name=conf, secret=key)
        return a_stack(name, *services, service, config=config, config_name=conf, secrets={key: secret})

    def _dependent(self, service: ServiceSpec, other: ServiceSpec) -> ServiceSpec:
        """The service, waiting for the other one."""
        if service.name == other.name:
            return service
        is_job = other.settings.mode in JOBS
        condition = DependencyCondition.COMPLETED if is_job else self._chance.choice(_CONDITIONS_OF_SERVICES)
        return _with_settings(service, depends_on=(Dependency(service=other.name, condition=condition),))

    def service(self, name: str) -> ServiceSpec:
        chance = self._chance
        mode = chance.choice(MODES)
        has_port = mode is ServiceMode.REPLICATED and chance.random() < 0.15
        service = a_service(
            name,
            self.image(mode),
            replicas=self.replicas(),
            mode=mode,
            parallelism=chance.randint(0, 3),
            delay_seconds=chance.choice([0.0, 0.0, 2.0]),
            order=chance.choice(list(UpdateOrder)),
            failure_action=chance.choice(list(FailureAction)),
            max_failure_ratio=chance.choice([0.0, 0.0, 0.3, 1.0]),
            monitor_seconds=chance.choice([0.0, 1.0, 5.0]),
            restart=chance.choice(_RESTARTS),
            restart_seconds=chance.choice([0.0, 1.0, 5.0]),
            max_attempts=chance.choice([0, 0, 0, 2]),
            port=self._port() if has_port else 0,
            placement=Placement() if has_port else self.placement(),
            reservations=self.reservations(),
        )
        service = _with_settings(service, drain_start_first=chance.random() < 0.1, max_concurrent=chance.randint(0, 2))
        fenced = FENCED_SHARE if service.settings.update.order is UpdateOrder.STOP_FIRST else 0.0
        return self._demanding(_with_task(service, fence=chance.random() < fenced))

    def _demanding(self, service: ServiceSpec) -> ServiceSpec:
        """Now and then the service asks for what few nodes have."""
        if self._chance.random() > 0.1:
            return service
        demand = self._chance.choice(DEMANDS)
        of_container = {key: value for key, value in demand.items() if key in ("platform", "mounts")}
        of_task = {key: value for key, value in demand.items() if key not in of_container}
        container = msgspec.structs.replace(service.task.container, **of_container)
        return _with_task(service, container=container, **of_task)

    def edited(self, service: ServiceSpec) -> ServiceSpec:
        """The service with one thing changed."""
        edits: tuple[Callable[[ServiceSpec], ServiceSpec], ...] = (
            lambda one: with_image(one, self.image(one.settings.mode)),
            lambda one: with_image(one, self.image(one.settings.mode)),
            self._demanding,
            lambda one: _with_task(one, placement=self.placement()),
            lambda one: _with_task(one, reservations=self.reservations()),
            lambda one: _with_settings(one, update=self.service("").settings.update),
            lambda one: _with_settings(one, replicas=self.replicas()),
        )
        return self._chance.choice(edits)(service)

    def image(self, mode: ServiceMode = ServiceMode.REPLICATED) -> str:
        is_bad = self._chance.random() < BAD_SHARE
        if mode in JOBS:
            return self._chance.choice(BAD_RUNS if is_bad else GOOD_RUNS)
        return self._chance.choice(BAD_IMAGES if is_bad else GOOD_IMAGES)

    def replicas(self) -> int:
        return self._chance.randint(0, REPLICAS_MAX)

    def placement(self) -> Placement:
        chance = self._chance
        constraint = IMPOSSIBLE if chance.random() < 0.1 else chance.choice(CONSTRAINTS)
        return Placement(
            constraints=(constraint,) if chance.random() < 0.25 else (),
            spread=("engine.labels.zone",) if chance.random() < 0.2 else (),
            max_per_node=chance.choice([0, 0, 0, 1, 2]),
        )

    def reservations(self) -> Resources:
        """Nothing, something, or nearly a whole node."""
        cpus, gpus = self._chance.choice([(0, 0), (0, 0), (0, 0), (1, 0), (7, 0), (0, 1)])
        generic = (GenericResource(kind="gpu", amount=gpus),) if gpus else ()
        return Resources(nano_cpus=cpus * 1_000_000_000, generic=generic)

    def _port(self) -> int:
        self._ports += 1
        return self._ports


def in_its_last_version(service: ServiceSpec, nodes: int) -> ServiceSpec:
    """The service as it can work on `nodes` healthy nodes: the one that can't map ports has no part in those."""
    container = msgspec.structs.replace(service.task.container, platform="", mounts=())
    service = _with_task(service, container=container, placement=Placement(), reservations=Resources(), executor="", log=None)
    if service.task.ports:
        service = _with_settings(service, replicas=min(service.settings.replicas, nodes - 1))
    return with_image(service, LAST_RUN if service.settings.mode in JOBS else LAST_IMAGE)


def with_image(service: ServiceSpec, image: str) -> ServiceSpec:
    return _with_task(service, container=msgspec.structs.replace(service.task.container, image=image))


def _with_task(service: ServiceSpec, **fields: object) -> ServiceSpec:
    task: TaskSpec = msgspec.structs.replace(service.task, **fields)
    return msgspec.structs.replace(service, task=task)


def _with_settings(service: ServiceSpec, **fields: object) -> ServiceSpec:
    return msgspec.structs.replace(service, settings=msgspec.structs.replace(service.settings, **fields))
