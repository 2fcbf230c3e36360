"""Public records, `stackd/v1`: what clients and `-o json` see. Names instead of ids, RFC 3339 times, states as words,
secrets never. They are separate from the stored records, so that those may change."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from stackd.base.time import MILLISECOND, SECOND, Instant

API_VERSION = "stackd/v1"


class View(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of public records: JSON objects with snake_case keys."""


def rfc3339(at: Instant) -> str | None:
    """An instant as people and machines read it, to the millisecond, in UTC; None for 0, which means never."""
    if not at:
        return None
    seconds, rest = divmod(at, SECOND)
    return f"{_second(seconds)}.{rest // MILLISECOND:03d}Z"


@lru_cache(4096)
def _second(seconds: int) -> str:
    """A list of thousands has two times in each item, and few seconds in which all of it happened."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")


class TaskView(View, frozen=True, kw_only=True):
    """A task. `desired_state` and `state` are words such as `running`."""

    id: str
    name: str
    service: str
    stack: str
    slot: int
    node: str
    image: str
    desired_state: str
    state: str
    message: str
    error: str
    exit_code: int | None
    spec_version: int
    container_id: str
    pid: int
    created_at: str | None
    updated_at: str | None


class RolloutView(View, frozen=True, kw_only=True):
    state: str
    message: str
    started_at: str | None
    completed_at: str | None
    total: int
    done: int
    failed: int


class PortView(View, frozen=True, kw_only=True):
    target: int
    published: int
    protocol: str
    mode: str


class ServiceView(View, frozen=True, kw_only=True):
    """A service. `running` counts tasks that run the current or an older spec, `updated` those that run the current one.
    Of a job `replicas` is how many runs have to complete, `completed` how many have; `iteration` counts how often the job as a
    whole was started (0: the service is no job)."""

    id: str
    name: str
    stack: str
    mode: str
    image: str
    replicas: int
    running: int
    updated: int
    converged: bool
    health: str
    message: str
    ports: tuple[PortView, ...]
    version: int
    spec_version: int
    spec_digest: str
    rollout: RolloutView | None
    frozen: str
    override: bool
    revision: str
    created_at: str | None
    updated_at: str | None
    completed: int = 0
    iteration: int = 0


class StackView(View, frozen=True, kw_only=True):
    name: str
    source: str
    file: str
    revision: str
    services: int
    converged: bool
    health: str
    sync: str
    message: str
    updated_at: str | None


class NodeView(View, frozen=True, kw_only=True):
    """A node. `role` is the one it shall have, `certificate_role` the one it has ("" without a certificate).
    `manager_status` is leader | reachable | unreachable, "" for one that is no manager. `self` marks the manager that
    answers."""

    id: str
    hostname: str
    state: str
    availability: str
    role: str
    manager_status: str
    self_: bool = msgspec.field(name="self")
    executors: tuple[str, ...]
    engine_version: str
    os: str
    arch: str
    cpus: float
    memory_bytes: int
    labels: dict[str, str]
    tasks: int
    message: str
    address: str = ""
    manager_address: str = ""
    certificate_role: str = ""
    certificate_until: str | None = None


class ClusterView(View, frozen=True, kw_only=True):
    """The cluster's settings. `rebalance_tasks` are moved at a time when a node joins or comes back; 0 is off. Networks without
    subnets of their own get /`subnet_bits` out of `address_pools`."""

    id: str
    history_limit: int
    rebalance_tasks: int
    address_pools: tuple[str, ...]
    subnet_bits: int


class RootRotationView(View, frozen=True, kw_only=True):
    """A root certificate that is being replaced. `behind` are the nodes that still use the old one."""

    digest: str
    started_at: str | None
    behind: tuple[str, ...]


class ClusterInfoView(View, frozen=True, kw_only=True):
    """The cluster as a whole. `root_digest` is what join tokens name, "" while the cluster has no certificates."""

    cluster: ClusterView
    leader: str
    managers: tuple[str, ...]
    nodes: int
    nodes_ready: int
    autolock: bool
    root_digest: str
    certificate_life_seconds: int
    rotation: RootRotationView | None


class UserView(View, frozen=True, kw_only=True):
    """A person who may call from afar. `role` is viewer | deployer | admin."""

    name: str
    role: str
    created_at: str | None


class SubnetView(View, frozen=True, kw_only=True):
    subnet: str
    gateway: str
    ip_range: str


class NetworkView(View, frozen=True, kw_only=True):
    """A network. `state` is ready | waiting (for a subnet; `message` says why) | removing (once nothing uses it).
    `addresses` of `capacity` are in use; both are 0 where stackd doesn't give them out. `services` are those attached."""

    id: str
    name: str
    stack: str
    driver: str
    state: str
    message: str
    subnets: tuple[SubnetView, ...]
    vxlan_id: int
    internal: bool
    attachable: bool
    ipv6: bool
    addresses: int
    capacity: int
    services: tuple[str, ...]
    labels: dict[str, str]
    driver_options: dict[str, str]
    created_at: str | None


