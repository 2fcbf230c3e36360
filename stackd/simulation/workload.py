"""What people do to a simulated cluster: random deploys, edits, scales, drains and removals, from the cluster's seed.

They come in bursts, several to a decision or one by one, and many while the burst before is still being rolled out. Some
are wrong on purpose (images that don't exist or don't stay up, constraints that no node satisfies). `finish` ends with a
version of everything that works, so that a cluster without faults has to converge.

Only what was carried out and changed something counts as a change.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from stackd.base.ids import NodeId
from stackd.engine.inputs import (
    Applied,
    DeployRevision,
    ForceUpdate,
    Input,
    Rejected,
    RemoveNode,
    RemoveService,
    RemoveStack,
    RollbackService,
    ScaleService,
    SetAvailability,
    SetSpec,
    StageContent,
)
from stackd.engine.parts import SYSTEM, Availability, Owner
from stackd.manager.intake import Prepared, prepare
from stackd.simulation.cluster import SimulatedCluster, Violation
from stackd.simulation.population import Population, in_its_last_version
from stackd.spec.stack import ServiceSpec, StackSpec

STACK_NAMES = ("shop", "blog", "mail", "wiki")

BURSTS = (1, 2, 4, 240)
"""How many changes come at once, at most. Small bursts leave time for each change to be carried out or to fail; large ones
turn everything over at once."""

CALM_SECONDS = 2.5
"""The mean pause between two bursts."""

LAST_WORD = "last word"

SINGLY = 0.2
"""Share of the bursts whose changes are decided one by one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that somebody wants, and what is said to the manager for it; the last input is the command."""

    kind: str
    inputs: tuple[Input, ...]


class Workload:
    """Changes to `cluster`. `counts` says how often each kind changed something."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._chance = cluster.chance("workload")
        self._population = Population(cluster.chance("population"), len(cluster.nodes))
        self._stacks: dict[str, StackSpec] = {}
        self._kinds: dict[str, tuple[int, Callable[[], Change | None]]] = {
            "deploy": (2, self._deploy),
            "edit": (5, self._edit),
            "set spec": (5, self._set_spec),
            "scale": (10, self._scale),
            "force update": (5, self._force),
            "rollback": (4, self._rollback),
            "remove stack": (1, self._remove_stack),
            "remove service": (1, self._remove_service),
            "availability": (4, self._availability),
            "join": (1, self._join),
            "remove node": (1, self._remove_node),
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    async def run(self, changes: int) -> None:
        """Go on until this many changes were made."""
        while self.counts.total() < changes:
            burst = self._burst()
            if self._chance.random() < SINGLY:
                async with asyncio.TaskGroup() as group:
                    for change in burst:
                        group.create_task(self._submit([change]))
            else:
                await self._submit(burst)
            await asyncio.sleep(self._chance.expovariate(1 / CALM_SECONDS))

    async def finish(self) -> None:
        """The last word: every node there and active, every stack in a version that works, and no other stacks."""
        while self._join() is not None:
            pass
        await self._cluster.settle_nodes()
        nodes = [_availability(node.id, Availability.ACTIVE) for node in self._cluster.nodes]
        await self._cluster.submit_all(nodes)
        if not self._stacks:
            self._deploy()
        for stack in self._stacks.values():
            services = tuple(in_its_last_version(service, len(self._cluster.nodes)) for service in stack.services)
            await self._submit([self._put(LAST_WORD, msgspec.structs.replace(stack, services=services))])
        await self._remove({stack.name for stack in self._cluster.view.stacks.values()} - set(self._stacks))

    async def remove_everything(self) -> None:
        """Every stack goes."""
        await self._remove({stack.name for stack in self._cluster.view.stacks.values()})

    async def _remove(self, stacks: set[str]) -> None:
        for name in sorted(stacks):
            await self._cluster.submit(RemoveStack(name=name, principal=SYSTEM))

    def _burst(self) -> list[Change]:
        weights = [weight for weight, _ in self._kinds.values()]
        wanted = self._chance.choices(self.kinds, weights, k=self._chance.randint(1, self._chance.choice(BURSTS)))
        return [change for kind in wanted if (change := self._kinds[kind][1]()) is not None]

    async def _submit(self, burst: list[Change]) -> None:
        inputs = [one for change in burst for one in change.inputs]
        replies = iter(await self._cluster.submit_all(inputs))
        for change in burst:
            answers = [next(replies) for _ in change.inputs]
            reply = answers[-1] if answers else None
            if isinstance(reply, Applied) and reply.changed:
                self.counts[change.kind] += 1
            elif change.kind == LAST_WORD and isinstance(reply, Rejected):
                raise Violation(f"seed {self._cluster.seed}: the last word was refused: {reply.message}")

    # The kinds of changes. None if there is nothing to change.

    def _deploy(self) -> Change:
        name = self._chance.choice(STACK_NAMES)
        return self._put("deploy", self._population.stack(name))

    def _edit(self) -> Change | None:
        """One service of a stack changes in its file, and the stack is deployed again."""
        if (stack := self._any_stack()) is None:
            return None
        edited = self._chance.randrange(len(stack.services))
        services = list(stack.services)
        services[edited] = self._population.edited(services[edited])
        return self._put("edit", msgspec.structs.replace(stack, services=tuple(services)))

    def _set_spec(self) -> Change | None:
        """One service is changed by hand."""
        if (found := self._any_service()) is None:
            return None
        stack, service = found
        edited = self._population.edited(service)
        prepared = self._prepare(msgspec.structs.replace(stack, services=(edited,)))
        (manifest,) = prepared.manifests[0].services
        name = f"{stack.name}_{service.name}"
        command = SetSpec(name=name, spec=manifest.spec, settings=edited.settings, principal=SYSTEM, override=True)
        return Change("set spec", (_staged(prepared), command))

    def _scale(self) -> Change | None:
        replicas = self._population.replicas()
        return self._on_service("scale", lambda name: ScaleService(name=name, replicas=replicas, principal=SYSTEM))

    def _force(self) -> Change | None:
        return self._on_service("force update", lambda name: ForceUpdate(name=name, principal=SYSTEM))

    def _rollback(self) -> Change | None:
        return self._on_service("rollback", lambda name: RollbackService(name=name, principal=SYSTEM))

    def _remove_service(self) -> Change | None:
        return self._on_service("remove service", lambda name: RemoveService(name=name, principal=SYSTEM, override=True))

    def _remove_stack(self) -> Change | None:
        if (stack := self._any_stack()) is None:
            return None
        del self._stacks[stack.name]
        return Change("remove stack", (RemoveStack(name=stack.name, principal=SYSTEM),))

    def _availability(self) -> Change:
        """Half of the time a node is taken back into service, so that most nodes are."""
        node = self._chance.choice(self._cluster.nodes)
        choices = (Availability.ACTIVE, Availability.ACTIVE, Availability.PAUSE, Availability.DRAIN)
        return Change("availability", (_availability(node.id, self._chance.choice(choices)),))

    def _join(self) -> Change | None:
        """A new node comes. That needs no command: its agent says so."""
        waiting = [node for node in self._cluster.nodes if not node.joined]
        if not waiting:
            return None
        self._cluster.start_agent(waiting[0])
        self.counts["join"] += 1
        return Change("join", ())

    def _remove_node(self) -> Change:
        """A node is put out; its agent is still there and joins again."""
        node = self._chance.choice(self._cluster.nodes)
        return Change("remove node", (RemoveNode(id=node.id, principal=SYSTEM, force=True),))

    # How they are put.

    def _put(self, kind: str, stack: StackSpec) -> Change:
        self._stacks[stack.name] = stack
        prepared = self._prepare(stack)
        command = DeployRevision(label=kind, source="", stacks=prepared.manifests, principal=SYSTEM)
        return Change(kind, (_staged(prepared), command))

    def _prepare(self, stack: StackSpec) -> Prepared:
        return prepare([(stack, Owner())], self._cluster.key)

    def _on_service(self, kind: str, command: Callable[[str], Input]) -> Change | None:
        if (found := self._any_service()) is None:
            return None
        stack, service = found
        return Change(kind, (command(f"{stack.name}_{service.name}"),))

    def _any_stack(self) -> StackSpec | None:
        return self._chance.choice(list(self._stacks.values())) if self._stacks else None

    def _any_service(self) -> tuple[StackSpec, ServiceSpec] | None:
        stack = self._any_stack()
        return (stack, self._chance.choice(stack.services)) if stack else None


def _staged(prepared: Prepared) -> StageContent:
    return StageContent(specs=prepared.specs, blobs=prepared.blobs)


def _availability(node: str, availability: Availability) -> Input:
    return SetAvailability(id=NodeId(node), availability=availability, principal=SYSTEM)
