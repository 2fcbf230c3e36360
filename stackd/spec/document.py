"""What a stack file says, typed and in its long forms, before anything outside of it is looked at.

Records are called and spelled as the keys of the language, and hold what is written, not what is meant: None or an empty
value is a key that isn't written. Three things are made of a document: what it means (`resolve.py`), the same file in its
long form (`render.py`), and the requests that the official client would send (`docker_bodies.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from stackd.base.time import Duration
from stackd.spec.nodes import Node

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Said(Generic[T_co]):
    """A value, the path under which its file says it, and the node that does."""

    path: str
    value: T_co
    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class PortDocument:
    """One published port; a range is several. 0 and "" are what isn't written."""

    mode: str = ""
    target: int = 0
    published: int = 0
    protocol: str = ""
    host_ip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindDocument:
    propagation: str = ""
    create_host_path: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeOptionsDocument:
    nocopy: bool = False
    subpath: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsDocument:
    size: int = 0
    mode: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MountDocument:
    """A mount of a service. The source of a bind mount starts from the project's folder if it is relative."""

    type: str
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind: BindDocument | None = None
    volume: VolumeOptionsDocument | None = None
    tmpfs: TmpfsDocument | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceDocument:
    """A service's use of a config or secret."""

    source: str
    target: str = ""
    uid: str = ""
    gid: str = ""
    mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentDocument:
    """A service's use of a network."""

    aliases: tuple[str, ...] = ()
    driver_opts: dict[str, str] = field(default_factory=dict)
    ipv4_address: str = ""
    ipv6_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthcheckDocument:
    test: tuple[str, ...] = ()
    timeout: Duration | None = None
    interval: Duration | None = None
    retries: int | None = None
    start_period: Duration | None = None
    start_interval: Duration | None = None
    disable: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingDocument:
    driver: str = ""
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UlimitDocument:
    """`single` stands for both, where the file has a bare number."""

    single: int = 0
    soft: int = 0
    hard: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialDocument:
    config: str = ""
    file: str = ""
    registry: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildDocument:
    """How the image would be built: said by files that are also used to build, and without effect here."""

    context: str = ""
    dockerfile: str = ""
    args: dict[str, str | None] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    cache_from: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    network: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateDocument:
    parallelism: int | None = None
    delay: Duration = Duration(0)
    failure_action: str = ""
    monitor: Duration = Duration(0)
    max_failure_ratio: float = 0.0
    order: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscreteResourceDocument:
    kind: str = ""
    value: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericResourceDocument:
    discrete_resource_spec: DiscreteResourceDocument | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountsDocument:
    """Limits or reservations; `cpus` is kept as it is written, because no float rounds it."""

    cpus: str = ""
    memory: int = 0
    pids: int = 0
    generic_resources: tuple[GenericResourceDocument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcesDocument:
    limits: AmountsDocument | None = None
    reservations: AmountsDocument | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartDocument:
    condition: str = ""
    delay: Duration | None = None
    max_attempts: int | None = None
    window: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceDocument:
    spread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementDocument:
    constraints: tuple[str, ...] = ()
    preferences: tuple[PreferenceDocument, ...] = ()
    max_replicas_per_node: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployDocument:
    mode: str = ""
    replicas: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    update_config: UpdateDocument | None = None
    rollback_config: UpdateDocument | None = None
    resources: ResourcesDocument = ResourcesDocument()
    restart_policy: RestartDocument | None = None
    placement: PlacementDocument = PlacementDocument()
    endpoint_mode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyDocument:
    condition: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFileDocument:
    """A file of variables, and whether it has to be there."""

    path: str
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What stands under `x-stackd` of a service. `progress_deadline` is that of its updates."""

    executor: str = ""
    fence: bool | None = None
    drain: str = ""
    progress_deadline: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDocument:
    """One service. What its env files say has been joined to `environment`; there None stands for a KEY without a value.

    `depends_on` is None in its values where a list names the service alone. `extras` are the `x-` keys as plain data."""

    name: str
    path: str
    build: BuildDocument = BuildDocument()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    cgroup_parent: str = ""
    cgroupns_mode: str = ""
    command: tuple[str, ...] = ()
    configs: tuple[Said[ReferenceDocument], ...] = ()
    container_name: str = ""
    credential_spec: CredentialDocument = CredentialDocument()
    depends_on: dict[str, DependencyDocument | None] = field(default_factory=dict)
    deploy: DeployDocument = DeployDocument()
    devices: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    domainname: str = ""
    entrypoint: tuple[str, ...] = ()
    env_file: tuple[EnvFileDocument, ...] = ()
    environment: dict[str, str | None] = field(default_factory=dict)
    expose: tuple[str, ...] = ()
    external_links: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    healthcheck: HealthcheckDocument | None = None
    hostname: str = ""
    image: str = ""
    init: bool | None = None
    ipc: str = ""
    isolation: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    logging: LoggingDocument | None = None
    mac_address: str = ""
    network_mode: str = ""
    networks: dict[str, AttachmentDocument | None] = field(default_factory=dict)
    oom_score_adj: int = 0
    pid: str = ""
    pids_limit: int = 0
    platform: str = ""
    ports: tuple[Said[PortDocument], ...] = ()
    privileged: bool | None = None
    profiles: tuple[str, ...] = ()
    pull_policy: str = ""
    read_only: bool | None = None
    restart: str = ""
    runtime: str = ""
    secrets: tuple[Said[ReferenceDocument], ...] = ()
    security_opt: tuple[str, ...] = ()
    shm_size: str = ""
    stdin_open: bool | None = None
    stop_grace_period: Duration | None = None
    stop_signal: str = ""
    sysctls: dict[str, str] = field(default_factory=dict)
    tmpfs: tuple[str, ...] = ()
    tty: bool | None = None
    ulimits: dict[str, UlimitDocument] = field(default_factory=dict)
    user: str = ""
    userns_mode: str = ""
    volumes: tuple[Said[MountDocument], ...] = ()
    working_dir: str = ""
    extension: Extension = Extension()
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDocument:
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamDocument:
    driver: str = ""
    config: tuple[PoolDocument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDocument:
    """A network of the top level. An external one always has its `name`, as have external volumes, configs and secrets."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = field(default_factory=dict)
    ipam: IpamDocument = IpamDocument()
    external: bool = False
    internal: bool = False
    attachable: bool = False
    enable_ipv6: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeDocument:
    """A volume of the top level. `name` is "" where the stack's name and the key make it."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = field(default_factory=dict)
    external: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileObjectDocument:
    """A config or secret of the top level. `file` starts from the project's folder; `environment` names a variable."""

    name: str = ""
    file: str = ""
    content: str | None = None
    environment: str = ""
    external: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    driver: str = ""
    driver_opts: dict[str, str] = field(default_factory=dict)
    template_driver: str = ""
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackDocument:
    """The whole file, or several of them merged. `name` and `version` are "" where they aren't written; `inactive` are the
    services that were left out because none of their profiles is active."""

    name: str = ""
    version: str = ""
    services: dict[str, ServiceDocument] = field(default_factory=dict)
    networks: dict[str, NetworkDocument] = field(default_factory=dict)
    volumes: dict[str, VolumeDocument] = field(default_factory=dict)
    secrets: dict[str, FileObjectDocument] = field(default_factory=dict)
    configs: dict[str, FileObjectDocument] = field(default_factory=dict)
    inactive: frozenset[str] = frozenset()
    extension: Extension = Extension()
    extras: dict[str, Any] = field(default_factory=dict)
