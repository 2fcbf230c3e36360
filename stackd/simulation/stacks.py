"""Stacks for simulated clusters, in few words: the images' names say what happens (see `host.py`)."""

from __future__ import annotations

from stackd.base.time import seconds
from stackd.spec.digest import blob_digest
from stackd.spec.stack import (
    ConfigSpec,
    ContainerSpec,
    FailureAction,
    FileRef,
    Port,
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


def a_service(
    name: str = "web",
    image: str = "img:v1",
    *,
    replicas: int = 1,
    everywhere: bool = False,
    parallelism: int = 1,
    order: UpdateOrder = UpdateOrder.STOP_FIRST,
    failure_action: FailureAction = FailureAction.PAUSE,
    monitor_seconds: float = 5.0,
    restart: RestartCondition = RestartCondition.ANY,
    restart_seconds: float = 1.0,
    port: int = 0,
    config: bytes = b"",
    secret: str = "",
) -> ServiceSpec:
    """One service. `config` is the content of a config it mounts, `secret` the name of a secret of its stack."""
    configs = (FileRef(source="conf", target="/conf", digest=blob_digest(config)),) if config else ()
    secrets = (FileRef(source=secret, target="/run/secrets/s"),) if secret else ()
    task = TaskSpec(
        container=ContainerSpec(image=image, configs=configs, secrets=secrets),
        restart=RestartPolicy(condition=restart, delay_ns=seconds(restart_seconds)),
        ports=(Port(target=80, published=port),) if port else (),
    )
    update = UpdateConfig(
        parallelism=parallelism, order=order, failure_action=failure_action, monitor_ns=seconds(monitor_seconds)
    )
    settings = ServiceSettings(
        mode=ServiceMode.GLOBAL if everywhere else ServiceMode.REPLICATED,
        replicas=0 if everywhere else replicas,
        update=update,
        rollback=UpdateConfig(parallelism=parallelism, order=order, monitor_ns=seconds(1)),
    )
    return ServiceSpec(name=name, task=task, settings=settings)


def a_stack(name: str, *services: ServiceSpec, config: bytes = b"", secrets: dict[str, bytes] | None = None) -> StackSpec:
    """A stack of these services."""
    configs = (ConfigSpec(name="conf", digest=blob_digest(config), data=config),) if config else ()
    return StackSpec(
        name=name,
        services=tuple(sorted(services, key=lambda service: service.name)),
        configs=configs,
        secrets=tuple(SecretSpec(name=key, data=data) for key, data in sorted((secrets or {}).items())),
    )
