"""What a stack file means: the typed result of loading it, and the part of it that every later layer carries along.

A `TaskSpec` holds exactly the settings whose change replaces tasks; `ServiceSpec` adds those that change in place
(replicas, update settings, service labels). SwarmKit draws the same line (semantics 8.2). Specs are compared by
digest (`spec/digest.py`), never field by field.
"""

from __future__ import annotations

import enum

from stackd.base.ids import BlobDigest
from stackd.base.records import Pairs, Record
from stackd.base.time import SECOND, Duration

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


class Mount(Record):
    """A mount of a task. `source` is a host path (bind), a volume name (volume; "" is anonymous) or "" (tmpfs)."""

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    no_copy: bool = False
    size_bytes: int = 0
    driver: str = ""
    driver_options: Pairs = ()
    labels: Pairs = ()


class FileRef(Record):
    """A config or secret as a file inside the task. `digest` names the content: sha256 for configs, for secrets an HMAC
    under the cluster's key, filled in when the stack is admitted ("" before that)."""

    source: str
    target: str
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444
    digest: BlobDigest = BlobDigest("")


class Healthcheck(Record):
    """`test` is Docker's form: ("CMD", ...), ("CMD-SHELL", line) or ("NONE",). Durations of 0 mean the engine's default."""

    test: tuple[str, ...]
    interval_ns: Duration = Duration(0)
    timeout_ns: Duration = Duration(0)
    start_period_ns: Duration = Duration(0)
    retries: int = 0


class Resources(Record):
    """CPU in billionths of a core, memory in bytes; 0 means none asked for."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    pids: int = 0


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


class ContainerSpec(Record):
    """What runs. `entrypoint` and `command` are None where the image's own are meant."""

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


class Placement(Record):
    """`constraints` are texts of the form `node.labels.disk == ssd`, already checked."""

    constraints: tuple[str, ...] = ()


class TaskSpec(Record):
    """Everything whose change replaces the task. `force` only counts forced updates."""

    container: ContainerSpec
    limits: Resources = Resources()
    reservations: Resources = Resources()
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    ports: tuple[Port, ...] = ()
    force: int = 0


class UpdateOrder(enum.StrEnum):
    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


class FailureAction(enum.StrEnum):
    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


class UpdateConfig(Record):
    """`parallelism` 0 means all at once; a ratio of failed to updated slots above `max_failure_ratio` triggers the action."""

    parallelism: int = 1
    delay_ns: Duration = Duration(0)
    failure_action: FailureAction = FailureAction.PAUSE
    monitor_ns: Duration = Duration(5 * SECOND)
    max_failure_ratio: float = 0.0
    order: UpdateOrder = UpdateOrder.STOP_FIRST


class ServiceMode(enum.StrEnum):
    REPLICATED = "replicated"
    GLOBAL = "global"


class ServiceSettings(Record):
    """The settings that change in place, without a new task. `replicas` is 0 and unused for global services."""

    mode: ServiceMode = ServiceMode.REPLICATED
    replicas: int = 1
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()
    labels: Pairs = ()


class ServiceSpec(Record):
    """One service of a stack; `name` is the short name in the file (`web`), not the scoped one (`shop_web`)."""

    name: str
    task: TaskSpec
    settings: ServiceSettings = ServiceSettings()


class ConfigSpec(Record):
    """A config of the stack with its content; `digest` is the sha256 that references carry."""

    name: str
    digest: BlobDigest
    data: bytes


class SecretSpec(Record):
    """A secret of the stack, in the clear only between loader and admission. Its repr never shows the content."""

    name: str
    data: bytes

    def __repr__(self) -> str:
        return f"SecretSpec(name={self.name!r}, data=<{len(self.data)} bytes>)"


class StackSpec(Record):
    """A whole stack, resolved: names are checked, side files are read, services are sorted by name."""

    name: str
    services: tuple[ServiceSpec, ...] = ()
    configs: tuple[ConfigSpec, ...] = ()
    secrets: tuple[SecretSpec, ...] = ()
