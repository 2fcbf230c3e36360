"""What a process task may do, from the words of a stack file to the kernel's numbers. Pure.

Raises TaskFault for a word that the kernel doesn't know, and for what can't be kept apart from the host.
"""

from __future__ import annotations

import resource
from collections.abc import Set as AbstractSet

from stackd.agent.executor.process.plan import RightsPlan
from stackd.base.errors import TaskFault
from stackd.base.records import Pairs
from stackd.spec.stack import ContainerSpec, Ulimit

_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST
NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = tuple(_NAMES.split())
"""In the order of their numbers (capabilities(7))."""

_KEPT = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT AUDIT_WRITE SETFCAP"
DEFAULT_CAPABILITIES = frozenset(_KEPT.split())
"""What root keeps inside a task: Docker's default set without MKNOD, because no device cgroup stands behind it here."""

_LIMITS = {
    name.removeprefix("RLIMIT_").lower(): int(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
}
_LIMITS |= {"locks": 10}
"""Resource limits by Docker's names (setrlimit(2)); Python doesn't know `locks`."""

_OWN_SYSCTLS = frozenset(
    {
        *(f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")),
        "kernel.domainname",
    }
)
_OWN_SYSCTL_TREES = ("fs.mqueue.", "net.")
"""Settings of the kernel that each namespace has for itself; Docker allows the same."""

_TRUE_ALREADY = ("seccomp=unconfined", "apparmor=unconfined", "label=disable", "label:disable", "systempaths=confined")
"""Security options that ask for what every process task is."""


def rights_of(container: ContainerSpec) -> RightsPlan:
    """The rights of a task."""
    return RightsPlan(
        capabilities=_capabilities(container),
        no_new_privileges=_no_new_privileges(container),
        privileged=container.privileged,
        groups=container.groups,
        limits=tuple(_limit(limit) for limit in container.ulimits),
        oom_score_adj=container.oom_score_adj,
    )


def _capabilities(container: ContainerSpec) -> int:
    """Docker's rule: of all that is added what is dropped is left out, of all that is dropped what is added is kept."""
    if container.privileged:
        return _bits(set(CAPABILITIES))
    added, dropped = _named(container.cap_add), _named(container.cap_drop)
    if "ALL" in added:
        return _bits(set(CAPABILITIES) - dropped)
    if "ALL" in dropped:
        return _bits(added)
    return _bits(DEFAULT_CAPABILITIES - dropped | added)


def _named(words: tuple[str, ...]) -> set[str]:
    names = {word.upper().removeprefix("CAP_") for word in words}
    unknown = sorted(names - {"ALL", *CAPABILITIES})
    if unknown:
        raise TaskFault("agent.process.capability", f"unknown capability: {unknown[0]}")
    return names


def _bits(names: AbstractSet[str]) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in names)


def _no_new_privileges(container: ContainerSpec) -> bool:
    """On unless the task is privileged or says otherwise. Raises TaskFault for an option that isn't known here."""
    wanted = not container.privileged
    for option in container.security_options:
        name, _, value = option.replace(":", "=", 1).partition("=")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            wanted = value != "false"
        elif option not in _TRUE_ALREADY:
            text = f"the process executor doesn't know the security option {option}"
            raise TaskFault("agent.process.unsupported", text)
    return wanted


def _limit(limit: Ulimit) -> tuple[int, int, int]:
    if limit.name not in _LIMITS:
        raise TaskFault("agent.process.ulimit", f"unknown ulimit: {limit.name}")
    return _LIMITS[limit.name], limit.soft, limit.hard


def sysctls_of(settings: Pairs, *, host_network: bool) -> Pairs:
    """The files behind settings of the kernel, with what is to be written. Raises TaskFault for one that would change the
    host."""
    return tuple((_sysctl_file(name, host_network=host_network), value) for name, value in settings)


def _sysctl_file(name: str, *, host_network: bool) -> str:
    trees = ("fs.mqueue.",) if host_network else _OWN_SYSCTL_TREES
    if (name not in _OWN_SYSCTLS and not name.startswith(trees)) or "/" in name or ".." in name:
        raise TaskFault("agent.process.sysctl", f"the setting {name} is the host's, not a task's own")
    return "/proc/sys/" + name.replace(".", "/")
