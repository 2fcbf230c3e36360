"""Stored records as public views: names instead of ids, words instead of numbers, secrets by name only."""

from __future__ import annotations

import functools
from typing import Any, assert_never

import msgspec

from stackd.api.views import (
    ClusterInfoView,
    ClusterView,
    EventView,
    NodeView,
    PortView,
    RolloutView,
    RootRotationView,
    ServiceView,
    SourceView,
    StackView,
    StatusView,
    TaskView,
    UserView,
    rfc3339,
)
from stackd.base.ids import NodeId, RevisionId, SpecDigest
from stackd.base.records import Pairs
from stackd.base.time import SECOND, Instant
from stackd.engine.admit.authority import nodes_behind
from stackd.engine.explain import service_health
from stackd.engine.model import Cluster, Event, Node, Revision, Service, Source, Stack, Task, User
from stackd.engine.orchestrate.runs import runs_of, wanted_completions
from stackd.engine.orchestrate.slots import is_live
from stackd.engine.parts import ManagerStatus, NodeState, RevisionState, RolloutState
from stackd.engine.status import Rollout
from stackd.engine.store import View
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.spec.stack import ServiceMode

_HEALTH_ORDER = ("healthy", "progressing", "degraded", "failed")
"""From best to worst: the health of many is the worst of them."""


_ROLLED_BACK = (RolloutState.ROLLBACK_STARTED, RolloutState.ROLLBACK_PAUSED, RolloutState.ROLLBACK_COMPLETED)


def worst(healths: list[str]) -> str:
    """The health of a whole from that of its parts; nothing at all is healthy."""
    return max(healths, key=_HEALTH_ORDER.index, default="healthy")


def node_name(view: View, node: NodeId) -> str:
    """A node's host name, its id where that isn't known, "" for none."""
    status = view.node_statuses.get(node)
    return (status.description.hostname or node) if status else node


def task_view(view: View, task: Task) -> TaskView:
    service = view.services.get(task.service_id)
    row = view.specs.get(task.spec)
    status = view.status_of(task.id)
    name = service.name if service else task.service_id
    return TaskView(
        id=task.id,
        name=f"{name}.{task.slot or node_name(view, task.node_id)}",
        service=name,
        stack=service.stack if service else "",
        slot=task.slot,
        node=node_name(view, task.node_id),
        image=row.spec.container.image if row else "",
        desired_state=task.desired.word,
        state=status.state.word,
        message=status.message,
        error=status.error,
        exit_code=status.exit_code,
        spec_version=task.spec_version,
        container_id=status.container_id,
        pid=status.pid,
        created_at=rfc3339(task.created_at),
        updated_at=rfc3339(status.at),
    )


def _rollout_view(rollout: Rollout) -> RolloutView:
    return RolloutView(
        state=rollout.state.value,
        message=rollout.message,
        started_at=rfc3339(rollout.started_at),
        completed_at=rfc3339(rollout.completed_at),
        total=rollout.total,
        done=rollout.done,
        failed=len(rollout.failed),
    )


def service_view(view: View, service: Service) -> ServiceView:
    row = view.specs.get(service.spec)
    running = [
        task
        for task in view.tasks_of_service(service.id)
        if is_live(task) and view.status_of(task.id).state == TaskState.RUNNING
    ]
    health, converged, message = service_health(view, service)
    rollout = view.rollouts.get(service.id)
    return ServiceView(
        id=service.id,
        name=service.name,
        stack=service.stack,
        mode=service.settings.mode.value,
        image=row.spec.container.image if row else "",
        replicas=wanted_tasks(view, service),
        running=len(running),
        updated=sum(task.spec == service.spec for task in running),
        converged=converged,
        health=health,
        message=message,
        ports=tuple(
            PortView(target=port.target, published=port.published, protocol=port.protocol, mode=port.mode.value)
            for port in (row.spec.ports if row else ())
        ),
        version=service.version,
        spec_version=service.spec_version,
        spec_digest=service.spec,
        rollout=_rollout_view(rollout) if rollout else None,
        frozen=service.frozen,
        override=service.override,
        revision=service.revision,
        created_at=rfc3339(service.created_at),
        updated_at=rfc3339(service.updated_at),
        completed=len(runs_of(view, service).completed) if service.iteration else 0,
        iteration=service.iteration,
    )


