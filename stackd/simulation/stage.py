"""A simulated cluster with one stack, `shop`, whose service `web` things happen to: what a corner does there and waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from stackd.base.time import seconds
from stackd.engine.inputs import SetAvailability
from stackd.engine.model import Service, Task
from stackd.engine.parts import SYSTEM, Availability, RolloutState
from stackd.engine.taskstate import TaskState
from stackd.simulation.cluster import SimulatedCluster, Violation
from stackd.simulation.node import SimulatedNode
from stackd.simulation.stacks import a_stack
from stackd.spec.stack import ServiceSpec

LOOK_SECONDS = 0.1
"""How often something that is waited for is looked at."""


class Stage:
    """Acts on `cluster` and looks at it. Tasks are those of the service, in the order of their slots."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster

    # What people do.

    async def deploy(self, *services: ServiceSpec) -> None:
        """Deploy the stack and wait until it runs."""
        await self.begin(*services)
        await self.cluster.settle()

    async def begin(self, *services: ServiceSpec) -> None:
        """Deploy the stack."""
        await self.cluster.deploy(a_stack("shop", *services))

    async def set_node(self, task: Task, availability: Availability) -> None:
        """Change the task's node."""
        await self.cluster.submit(SetAvailability(id=task.node_id, availability=availability, principal=SYSTEM))

    # What happens on the hosts.

    def crash(self, task: Task) -> None:
        """The task's process ends by itself."""
        host = self.node_of(task).host
        host.end(host.containers[task.id], 1)

    def node_of(self, task: Task) -> SimulatedNode:
        return next(node for node in self.cluster.nodes if node.id == task.node_id)

    def node_beside(self, task: Task) -> SimulatedNode:
        """A node that is not the task's."""
        return next(node for node in self.cluster.nodes if node.id != task.node_id)

    # What is on record.

    @property
    def service(self) -> Service:
        found = self.cluster.view.service_named("shop_web")
        if found is None:
            raise Violation("shop_web is not there")
        return found

    @property
    def tasks(self) -> list[Task]:
        found = self.cluster.view.tasks_of_service(self.service.id)
        return sorted(found, key=lambda task: (task.slot, task.node_id, task.version, task.id))

    def state_of(self, task: Task) -> TaskState:
        return self.cluster.view.status_of(task.id).state

    def are(self, state: TaskState) -> list[Task]:
        """The tasks that are observed in this state."""
        return [task for task in self.tasks if self.state_of(task) is state]

    @property
    def running(self) -> list[Task]:
        """The tasks of the service's present spec that run and should."""
        spec = self.service.spec
        return [task for task in self.are(TaskState.RUNNING) if task.spec == spec and task.desired is TaskState.RUNNING]

    @property
    def rollout(self) -> RolloutState | None:
        found = self.cluster.view.rollouts.get(self.service.id)
        return found.state if found else None

    async def until(self, predicate: Callable[[], object], what: str, within_seconds: float = 300.0) -> None:
        """Raises Violation if it doesn't come to that."""
        try:
            async with asyncio.timeout(within_seconds):
                while not predicate():
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise Violation(f"it has not come to it that {what}") from None

    async def until_update_is(self, state: RolloutState) -> None:
        await self.until(lambda: self.rollout is state, f"the update is {state}")


# Services that differ in one thing.


def with_image(service: ServiceSpec, image: str) -> ServiceSpec:
    return with_task(service, container=msgspec.structs.replace(service.task.container, image=image))


def with_task(service: ServiceSpec, **fields: object) -> ServiceSpec:
    return msgspec.structs.replace(service, task=msgspec.structs.replace(service.task, **fields))


def with_deadline(service: ServiceSpec, progress_seconds: float) -> ServiceSpec:
    """The service, with updates that fail when they don't get on for so long."""
    update = msgspec.structs.replace(service.settings.update, progress_deadline_ns=seconds(progress_seconds))
    return msgspec.structs.replace(service, settings=msgspec.structs.replace(service.settings, update=update))


def moved(service: ServiceSpec) -> ServiceSpec:
    """The service, with tasks that leave a drained node only when others run."""
    return msgspec.structs.replace(service, settings=msgspec.structs.replace(service.settings, drain_start_first=True))
