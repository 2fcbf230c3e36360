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
    """A mount of the task: of `source` on the host, or ("" as source) a tmpfs of `size_bytes` (0: the kernel's default) and
    `tmpfs_mode` (0: as /tmp). `fill`: an empty source first gets what the root holds at the target, as Docker does with new
    volumes. `subpath` is a folder of the source that is mounted instead of it; `propagation` "" is rprivate."""

    target: str
    source: str = ""
    read_only: bool = False
    fill: bool = False
    size_bytes: int = 0
    tmpfs_mode: int = 0
    subpath: str = ""
    propagation: str = ""


@dataclass(frozen=True, slots=True)
class PortPlan:
    """A port of the host that the monitor holds for its task."""

    number: int
    protocol: str
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """A device of the host, or all in a directory of it, and where the task has it."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class RightsPlan:
    """What the task's processes may do. `capabilities` is a bit set of what root keeps; `privileged`: the kernel's own files
    and the host's devices too. `groups` are names or numbers of further groups, `limits` resource limits as (number, soft,
    hard), -1 for none."""

    capabilities: int = 0
    no_new_privileges: bool = True
    privileged: bool = False
    groups: tuple[str, ...] = ()
    limits: tuple[tuple[int, int, int], ...] = ()
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """One task. `isolated`: in namespaces and on a root of its own, which needs root; else a plain child process.

    `lower` is the directory under the task's root ("/": the host's own), `hidden` a directory of the host the task must
    not see. `limit_groups` are `cgroup.procs` files to join, `oom_counter` is a file with a line `oom_kill N`.
    `host_network`: the task stays in the host's network namespace. `terminal`: its input and output are a terminal of its
    own; `stdin_open`: else its input never ends, instead of being empty. `sysctls` are files with what is written to them,
    `log_files` 0 keeps no log."""

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
    rights: RightsPlan = RightsPlan()
    devices: tuple[DevicePlan, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    shm_bytes: int = 0
    read_only: bool = False
    host_network: bool = False
    terminal: bool = False
    stdin_open: bool = False


def encode_plan(plan: Plan) -> bytes:
    """The plan as it travels: its length in decimal, a newline, its fields."""
    body = marshal.dumps(asdict(plan))
    return b"%d\n%s" % (len(body), body)
