"""What a monitor is told: everything about one task, resolved by the daemon, as plain values.

A plan travels once, over the monitor's standard input, and lives in memory only (it holds the contents of secrets). The
form is `marshal`: both ends are the same interpreter, and unlike json it costs the monitor no import.
"""

from __future__ import annotations

import marshal
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A file of the task. `uid` and `gid` are numbers or names of the task's own passwd and group files."""

    target: str
    data: bytes = field(repr=False)
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444


@dataclass(frozen=True, slots=True)
class MountPlan:
    """A mount of the task: of `source` on the host, or ("" as source) a tmpfs of `size_bytes` (0: the kernel's default).
    `fill`: an empty source first gets what the root holds at the target, as Docker does with new volumes."""

    target: str
    source: str = ""
    read_only: bool = False
    fill: bool = False
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PortPlan:
    """A port of the host that the monitor holds for its task."""

    number: int
    protocol: str
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One task. `isolated`: in namespaces and on a root of its own, which needs root; else a plain child process.

    `lower` is the directory under the task's root ("/": the host's own), `hidden` a directory of the host the task must
    not see. `limit_groups` are `cgroup.procs` files to join, `oom_counter` is a file with a line `oom_kill N`."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    isolated: bool
    user: str = ""
    hostname: str = ""
    lower: str = "/"
    hidden: str = ""
    etc: tuple[FilePlan, ...] = ()
    files: tuple[FilePlan, ...] = ()
    mounts: tuple[MountPlan, ...] = ()
    ports: tuple[PortPlan, ...] = ()
    probe: tuple[str, ...] = ()
    limit_groups: tuple[str, ...] = ()
    oom_counter: str = ""
    stop_signal: int = 15
    stop_grace_seconds: float = 10.0
    log_bytes: int = 10_000_000
    log_files: int = 3


def encode_plan(plan: Plan) -> bytes:
    """The plan as it travels: its length in decimal, a newline, its fields."""
    body = marshal.dumps(asdict(plan))
    return b"%d\n%s" % (len(body), body)