class ConfigView(View, frozen=True, kw_only=True):
    """A config without its content. `state` is ready | removing; `services` are those that use it."""

    id: str
    name: str
    stack: str
    state: str
    digest: str
    size_bytes: int
    template: str
    services: tuple[str, ...]
    labels: dict[str, str]
    created_at: str | None
    updated_at: str | None


class SecretView(View, frozen=True, kw_only=True):
    """A secret; its content is never shown, nor its size."""

    id: str
    name: str
    stack: str
    state: str
    template: str
    driver: str
    services: tuple[str, ...]
    labels: dict[str, str]
    created_at: str | None
    updated_at: str | None


class SourceView(View, frozen=True, kw_only=True):
    name: str
    kind: str
    location: str
    ref: str
    path: str
    revision: str
    label: str
    state: str
    seen: str
    seen_at: str | None
    error: str
    error_code: str
    held_prune: tuple[str, ...]


class StatusView(View, frozen=True, kw_only=True):
    """`stackd status`. `sync` is synced | out-of-sync | error | unknown; `health` is healthy | progressing | degraded |
    failed; `converged` is over all stacks."""

    cluster_id: str
    version: str
    leader: str
    sync: str
    health: str
    converged: bool
    sources: tuple[SourceView, ...]
    stacks: tuple[StackView, ...]
    nodes: int
    nodes_ready: int


class EventView(View, frozen=True, kw_only=True):
    seq: int
    at: str | None
    kind: str
    subject: str
    stack: str
    message: str
    principal: str


class ChangeView(View, frozen=True, kw_only=True):
    """One field that a plan changes, with the place it was written; secrets are shown as changed, never as text."""

    field: str
    before: str
    after: str
    file: str = ""
    line: int = 0
    column: int = 0


class PlanStepView(View, frozen=True, kw_only=True):
    """One thing that would happen, at seconds from the start as forecast."""

    at_seconds: float
    action: str
    task: str
    node: str
    reason: str


class ServicePlanView(View, frozen=True, kw_only=True):
    """`action` is create | update | remove | scale | unchanged. `created` and `removed` count every task that starts or
    ends, also those that replace one another (`replaced`). `lowest_running` is the lowest number of running tasks
    during the rollout, `duration_seconds` the forecast (without image pulls)."""

    name: str
    stack: str
    action: str
    changes: tuple[ChangeView, ...]
    steps: tuple[PlanStepView, ...]
    replaced: int
    created: int
    removed: int
    lowest_running: int
    wanted: int
    duration_seconds: float
    placement: dict[str, int]
    blocked: str = ""


class PlanView(View, frozen=True, kw_only=True):
    """What a deploy would do, from the real engine run forward on a copy of the live state at `base_version`."""

    base_version: int
    changes: bool
    services: tuple[ServicePlanView, ...]
    prune: tuple[str, ...]
    refused: str = ""
    refused_hint: str = ""


class LogLineView(View, frozen=True, kw_only=True):
    at: str | None
    task: str
    node: str
    stream: str
    line: str
    warning: str = ""
