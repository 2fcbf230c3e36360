"""What clients may ask for: the handler of `stackd.v1.Control`.

Reads are answered from the live view; writes become inputs of the writer loop and return once they are durable. Nothing
is decided here.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import msgspec

from stackd.api.control import (
    ApplyRequest,
    ApplyResponse,
    Caller,
    ClusterRequest,
    ConfigDetail,
    Configs,
    DownProgress,
    DownRequest,
    Empty,
    EventsRequest,
    FileRequest,
    ListRequest,
    LogsRequest,
    NameRequest,
    NetworkRequest,
    Networks,
    Nodes,
    PlanRequest,
    RemoveRequest,
    ScaleRequest,
    Secrets,
    ServiceDetail,
    Services,
    Stacks,
    SyncRequest,
    Tasks,
    UpdateRequest,
    VersionResponse,
)
from stackd.api.views import (
    ClusterView,
    ConfigView,
    EventView,
    LogLineView,
    NetworkView,
    PlanView,
    SecretView,
    ServiceView,
    StatusView,
)
from stackd.base.errors import NotFound, StackdError
from stackd.base.ids import NodeId
from stackd.base.records import encode
from stackd.engine.inputs import (
    DeployRevision,
    ForceUpdate,
    Input,
    RemoveService,
    RemoveStack,
    RollbackService,
    ScaleService,
    SetSpec,
    StageContent,
    UpdateCluster,
)
from stackd.engine.model import Event, Service, SpecRow, Task
from stackd.engine.orchestrate.slots import has_completed, is_live
from stackd.engine.parts import Owner, Principal, PrincipalKind
from stackd.engine.store import View
from stackd.manager import plan, present
from stackd.manager.changes import changed_settings, changed_spec
from stackd.manager.intake import Prepared, SecretKeeper, deploy, prepare
from stackd.manager.logs import LogSource, merge_logs
from stackd.manager.lookup import node_of
from stackd.manager.objects import Objects
from stackd.manager.reply import accepted
from stackd.manager.writer import Writer
from stackd.spec.digest import spec_digest
from stackd.spec.stack import StackSpec

WATCH_REST = 9
"""A watcher rests this many times as long as it took to look: watching a large cluster while much moves takes at most a
tenth of the loop, and a small one is seen without delay."""


class SourceControl(Protocol):
    """The sources this manager runs, as control needs them."""

    async def sync_now(self, source: str, *, approve_prune: bool) -> None:
        """Look at the source ("" is all) and propose what it says. Raises NotFound, or the source's own error."""
        ...

    async def stop_sources(self) -> None:
        """Follow no source any more (before everything is taken down)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this manager is."""

    node_id: NodeId
    version: str
    data_dir: str
    pid: int


