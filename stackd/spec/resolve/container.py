"""What runs: a service's own keys as the container spec of its tasks, in one spelling.

Values that could not be understood were reported where they were read; here they mean nothing. Lists without an order of
their own are sorted, so that two spellings of one meaning have one digest.
"""

from __future__ import annotations

from collections.abc import Iterable

from stackd.base.records import pairs
from stackd.base.time import Duration
from stackd.spec import shorthand
from stackd.spec.document import HealthcheckDocument, ServiceDocument, UlimitDocument
from stackd.spec.shorthand import understood
from stackd.spec.stack import ContainerSpec, Device, FileRef, Healthcheck, LogDriver, Mount, MountType, Ulimit

_DEFAULT = ContainerSpec(image="")


def container_of(
    service: ServiceDocument, mounts: Iterable[Mount], configs: tuple[FileRef, ...], secrets: tuple[FileRef, ...]
) -> ContainerSpec:
    """The container spec without credentials, which name a config."""
    cap_add, cap_drop = effective_capabilities(service.cap_add, service.cap_drop)
    grace = service.stop_grace_period
    return ContainerSpec(
        image=service.image,
        entrypoint=service.entrypoint or None,
        command=service.command or None,
        env=environment_of(service),
        working_dir=service.working_dir,
        user=service.user,
        hostname=service.hostname,
        labels=pairs(service.labels),
        healthcheck=_healthcheck(service.healthcheck),
        stop_signal=service.stop_signal,
        stop_grace_ns=_DEFAULT.stop_grace_ns if grace is None else grace,
        mounts=tuple(sorted((*mounts, *_tmpfs(service)), key=lambda mount: mount.target)),
        configs=configs,
        secrets=secrets,
        tty=bool(service.tty),
        stdin_open=bool(service.stdin_open),
        read_only=bool(service.read_only),
        init=service.init,
        groups=tuple(sorted(set(service.group_add))),
        cap_add=cap_add,
        cap_drop=cap_drop,
        privileged=bool(service.privileged),
        devices=_devices(service.devices),
        sysctls=pairs(service.sysctls),
        ulimits=tuple(_ulimit(name, limit) for name, limit in sorted(service.ulimits.items())),
        shm_size_bytes=understood(shorthand.byte_size, service.shm_size, 0),
        oom_score_adj=service.oom_score_adj,
        hosts=hosts_of(service.extra_hosts),
        dns_servers=service.dns,
        dns_search=service.dns_search,
        dns_options=service.dns_opt,
        runtime=service.runtime,
        platform=service.platform,
        pull_policy="missing" if service.pull_policy == "if_not_present" else service.pull_policy,
        isolation=service.isolation,
        security_options=tuple(sorted(set(service.security_opt))),
    )


def environment_of(service: ServiceDocument) -> tuple[str, ...]:
    """Sorted, as the official client sends it."""
    items = service.environment.items()
    return tuple(sorted(name if value is None else f"{name}={value}" for name, value in items))


def _healthcheck(said: HealthcheckDocument | None) -> Healthcheck | None:
    if said is None:
        return None
    if said.disable:
        return Healthcheck(test=("NONE",))
    return Healthcheck(
        test=said.test,
        interval_ns=said.interval or Duration(0),
        timeout_ns=said.timeout or Duration(0),
        start_period_ns=said.start_period or Duration(0),
        retries=said.retries or 0,
        start_interval_ns=said.start_interval or Duration(0),
    )


def _tmpfs(service: ServiceDocument) -> Iterable[Mount]:
    """The short key for folders in memory."""
    for text in service.tmpfs:
        folder = understood(shorthand.tmpfs, text, None)
        if folder is not None:
            yield Mount(type=MountType.TMPFS, target=folder.path, size_bytes=folder.size_bytes, tmpfs_mode=folder.mode)


def effective_capabilities(add: tuple[str, ...], drop: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is added and what is dropped, in one spelling. ALL stands for all others, and adding wins over dropping."""
    added = {shorthand.capability_name(text) for text in add}
    dropped = {shorthand.capability_name(text) for text in drop}
    added = {"ALL"} if "ALL" in added else added
    dropped = {"ALL"} if "ALL" in dropped else dropped
    return tuple(sorted(added)), tuple(sorted(dropped - added))


def _devices(texts: tuple[str, ...]) -> tuple[Device, ...]:
    devices = {device for text in texts if (device := understood(shorthand.device, text, None))}
    return tuple(sorted(devices, key=lambda device: (device.target, device.source, device.permissions)))


def _ulimit(name: str, said: UlimitDocument) -> Ulimit:
    return Ulimit(name=name, soft=said.single or said.soft, hard=said.single or said.hard)


def hosts_of(extra_hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Lines of the hosts file from "NAME:ADDRESS"; their order is that of the file, where the first one counts."""
    split = (host.partition(":") for host in extra_hosts)
    return tuple(f"{address} {name}" for name, colon, address in split if colon)


def log_driver_of(service: ServiceDocument) -> LogDriver | None:
    if service.logging is None:
        return None
    return LogDriver(name=service.logging.driver, options=pairs(service.logging.options))