def wanted_tasks(view: View, service: Service) -> int:
    """How many tasks the service should run: its replicas, or for a global service the nodes it has a task on; of a job how
    many runs have to complete."""
    if service.removing:
        return 0
    match service.settings.mode:
        case ServiceMode.REPLICATED:
            return service.settings.replicas
        case ServiceMode.GLOBAL:
            return len({task.node_id for task in view.tasks_of_service(service.id) if is_live(task)})
        case ServiceMode.REPLICATED_JOB | ServiceMode.GLOBAL_JOB:
            return wanted_completions(view, service)
        case other:
            assert_never(other)


def spec_json(view: View, digest: SpecDigest) -> Any:
    """A task spec as plain JSON values; secrets appear by name and digest, as they are stored."""
    row = view.specs.get(digest)
    return as_json(row.spec) if row else None


def as_json(value: Any) -> Any:
    """Records as objects, also their mappings: the stored form of both is an array, which nobody wants to read."""
    if isinstance(value, msgspec.Struct):
        mappings = _mappings(type(value))
        return {
            name: dict(field) if name in mappings else as_json(field)
            for name in value.__struct_fields__
            for field in (getattr(value, name),)
        }
    if isinstance(value, tuple):
        return [as_json(one) for one in value]
    return value


@functools.cache
def _mappings(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that are mappings, also while they are empty."""
    return frozenset(field.name for field in msgspec.structs.fields(kind) if field.type == Pairs)


def changed_fields(before: msgspec.Struct | None, after: msgspec.Struct | None) -> list[tuple[str, str, str]]:
    """The fields in which two records differ, as (path, before, after) with texts; contents of secrets are never in them."""
    return _differences("", as_json(before) if before else {}, as_json(after) if after else {})


def _differences(path: str, before: Any, after: Any) -> list[tuple[str, str, str]]:
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [
            difference
            for key in keys
            for difference in _differences(f"{path}.{key}" if path else key, before.get(key), after.get(key))
        ]
    return [(path, _text(before), _text(after))]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def stack_view(view: View, stack: Stack) -> StackView:
    services = [service_health(view, service) for service in view.services_of_stack(stack.name)]
    message = next((message for _, converged, message in services if not converged and message), "")
    return StackView(
        name=stack.name,
        source=stack.owner.source,
        file=stack.owner.file,
        revision=revision_label(view, stack.revision),
        services=len(services),
        converged=all(converged for _, converged, _ in services),
        health=worst([health for health, _, _ in services]),
        sync=_stack_sync(view, stack),
        message=message,
        updated_at=rfc3339(stack.updated_at),
    )


def _stack_sync(view: View, stack: Stack) -> str:
    """Whether the stack is what its file says: `synced`, `out-of-sync` (changed by hand, or back at an earlier spec) or
    `error` (source unreadable)."""
    if any(service.override or _is_rolled_back(view, service) for service in view.services_of_stack(stack.name)):
        return "out-of-sync"
    status = view.source_statuses.get(stack.owner.source)
    return "error" if status is not None and status.error else "synced"


def _is_rolled_back(view: View, service: Service) -> bool:
    """Whether the service runs, or returns to, an earlier spec than the one that was last asked for."""
    rollout = view.rollouts.get(service.id)
    return rollout is not None and rollout.state in _ROLLED_BACK and rollout.spec_version == service.spec_version


def revision_label(view: View, revision: RevisionId) -> str:
    """What a person knows a revision by: the commit, or the digest of a directory's content."""
    record = view.revisions.get(revision)
    return record.label if record else ""


def source_view(view: View, source: Source) -> SourceView:
    status = view.source_statuses.get(source.name)
    revision: Revision | None = view.revisions.get(status.revision) if status else None
    return SourceView(
        name=source.name,
        kind=source.kind.value,
        location=source.location,
        ref=source.ref,
        path=source.path,
        revision=revision.id if revision else "",
        label=revision.label if revision else "",
        state=revision.state.value if revision else "",
        seen=status.seen if status else "",
        seen_at=rfc3339(status.at if status else Instant(0)),
        error=status.error if status else "",
        error_code=status.error_code if status else "",
        held_prune=status.held_prune if status else (),
    )


def status_view(view: View, *, leader: str, version: str) -> StatusView:
    stacks = tuple(stack_view(view, stack) for stack in sorted(view.stacks.values(), key=lambda stack: stack.name))
    sources = tuple(source_view(view, source) for source in view.sources.values())
    ready = sum(status.state is NodeState.READY for status in view.node_statuses.values())
    return StatusView(
        cluster_id=view.cluster.id if view.cluster else "",
        version=version,
        leader=leader,
        sync=_sync(sources, stacks),
        health=worst([stack.health for stack in stacks]),
        converged=all(stack.converged for stack in stacks),
        sources=sources,
        stacks=stacks,
        nodes=len(view.nodes),
        nodes_ready=ready,
    )


def _sync(sources: tuple[SourceView, ...], stacks: tuple[StackView, ...]) -> str:
    if any(source.error for source in sources):
        return "error"
    if any(not source.seen for source in sources):
        return "unknown"
    waiting = any(source.held_prune or source.state == RevisionState.AWAITING_APPROVAL for source in sources)
    return "out-of-sync" if waiting or any(stack.sync != "synced" for stack in stacks) else "synced"


def cluster_view(view: View) -> ClusterView:
    """The cluster's settings; before there are any, those that every cluster begins with."""
    cluster = view.cluster or Cluster(id="", created_at=view.now)
    return ClusterView(
        id=cluster.id,
        history_limit=cluster.history_limit,
        rebalance_tasks=cluster.rebalance_tasks,
        address_pools=cluster.address_pools,
        subnet_bits=cluster.subnet_bits,
    )


def node_view(view: View, node: Node, *, leader: NodeId) -> NodeView:
    status = view.node_statuses.get(node.id)
    description = status.description if status else None
    return NodeView(
        id=node.id,
        hostname=node_name(view, node.id),
        state=status.state.value if status else NodeState.UNKNOWN.value,
        availability=node.availability.value,
        role=node.role.value,
        manager_status=_manager_status(node.id == leader, status.manager if status else None),
        self_=node.id == leader,
        executors=description.executors if description else (),
        engine_version=description.engine_version if description else "",
        os=description.os if description else "",
        arch=description.arch if description else "",
        cpus=description.resources.nano_cpus / 1e9 if description else 0.0,
        memory_bytes=description.resources.memory_bytes if description else 0,
        labels=dict(node.labels),
        tasks=sum(is_live(task) and not is_terminal(view.status_of(task.id).state) for task in view.tasks_of_node(node.id)),
        message=status.message if status else "",
        address=status.address if status else "",
        manager_address=status.manager.address if status and status.manager else "",
        certificate_role=status.certificate.role.value if status and status.certificate else "",
        certificate_until=rfc3339(status.certificate.until) if status and status.certificate else None,
    )


def _manager_status(is_leader: bool, manager: ManagerStatus | None) -> str:
    """Who leads is known better by whoever answers than by what was reported a moment ago."""
    if is_leader:
        return "leader"
    if manager is None:
        return ""
    return "reachable" if manager.reachable else "unreachable"


def cluster_info_view(
    view: View, *, leader: str, managers: tuple[str, ...], root_digest: str, next_root_digest: str
) -> ClusterInfoView:
    """The cluster as a whole; the digests are those of the roots that `view.authority` has."""
    authority, cluster = view.authority, view.cluster
    rotation = authority.rotation if authority is not None else None
    return ClusterInfoView(
        cluster=cluster_view(view),
        leader=leader,
        managers=managers,
        nodes=len(view.nodes),
        nodes_ready=len(view.nodes_in(NodeState.READY)),
        autolock=cluster is not None and bool(cluster.sealed_unlock_key),
        root_digest=root_digest,
        certificate_life_seconds=authority.certificate_life_ns // SECOND if authority is not None else 0,
        rotation=None
        if rotation is None
        else RootRotationView(
            digest=next_root_digest,
            started_at=rfc3339(rotation.started_at),
            behind=tuple(node_name(view, NodeId(node_id)) for node_id in nodes_behind(view)),
        ),
    )


def user_view(user: User) -> UserView:
    return UserView(name=user.name, role=user.role.value, created_at=rfc3339(user.created_at))


def event_view(event: Event) -> EventView:
    return EventView(
        seq=event.seq,
        at=rfc3339(event.at),
        kind=event.kind,
        subject=event.subject,
        stack=event.stack,
        message=event.message,
        principal=str(event.principal),
    )
