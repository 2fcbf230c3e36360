"""What a stack file means: the typed result of loading it, and the part of it that every later layer carries along.

A `TaskSpec` holds exactly the settings whose change replaces tasks; `ServiceSpec` adds those that change in place
(replicas, update settings, service labels). SwarmKit draws the same line (semantics 8.2). Specs are compared by
digest (`spec/digest.py`), never field by field.
"""

from __future__ import annotations

import enum

from stackd.base.ids import BlobDigest
from stackd.base.records import Pairs, Record
from stackd.base.time import MINUTE, SECOND, Duration

REPLICAS_MAX = 100_000
"""The most replicas of a service: far above what a cluster runs, far below what would fill its memory by a slip of the
finger. Not a limit of Swarm's."""


class PublishMode(enum.StrEnum):
    INGRESS = "ingress"
    HOST = "host"


class Port(Record):
    """One published port. `published` 0 leaves the choice to the engine, anew for each task."""

    target: int
    published: int = 0
    protocol: str = "tcp"
    mode: PublishMode = PublishMode.INGRESS
    host_ip: str = ""


class MountType(enum.StrEnum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    NPIPE = "npipe"
    CLUSTER = "cluster"
    IMAGE = "image"


class Mount(Record):
    """A mount of a task. `source` is a host path (bind, npipe), a volume name (volume; "" is anonymous; cluster), an image,
    or "" (tmpfs). `propagation` is "" or one of the kernel's words (`rprivate`, `rshared`, ...), `subpath` a folder inside
    the volume, `tmpfs_mode` the permission bits of a tmpfs (0: the engine's default), `create_host_path` makes the missing
    source of a bind mount."""

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    no_copy: bool = False
    size_bytes: int = 0
    driver: str = ""
    driver_options: Pairs = ()
    labels: Pairs = ()
    propagation: str = ""
    consistency: str = ""
    subpath: str = ""
    tmpfs_mode: int = 0
    create_host_path: bool = False


class FileRef(Record):
    """A config or secret as a file inside the task. `source` is the object's name in the cluster. `digest` names the
    content: sha256 for configs, for secrets an HMAC under the cluster's key; it is filled in when the stack is admitted for
    secrets and for external objects ("" before that). `template` names the engine that fills in the content ("golang")."""

    source: str
    target: str
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444
    digest: BlobDigest = BlobDigest("")
    template: str = ""


class Healthcheck(Record):
    """`test` is Docker's form: ("CMD", ...), ("CMD-SHELL", line) or ("NONE",). Durations of 0 mean the engine's default."""

    test: tuple[str, ...]
    interval_ns: Duration = Duration(0)
    timeout_ns: Duration = Duration(0)
    start_period_ns: Duration = Duration(0)
    retries: int = 0
    start_interval_ns: Duration = Duration(0)


class GenericResource(Record):
    """An amount of a resource that only the node's operator knows (`gpu`), counted or by name (semantics 13). A spec asks
    for an amount; a node offers an amount, or names."""

    kind: str
    amount: int = 0
    names: tuple[str, ...] = ()


class Resources(Record):
    """CPU in billionths of a core, memory in bytes; 0 means none asked for."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    pids: int = 0
    generic: tuple[GenericResource, ...] = ()


class RestartCondition(enum.StrEnum):
    NONE = "none"
    ON_FAILURE = "on-failure"
    ANY = "any"


class RestartPolicy(Record):
    """`max_attempts` 0 is unlimited; `window_ns` 0 counts attempts over the life of the spec."""

    condition: RestartCondition = RestartCondition.ANY
    delay_ns: Duration = Duration(5 * SECOND)
    max_attempts: int = 0
    window_ns: Duration = Duration(0)


class Ulimit(Record):
    """A resource limit of the processes (`nofile`); -1 is unlimited."""

    name: str
    soft: int
    hard: int


class Device(Record):
    """A device of the node made visible in the task; `permissions` are of `rwm`."""

    source: str
    target: str
    permissions: str = "rwm"


class LogDriver(Record):
    """Where the engine sends the output; `name` "" is the engine's default."""

    name: str = ""
    options: Pairs = ()


class CredentialSpec(Record):
    """A Windows account; exactly one is set. `config` is the name of a config."""

    file: str = ""
    registry: str = ""
    config: str = ""


class NetworkAttachment(Record):
    """A network that the tasks join, by its name in the cluster. `aliases` are further names of the tasks there, the short
    name of the service among them; `addresses` are those that the task has to have there, one per IP version at most."""

    network: str
    aliases: tuple[str, ...] = ()
    driver_options: Pairs = ()
    addresses: tuple[str, ...] = ()


class ContainerSpec(Record):
    """What runs. `entrypoint` and `command` are None where the image's own are meant; `init` None leaves it to the engine.

    `hosts` are lines of the hosts file, "ADDRESS NAME". `platform` is `os/arch[/variant]`, `pull_policy` one of Compose's
    words. `shm_size_bytes` and `oom_score_adj` 0 are the engine's defaults."""

    image: str
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    hostname: str = ""
    labels: Pairs = ()
    healthcheck: Healthcheck | None = None
    stop_signal: str = ""
    stop_grace_ns: Duration = Duration(10 * SECOND)
    mounts: tuple[Mount, ...] = ()
    configs: tuple[FileRef, ...] = ()
    secrets: tuple[FileRef, ...] = ()
    tty: bool = False
    stdin_open: bool = False
    read_only: bool = False
    init: bool | None = None
    groups: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    devices: tuple[Device, ...] = ()
    sysctls: Pairs = ()
    ulimits: tuple[Ulimit, ...] = ()
    shm_size_bytes: int = 0
    oom_score_adj: int = 0
    hosts: tuple[str, ...] = ()
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    runtime: str = ""
    platform: str = ""
    pull_policy: str = ""
    isolation: str = ""
    credentials: CredentialSpec | None = None
    security_options: tuple[str, ...] = ()


class Placement(Record):
    """`constraints` are texts of the form `node.labels.disk == ssd`, already checked. `spread` are the labels to spread over,
    outermost first (`node.labels.zone`). `max_per_node` 0 is unlimited."""

    constraints: tuple[str, ...] = ()
    spread: tuple[str, ...] = ()
    max_per_node: int = 0


class TaskSpec(Record):
    """Everything whose change replaces the task. `force` only counts forced updates. `executor` names the executor that has
    to run it, "" leaves it to the node; `fence` stops the task on a node cut off past its lease."""

    container: ContainerSpec
    limits: Resources = Resources()
    reservations: Resources = Resources()
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    ports: tuple[Port, ...] = ()
    force: int = 0
    networks: tuple[NetworkAttachment, ...] = ()
    log: LogDriver | None = None
    executor: str = ""
    fence: bool = False


class UpdateOrder(enum.StrEnum):
    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


class FailureAction(enum.StrEnum):
    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


class UpdateConfig(Record):
    """`parallelism` 0 means all at once; a ratio of failed to updated slots above `max_failure_ratio` triggers the action, and
    so does an update that for `progress_deadline_ns` has not finished a slot (0: it may take for ever)."""

    parallelism: int = 1
    delay_ns: Duration = Duration(0)
    failure_action: FailureAction = FailureAction.PAUSE
    monitor_ns: Duration = Duration(5 * SECOND)
    max_failure_ratio: float = 0.0
    order: UpdateOrder = UpdateOrder.STOP_FIRST
    progress_deadline_ns: Duration = Duration(10 * MINUTE)


class ServiceMode(enum.StrEnum):
    REPLICATED = "replicated"
    GLOBAL = "global"
    REPLICATED_JOB = "replicated-job"
    GLOBAL_JOB = "global-job"


class EndpointMode(enum.StrEnum):
    VIP = "vip"
    DNSRR = "dnsrr"


class DependencyCondition(enum.StrEnum):
    """Compose's words for what a service waits for."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class Dependency(Record):
    """Tasks of the service are not created before `service` (its short name) has met the condition. One that is not
    `required` and not in the stack is no obstacle."""

    service: str
    condition: DependencyCondition = DependencyCondition.STARTED
    required: bool = True


class ServiceSettings(Record):
    """The settings that change in place, without a new task. `replicas` is 0 and unused for global services and jobs; of a
    replicated job it is the number of completions. `max_concurrent` 0 runs all completions of a job at once.
    `drain_start_first` starts the replacement of a task before it is taken off a drained node."""

    mode: ServiceMode = ServiceMode.REPLICATED
    replicas: int = 1
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()
    labels: Pairs = ()
    endpoint_mode: EndpointMode = EndpointMode.VIP
    depends_on: tuple[Dependency, ...] = ()
    max_concurrent: int = 0
    drain_start_first: bool = False


class ServiceSpec(Record):
    """One service of a stack; `name` is the short name in the file (`web`), not the scoped one (`shop_web`)."""

    name: str
    task: TaskSpec
    settings: ServiceSettings = ServiceSettings()


class Pool(Record):
    """A range of addresses of a network in CIDR form; "" parts are left to the allocator."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""


class NetworkSpec(Record):
    """A network. `name` is its name in the cluster (`shop_front`, or what the file says)."""

    name: str
    driver: str = "overlay"
    driver_options: Pairs = ()
    internal: bool = False
    attachable: bool = False
    ipv6: bool = False
    ipam_driver: str = ""
    pools: tuple[Pool, ...] = ()
    labels: Pairs = ()


class ExternalKind(enum.StrEnum):
    NETWORK = "network"
    CONFIG = "config"
    SECRET = "secret"


class External(Record):
    """An object that services use and that has to be in the cluster already; `name` is its name there."""

    kind: ExternalKind
    name: str


class ConfigSpec(Record):
    """A config of the stack with its content; `name` is its name in the cluster, `digest` the sha256 that references carry."""

    name: str
    digest: BlobDigest
    data: bytes
    labels: Pairs = ()
    template: str = ""


class SecretSpec(Record):
    """A secret of the stack, in the clear only between loader and admission. Its repr never shows the content. One with a
    `driver` has no data: the driver's plugin is asked for it."""

    name: str
    data: bytes
    labels: Pairs = ()
    template: str = ""
    driver: str = ""
    driver_options: Pairs = ()

    def __repr__(self) -> str:
        return f"SecretSpec(name={self.name!r}, data=<{len(self.data)} bytes>)"


class StackSpec(Record):
    """A whole stack, resolved: names are checked, side files are read, services are sorted by name."""

    name: str
    services: tuple[ServiceSpec, ...] = ()
    configs: tuple[ConfigSpec, ...] = ()
    secrets: tuple[SecretSpec, ...] = ()
    networks: tuple[NetworkSpec, ...] = ()
    externals: tuple[External, ...] = ()
