"""What people do to a simulated cluster: random deploys, edits, scales, drains and removals, from the cluster's seed.

Some of it is wrong on purpose (images that don't exist or don't stay up). `finish` ends with a good version of everything,
so that a cluster without faults has to converge.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from stackd.base.ids import NodeId
from stackd.engine.inputs import ForceUpdate, RemoveStack, RollbackService, ScaleService, SetAvailability
from stackd.engine.model import SYSTEM, Availability
from stackd.simulation.cluster import SimulatedCluster
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.stack import FailureAction, RestartCondition, ServiceSpec, StackSpec, UpdateOrder

STACK_NAMES = ("shop", "blog", "mail")
GOOD_IMAGES = ("img:v1", "img:v2", "img:v3", "img:starts-in-3s", "img:pulls-in-20s", "img:stops-in-8s")
BAD_IMAGES = ("img:missing", "img:fails-at-start", "img:exits-1-after-2s", "img:exits-0-after-4s")
BAD_SHARE = 0.25

CALM_SECONDS = 6.0
"""The mean pause between two changes: many come while the one before is still being rolled out."""


class Workload:
    """Changes to `cluster`. `counts` says how often each kind was made."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._chance = cluster.chance("workload")
        self._stacks: dict[str, StackSpec] = {}
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[Any]]]] = {
            "deploy": (3, self._deploy),
            "edit": (6, self._edit),
            "scale": (3, self._scale),
            "force update": (1, self._force),
            "rollback": (1, self._rollback),
            "remove": (1, self._remove),
            "drain": (1, self._drain),
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    async def run(self, changes: int) -> None:
        """Make this many changes, with pauses between them."""
        weights = [weight for weight, _ in self._kinds.values()]
        for _ in range(changes):
            (kind,) = self._chance.choices(self.kinds, weights)
            self.counts[kind] += 1
            await self._kinds[kind][1]()
            await asyncio.sleep(self._chance.expovariate(1 / CALM_SECONDS))

    async def finish(self) -> None:
        """The last word: every node active, every stack in a version that works."""
        for node in self._cluster.nodes:
            await self._set_availability(node.id, Availability.ACTIVE)
        for name, stack in self._stacks.items():
            good = tuple(_with_image(service, "img:final") for service in stack.services)
            await self._put(msgspec.structs.replace(stack, name=name, services=good))

    async def _deploy(self) -> None:
        name = self._chance.choice(STACK_NAMES)
        services = [self._service(f"s{n}") for n in range(self._chance.randint(1, 3))]
        config = f"config {self._chance.randint(1, 3)}".encode()
        services.append(a_service("configured", self._image(), config=config, secret="key"))
        await self._put(a_stack(name, *services, config=config, secrets={"key": b"%d" % self._chance.randint(1, 3)}))

    def _service(self, name: str) -> ServiceSpec:
        chance = self._chance
        return a_service(
            name,
            self._image(),
            replicas=chance.randint(0, 5),
            everywhere=chance.random() < 0.2,
            parallelism=chance.randint(0, 3),
            order=chance.choice(list(UpdateOrder)),
            failure_action=chance.choice(list(FailureAction)),
            monitor_seconds=chance.choice([0.0, 1.0, 5.0]),
            restart=chance.choice([RestartCondition.ANY, RestartCondition.ON_FAILURE]),
            restart_seconds=chance.choice([0.0, 1.0, 5.0]),
        )

    def _image(self) -> str:
        return self._chance.choice(BAD_IMAGES if self._chance.random() < BAD_SHARE else GOOD_IMAGES)

    async def _edit(self) -> None:
        if stack := self._any_stack():
            edited = self._chance.randrange(len(stack.services))
            services = list(stack.services)
            services[edited] = _with_image(services[edited], self._image())
            await self._put(msgspec.structs.replace(stack, services=tuple(services)))

    async def _scale(self) -> None:
        if name := self._any_service():
            await self._cluster.submit(ScaleService(name=name, replicas=self._chance.randint(0, 6), principal=SYSTEM))

    async def _force(self) -> None:
        if name := self._any_service():
            await self._cluster.submit(ForceUpdate(name=name, principal=SYSTEM))

    async def _rollback(self) -> None:
        if name := self._any_service():
            await self._cluster.submit(RollbackService(name=name, principal=SYSTEM))

    async def _remove(self) -> None:
        if stack := self._any_stack():
            del self._stacks[stack.name]
            await self._cluster.submit(RemoveStack(name=stack.name, principal=SYSTEM))

    async def _drain(self) -> None:
        node = self._chance.choice(self._cluster.nodes)
        availability = self._chance.choice([Availability.ACTIVE, Availability.PAUSE, Availability.DRAIN])
        await self._set_availability(node.id, availability)

    async def _set_availability(self, node_id: NodeId, availability: Availability) -> None:
        await self._cluster.submit(SetAvailability(id=node_id, availability=availability, principal=SYSTEM))

    async def _put(self, stack: StackSpec) -> None:
        self._stacks[stack.name] = stack
        await self._cluster.deploy(stack)

    def _any_stack(self) -> StackSpec | None:
        return self._chance.choice(list(self._stacks.values())) if self._stacks else None

    def _any_service(self) -> str | None:
        stack = self._any_stack()
        return f"{stack.name}_{self._chance.choice(stack.services).name}" if stack else None


def _with_image(service: ServiceSpec, image: str) -> ServiceSpec:
    container = msgspec.structs.replace(service.task.container, image=image)
    return msgspec.structs.replace(service, task=msgspec.structs.replace(service.task, container=container))