class Control:
    """Implements `api.control.ControlHandler`."""

    def __init__(
        self,
        *,
        identity: Identity,
        writer: Writer,
        keeper: SecretKeeper,
        sources: SourceControl,
        logs: LogSource,
        node_idle: Callable[[], Awaitable[None]],
        stop: Callable[[], Awaitable[None]],
        off_loop: Callable[..., Awaitable[PlanView]] = asyncio.to_thread,
    ) -> None:
        """`node_idle` returns once this node's agent has removed everything, `stop` ends the daemon. `off_loop` calls a
        function where it doesn't hold up the loop; a simulation, which has no threads, calls it at once."""
        self._identity = identity
        self._writer = writer
        self._keeper = keeper
        self._sources = sources
        self._logs = logs
        self._node_idle = node_idle
        self._stop = stop
        self._off_loop = off_loop
        self._objects = Objects(lambda: writer.view, self._carry_out, keeper)
        self._planning = asyncio.Lock()
        """One forecast at a time: each keeps a thread busy, and the interpreter with it."""

    @property
    def _view(self) -> View:
        return self._writer.view

    async def version(self, request: Empty, caller: Caller) -> VersionResponse:
        identity = self._identity
        return VersionResponse(version=identity.version, data_dir=identity.data_dir, pid=identity.pid, node_id=identity.node_id)

    async def status(self, request: Empty, caller: Caller) -> StatusView:
        leader = present.node_name(self._view, self._identity.node_id)
        return present.status_view(self._view, leader=leader, version=self._identity.version)

    # Deploying.

    async def apply(self, request: ApplyRequest, caller: Caller) -> ApplyResponse:
        owners = [Owner(file=file) for file in request.files]
        prepared, command = self._deployment(request.stacks, owners, caller.principal, adopt=request.adopt)
        command = msgspec.structs.replace(command, base_version=request.base_version)
        reply = accepted(await deploy(self._writer, prepared, command))
        names = [f"{stack.name}_{service.name}" for stack in request.stacks for service in stack.services]
        return ApplyResponse(revision=reply.revision, changed=reply.changed, services=tuple(names))

    def _deployment(
        self,
        stacks: tuple[StackSpec, ...],
        owners: Sequence[Owner],
        principal: Principal,
        *,
        adopt: bool,
    ) -> tuple[Prepared, DeployRevision]:
        prepared = prepare(zip(stacks, owners, strict=True), self._keeper)
        label = hashlib.sha256(encode(prepared.manifests)).hexdigest()[:12]
        return prepared, DeployRevision(
            label=label,
            source="",
            stacks=prepared.manifests,
            principal=principal,
            adopt=adopt,
            subject="applied by hand",
        )

    async def plan(self, request: PlanRequest, caller: Caller) -> PlanView:
        """What deploying would do. A stack that a source owns is planned as that source's next revision: that is what the
        edited file will become."""
        owners = [self._planned_owner(stack, file) for stack, file in zip(request.stacks, request.files, strict=True)]
        prepared, command = self._deployment(request.stacks, owners, caller.principal, adopt=request.adopt)
        async with self._planning:
            before, copy = self._writer.store.freeze().view, self._writer.store.fork()
            abandoned = threading.Event()
            try:
                return await self._off_loop(plan.make_plan, before, copy, prepared, command, abandoned.is_set)
            finally:
                abandoned.set()

    def _planned_owner(self, stack: StackSpec, file: str) -> Owner:
        known = self._view.stacks.get(stack.name)
        return known.owner if known is not None and known.owner.source else Owner(file=file)

    async def sync(self, request: SyncRequest, caller: Caller) -> StatusView:
        await self._sources.sync_now(request.source, approve_prune=request.approve_prune)
        return await self.status(Empty(), caller)

    # Reading.

    async def events(self, request: EventsRequest, caller: Caller) -> AsyncIterator[EventView]:
        """With `after` all that the ring has beyond it, else the last `limit`; then, if asked to follow, those to come."""
        index, after = self._writer.feed.index, self._view.event_seq
        wanted = [event for event in self._view.events_after(request.after) if _is_asked_for(event, request)]
        for event in wanted if request.after else wanted[-max(request.limit, 1) :]:
            yield present.event_view(event)
        while request.follow:
            index = await self._writer.feed.wait_past(index)
            found, after = self._view.events_after(after), self._view.event_seq
            for event in found:
                if _is_asked_for(event, request):
                    yield present.event_view(event)

    async def stacks(self, request: Empty, caller: Caller) -> Stacks:
        stacks = sorted(self._view.stacks.values(), key=lambda stack: stack.name)
        return Stacks(items=tuple(present.stack_view(self._view, stack) for stack in stacks))

    async def services(self, request: ListRequest, caller: Caller) -> Services:
        return self._services(request)

    async def watch(self, request: ListRequest, caller: Caller) -> AsyncIterator[Services]:
        """The services now, and again whenever one of them looks different: pushed, coalesced while the client is slow."""
        time = asyncio.get_running_loop().time
        last: Services | None = None
        while True:
            began = time()
            services = self._services(request)
            took = time() - began
            if last is None or services.items != last.items:
                yield services
                last = services
            await asyncio.sleep(WATCH_REST * took)
            await self._writer.feed.wait_past(services.index)

    def _services(self, request: ListRequest) -> Services:
        view = self._view
        items = tuple(present.service_view(view, service) for service in self._select(request))
        return Services(items=items, index=self._writer.feed.index)

    def _select(self, request: ListRequest) -> list[Service]:
        if request.service:
            return [self._service(request.service)]
        if request.stack and request.stack not in self._view.stacks:
            raise NotFound("stack.unknown", f'no stack named "{request.stack}"', hint="`stackd stack ls` lists them")
        services: Iterable[Service] = (
            self._view.services_of_stack(request.stack) if request.stack else self._view.services.values()
        )
        return sorted(services, key=lambda service: service.name)

    def _service(self, name: str) -> Service:
        service = self._view.service_named(name) or self._view.services.get(name)
        if service is None:
            raise NotFound("service.unknown", f'no service named "{name}"', hint="`stackd service ls` lists them")
        return service

    async def tasks(self, request: ListRequest, caller: Caller) -> Tasks:
        """Tasks by service and slot, the newest of a slot first."""
        view = self._view
        found: list[Task] = [task for service in self._select(request) for task in view.tasks_of_service(service.id)]
        if request.node:
            node = node_of(view, request.node)
            found = [task for task in found if task.node_id == node.id]
        if not request.history:
            found = [task for task in found if is_live(task) and not has_completed(self._view, task)]
        found.sort(key=lambda task: (task.created_at, task.version), reverse=True)
        found.sort(key=lambda task: (self._name(task), task.slot, task.node_id if not task.slot else ""))
        return Tasks(items=tuple(present.task_view(view, task) for task in found))

    def _name(self, task: Task) -> str:
        service = self._view.services.get(task.service_id)
        return service.name if service else ""

    async def inspect(self, request: NameRequest, caller: Caller) -> ServiceDetail:
        service = self._service(request.name)
        return ServiceDetail(
            service=present.service_view(self._view, service),
            spec=present.spec_json(self._view, service.spec),
            previous_spec=present.spec_json(self._view, service.previous.spec) if service.previous else None,
        )

    async def nodes(self, request: Empty, caller: Caller) -> Nodes:
        nodes = sorted(self._view.nodes.values(), key=lambda node: present.node_name(self._view, node.id))
        return Nodes(items=tuple(present.node_view(self._view, node, leader=self._identity.node_id) for node in nodes))

    async def update_cluster(self, request: ClusterRequest, caller: Caller) -> ClusterView:
        command = UpdateCluster(
            principal=caller.principal,
            history_limit=request.history,
            rebalance_tasks=request.rebalance,
            address_pools=request.address_pools,
            subnet_bits=request.subnet_bits,
        )
        await self._carry_out(command)
        return present.cluster_view(self._view)

    # Networks, configs and secrets.

    async def networks(self, request: Empty, caller: Caller) -> Networks:
        return self._objects.networks()

    async def configs(self, request: Empty, caller: Caller) -> Configs:
        return self._objects.configs()

    async def secrets(self, request: Empty, caller: Caller) -> Secrets:
        return self._objects.secrets()

    async def inspect_config(self, request: NameRequest, caller: Caller) -> ConfigDetail:
        return self._objects.config(request.name)

    async def create_network(self, request: NetworkRequest, caller: Caller) -> NetworkView:
        return await self._objects.create_network(request, caller.principal)

    async def create_config(self, request: FileRequest, caller: Caller) -> ConfigView:
        return await self._objects.create_config(request, caller.principal)

    async def create_secret(self, request: FileRequest, caller: Caller) -> SecretView:
        return await self._objects.create_secret(request, caller.principal)

    async def remove_object(self, request: RemoveRequest, caller: Caller) -> Empty:
        await self._objects.remove(request, caller.principal)
        return Empty()

    # Logs.

    async def logs(self, request: LogsRequest, caller: Caller) -> AsyncIterator[LogLineView]:
        tasks = self._tasks_for_logs(request.name)
        async with aclosing(merge_logs(self._view, self._logs, tasks, request)) as lines:
            async for line in lines:
                yield line

    def _tasks_for_logs(self, name: str) -> tuple[Task, ...]:
        """The tasks of a service that have been on a node, or the one task whose id is (or begins with) `name`."""
        service = self._view.service_named(name) or self._view.services.get(name)
        if service is not None:
            return tuple(task for task in self._view.tasks_of_service(service.id) if task.node_id)
        matches = [task for task in self._view.tasks.values() if task.id.startswith(name)] if len(name) >= 4 else []
        if len(matches) != 1:
            raise NotFound("service.unknown", f'no service or task named "{name}"', hint="`stackd service ls` lists them")
        return (matches[0],)

    # Changing one service by hand.

    async def scale(self, request: ScaleRequest, caller: Caller) -> ServiceView:
        name = self._service(request.name).name
        command = ScaleService(name=name, replicas=request.replicas, principal=caller.principal, override=request.override)
        return await self._change(name, command)

    async def update(self, request: UpdateRequest, caller: Caller) -> ServiceView:
        """Raises Refused("service.stale") if somebody else changes the service at the same moment."""
        service = self._service(request.name)
        row = self._view.specs.get(service.spec)
        if row is None:
            raise StackdError("service.spec.missing", f"the spec of {service.name} is not in the state")
        spec = changed_spec(row.spec, request)
        settings = changed_settings(service.settings, request)
        if spec == row.spec and settings == service.settings:
            return present.service_view(self._view, service)
        unforced = msgspec.structs.replace(spec, force=row.spec.force)
        if unforced == row.spec and settings == service.settings:  # nothing but --force, which nobody's file contradicts
            return await self._change(service.name, ForceUpdate(name=service.name, principal=caller.principal))
        digest = spec_digest(spec)
        stage = StageContent(specs=(SpecRow(digest=digest, spec=spec),))
        command = SetSpec(
            name=service.name,
            spec=digest,
            settings=settings,
            principal=caller.principal,
            version=service.version,
            override=request.override,
        )
        return await self._change(service.name, stage, command)

    async def rollback(self, request: NameRequest, caller: Caller) -> ServiceView:
        name = self._service(request.name).name
        return await self._change(name, RollbackService(name=name, principal=caller.principal, override=request.override))

    async def _change(self, name: str, *inputs: Input) -> ServiceView:
        """Carry out a command (what is staged for it goes before it) and show what became of the service."""
        await self._carry_out(*inputs)
        return present.service_view(self._view, self._service(name))

    async def _carry_out(self, *inputs: Input) -> None:
        for reply in await self._writer.submit_all(inputs):
            accepted(reply)

    async def remove_service(self, request: NameRequest, caller: Caller) -> Empty:
        name = self._service(request.name).name
        accepted(await self._writer.submit(RemoveService(name=name, principal=caller.principal, override=request.override)))
        return Empty()

    async def remove_stack(self, request: NameRequest, caller: Caller) -> Empty:
        command = RemoveStack(name=request.name, principal=caller.principal, override=request.override)
        accepted(await self._writer.submit(command))
        return Empty()

    # Taking everything down.

    async def down(self, request: DownRequest, caller: Caller) -> AsyncIterator[DownProgress]:
        """Stop following sources, remove all stacks, wait until no task is left, then end the daemon."""
        await self._sources.stop_sources()
        if request.remove:
            async for progress in self._remove_everything(caller):
                yield progress
            await self._node_idle()
        yield DownProgress(remaining=len(self._view.tasks), done=True)
        await self._stop()

    async def _remove_everything(self, caller: Caller) -> AsyncIterator[DownProgress]:
        names = [stack.name for stack in self._view.stacks.values()]
        if names:
            await self._writer.submit_all([RemoveStack(name=name, principal=caller.principal, override=True) for name in names])
        last: DownProgress | None = None
        while self._view.services or self._view.tasks:
            index = self._writer.feed.index
            errors = (self._view.status_of(task.id).error for task in self._view.tasks.values())
            progress = DownProgress(remaining=len(self._view.tasks), message=next(filter(None, errors), ""))
            if progress != last:
                yield progress
                last = progress
            await self._writer.feed.wait_past(index)


def _is_asked_for(event: Event, request: EventsRequest) -> bool:
    by_somebody = event.principal.kind is not PrincipalKind.SYSTEM
    return request.stack in ("", event.stack) and (by_somebody or not request.audit)
