"""The system calls that Python 3.11's os module lacks, through libc. Each raises OSError with the path or call it failed on."""

from __future__ import annotations

import ctypes
import os

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
MS_SLAVE, MS_SHARED = 0x80000, 0x100000
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000

PROPAGATION = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
}
"""How mounts made later below a bind mount are passed on between host and task, in Docker's words."""

_OPEN_TREE, _MOVE_MOUNT = 428, 429
"""System calls that libc may not know yet; their numbers are the same on every architecture."""
_AT_FDCWD, _AT_RECURSIVE, _OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = -100, 0x8000, 1, 4

_TIOCSCTTY = 0x540E

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object, about: str = "") -> None:
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), about or name)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    _call(
        "mount",
        source.encode() if source is not None else None,
        target.encode(),
        kind.encode() if kind is not None else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
        about=f"mount {target}",
    )


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Show `source` with all that is mounted below it also at `target`. Only the top mount becomes read-only; the other
    restrictions it has (statvfs reports them by the same bits) stay."""
    mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        make_read_only(target)


def make_read_only(target: str) -> None:
    """Let nobody write through the mount at `target`."""
    kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def open_tree(path: str) -> int:
    """A copy of the mount at `path`, with all below, that isn't mounted anywhere yet. It stays what the mount is to its
    peers (shared, slave), which a bind out of a private namespace would not (open_tree(2), Linux 5.2)."""
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC)
    return _syscall(_OPEN_TREE, ctypes.c_int(_AT_FDCWD), path.encode(), flags, about=path)


def move_mount(tree: int, target: str) -> None:
    """Mount what `open_tree` gave (move_mount(2))."""
    at = ctypes.c_int(_AT_FDCWD)
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    _syscall(_MOVE_MOUNT, ctypes.c_int(tree), b"", at, target.encode(), flags, about=f"mount {target}")


def _syscall(number: int, *arguments: object, about: str) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), about)
    return result


def unmount(target: str) -> None:
    """Detach at once; what is still in use lives on until it is closed."""
    _call("umount2", target.encode(), MNT_DETACH, about=f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _call("pivot_root", new.encode(), old.encode())


def unshare(flags: int) -> None:
    """unshare(2)."""
    _call("unshare", flags)


def set_hostname(name: str) -> None:
    """sethostname(2), in the caller's own UTS namespace."""
    data = name.encode()
    _call("sethostname", data, ctypes.c_size_t(len(data)))


def die_with_parent(number: int) -> None:
    """Get signal `number` when the parent ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of all descendants that lose theirs."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """From now on no program started gains rights by its set-uid bit or file capabilities."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def take_terminal(descriptor: int) -> None:
    """Make a terminal that of the caller's session, which it leads."""
    _call("ioctl", ctypes.c_int(descriptor), ctypes.c_ulong(_TIOCSCTTY), ctypes.c_int(0), about="terminal")


def set_limit(number: int, soft: int, hard: int) -> None:
    """setrlimit(2); -1 is unlimited."""
    _call("setrlimit", ctypes.c_int(number), (ctypes.c_ulong * 2)(soft, hard), about="ulimit")


def bound_capabilities(kept: int) -> None:
    """Remove every capability that is not in the bit set `kept` from the bounding set."""
    for number in range(_last_capability() + 1):
        if not kept >> number & 1:
            _prctl(_PR_CAPBSET_DROP, number)


def set_capabilities(kept: int) -> None:
    """Make the bit set `kept`, as far as the kernel knows and the caller has it, permitted and effective, nothing
    inheritable."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    kept &= _permitted_capabilities()
    low, high = kept & 0xFFFFFFFF, kept >> 32
    _call("capset", header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0))


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as last:
        return int(last.read())


def _permitted_capabilities() -> int:
    """What the caller may have: a daemon in a container doesn't have all there is."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    _call("capget", header, sets)
    return sets[1] | sets[4] << 32


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
