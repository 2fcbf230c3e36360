"""Device files of a task: the harmless ones that every task has, those its spec names, for a privileged one all of the host's.

They are made anew in the task's own /dev, so nothing of the host's is shared but the device. Found before the task's root is
entered, made inside it.
"""

from __future__ import annotations

import os
import stat

from stackd.agent.executor.monitor import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stackd.agent.executor.process.plan import Plan

    Node = tuple[str, os.stat_result]

_EVERYBODYS = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_OWN = ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/ptmx", "/dev/console")
"""What a task has of its own."""


def make_everybodys() -> None:
    """The devices of every task, in its new /dev."""
    for name, (major, minor) in _EVERYBODYS.items():
        os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        os.chmod(f"/dev/{name}", 0o666)  # noqa: S103 - as on every host


def find(plan: Plan) -> list[Node]:
    """The further devices of a task: where they shall be, and what they are on the host. A directory means all in it."""
    wanted = [(device.source, device.target) for device in plan.devices]
    if plan.rights.privileged:
        wanted.append(("/dev", "/dev"))
    return [node for source, target in wanted for node in _below(source, target)]


def _below(source: str, target: str) -> list[Node]:
    known = os.stat(source)
    if _is_device(known):
        return [(target, known)]
    if not stat.S_ISDIR(known.st_mode):
        raise ValueError(f"{source} is no device")
    found: list[Node] = []
    for entry in os.scandir(source):
        if entry.path in _OWN or entry.is_symlink():
            continue
        if entry.is_dir():
            found += _below(entry.path, f"{target}/{entry.name}")
        elif _is_device(status := entry.stat()):
            found.append((f"{target}/{entry.name}", status))
    return found


def _is_device(known: os.stat_result) -> bool:
    return stat.S_ISCHR(known.st_mode) or stat.S_ISBLK(known.st_mode)


def make(nodes: list[Node]) -> None:
    """Make what `find` has found. Only below /dev do device files work; elsewhere one of those is bound."""
    for number, (target, known) in enumerate(nodes):
        if os.path.exists(target):
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        inside = target.startswith("/dev/")
        path = target if inside else f"/dev/.{number}"
        os.mknod(path, known.st_mode, known.st_rdev)
        os.chown(path, known.st_uid, known.st_gid)
        os.chmod(path, stat.S_IMODE(known.st_mode))
        if not inside:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600))
            kernel.bind(path, target)
            os.unlink(path)
