"""Stacks for simulated clusters, in few words: the images' names say what happens (see `host.py`)."""

from __future__ import annotations

from stackd.base.time import seconds
from stackd.spec.digest import blob_digest
from stackd.spec.stack import (
    ConfigSpec,
    ContainerSpec,
    FailureAction,
    FileRef,
    Placement,
    Port,
    Resources,
    RestartCondition,
    RestartPolicy,
    SecretSpec,
    ServiceMode,
    ServiceSettings,
    ServiceSpec,
    StackSpec,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)

NOWHERE_SPECIAL = Placement()
NOTHING = Resources()


def a_service(
    name: str = "web",
    image: str = "img:v1",
    *,
    replicas: int = 1,
    everywhere: bool = False,
    mode: ServiceMode = ServiceMode.REPLICATED,
    parallelism: int = 1,
    delay_seconds: float = 0.0,
    order: UpdateOrder = UpdateOrder.STOP_FIRST,
    failure_action: FailureAction = FailureAction.PAUSE,
    max_failure_ratio: float = 0.0,
    monitor_seconds: float = 5.0,
    restart: RestartCondition = RestartCondition.ANY,
    restart_seconds: float = 1.0,
    max_attempts: int = 0,
    port: int = 0,
    config: bytes = b"",
    config_name: str = "conf",
    secret: str = "",
    placement: Placement = NOWHERE_SPECIAL,
    reservations: Resources = NOTHING,
) -> ServiceSpec:
    """One service. `config` is the content of a config it mounts, under its `config_name` in the cluster, `secret` the name
    of a secret of its stack. `everywhere` is short for the global mode."""
    mode = ServiceMode.GLOBAL if everywhere else mode
    configs = (FileRef(source=config_name, target="/conf", digest=blob_digest(config)),) if config else ()
    secrets = (FileRef(source=secret, target="/run/secrets/s"),) if secret else ()
    task = TaskSpec(
        container=ContainerSpec(image=image, configs=configs, secrets=secrets),
        restart=RestartPolicy(condition=restart, delay_ns=seconds(restart_seconds), max_attempts=max_attempts),
        ports=(Port(target=80, published=port),) if port else (),
        placement=placement,
        reservations=reservations,
    )
    update = UpdateConfig(
        parallelism=parallelism,
        delay_ns=seconds(delay_seconds),
        order=order,
        failure_action=failure_action,
        max_failure_ratio=max_failure_ratio,
        monitor_ns=seconds(monitor_seconds),
    )
    settings = ServiceSettings(
        mode=mode,
        replicas=0 if mode is ServiceMode.GLOBAL else replicas,
        update=update,
        rollback=UpdateConfig(parallelism=parallelism, order=order, monitor_ns=seconds(1)),
    )
    return ServiceSpec(name=name, task=task, settings=settings)


def a_stack(
    name: str,
    *services: ServiceSpec,
    config: bytes = b"",
    config_name: str = "conf",
    secrets: dict[str, bytes] | None = None,
) -> StackSpec:
    """A stack of these services."""
    configs = (ConfigSpec(name=config_name, digest=blob_digest(config), data=config),) if config else ()
    return StackSpec(
        name=name,
        services=tuple(sorted(services, key=lambda service: service.name)),
        configs=configs,
        secrets=tuple(SecretSpec(name=key, data=data) for key, data in sorted((secrets or {}).items())),
    )
