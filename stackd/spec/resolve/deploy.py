"""What the `deploy` section of a service means: its settings, and the part of it that belongs to each task."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import TypeVar

from stackd.base.records import pairs
from stackd.spec import constraints, shorthand
from stackd.spec.document import (
    AmountsDocument,
    DependencyDocument,
    PlacementDocument,
    RestartDocument,
    ServiceDocument,
    UpdateDocument,
)
from stackd.spec.stack import (
    Dependency,
    DependencyCondition,
    EndpointMode,
    FailureAction,
    GenericResource,
    Placement,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSettings,
    UpdateConfig,
    UpdateOrder,
)

E = TypeVar("E", bound=StrEnum)

GLOBAL_MODES = (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB)
JOB_MODES = (ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB)


def word(kind: type[E], text: str, default: E) -> E:
    """The member of `kind` that `text` names. Other texts were reported where they were read and mean the default."""
    member = _members(kind).get(text, default)
    assert isinstance(member, kind)
    return member


@cache
def _members(kind: type[StrEnum]) -> Mapping[str, StrEnum]:
    return {str(member): member for member in kind}


def mode_of(service: ServiceDocument) -> ServiceMode:
    return word(ServiceMode, service.deploy.mode, ServiceMode.REPLICATED)


def settings_of(service: ServiceDocument) -> ServiceSettings:
    """The settings that change in place."""
    deploy, extension = service.deploy, service.extension
    mode = mode_of(service)
    replicas = 1 if deploy.replicas is None else deploy.replicas
    return ServiceSettings(
        mode=mode,
        replicas=0 if mode in GLOBAL_MODES else replicas,
        update=_update(deploy.update_config, service),
        rollback=_update(deploy.rollback_config, service),
        labels=pairs(deploy.labels),
        endpoint_mode=word(EndpointMode, deploy.endpoint_mode.lower(), EndpointMode.VIP),
        depends_on=tuple(_dependency(name, said) for name, said in sorted(service.depends_on.items())),
        drain_start_first=extension.drain == "start-first",
    )


def _update(said: UpdateDocument | None, service: ServiceDocument) -> UpdateConfig:
    """A monitor of 0 means the default, as in the Docker API."""
    default = UpdateConfig()
    said = said or UpdateDocument()
    deadline = service.extension.progress_deadline
    return UpdateConfig(
        parallelism=default.parallelism if said.parallelism is None else said.parallelism,
        delay_ns=said.delay,
        failure_action=word(FailureAction, said.failure_action, default.failure_action),
        monitor_ns=said.monitor or default.monitor_ns,
        max_failure_ratio=said.max_failure_ratio,
        order=word(UpdateOrder, said.order, default.order),
        progress_deadline_ns=default.progress_deadline_ns if deadline is None else deadline,
    )


def _dependency(name: str, said: DependencyDocument | None) -> Dependency:
    if said is None:
        return Dependency(service=name)
    condition = word(DependencyCondition, said.condition, DependencyCondition.STARTED)
    return Dependency(service=name, condition=condition, required=said.required)


def restart_of(service: ServiceDocument) -> RestartPolicy:
    """The policy of `deploy`, else the short key's, else the default."""
    if service.deploy.restart_policy is not None:
        return _restart(service.deploy.restart_policy)
    return shorthand.understood(shorthand.restart, service.restart, None) or RestartPolicy()


def _restart(said: RestartDocument) -> RestartPolicy:
    default = RestartPolicy()
    return RestartPolicy(
        condition=word(RestartCondition, said.condition, default.condition),
        delay_ns=default.delay_ns if said.delay is None else said.delay,
        max_attempts=said.max_attempts or 0,
        window_ns=default.window_ns if said.window is None else said.window,
    )


def limits_of(service: ServiceDocument) -> Resources:
    """Limits; -1 processes are as many as the node has, and `pids_limit` is the older word for the same."""
    said = service.deploy.resources.limits or AmountsDocument()
    return _amounts(said, max(said.pids or service.pids_limit, 0))


def reservations_of(service: ServiceDocument) -> Resources:
    return _amounts(service.deploy.resources.reservations or AmountsDocument(), 0)


def _amounts(said: AmountsDocument, pids: int) -> Resources:
    named = (item.discrete_resource_spec for item in said.generic_resources)
    generic = sorted((one.kind, one.value) for one in named if one is not None and one.value)
    return Resources(
        nano_cpus=shorthand.understood(shorthand.nano_cpus, said.cpus, 0),
        memory_bytes=said.memory,
        pids=pids,
        generic=tuple(GenericResource(kind=kind, amount=amount) for kind, amount in generic),
    )


def placement_of(said: PlacementDocument) -> Placement:
    return Placement(
        constraints=tuple(filter(None, map(constraints.canonical, said.constraints))),
        spread=tuple(preference.spread for preference in said.preferences if preference.spread),
        max_per_node=said.max_replicas_per_node,
    )
