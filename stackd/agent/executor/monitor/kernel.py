"""The system calls that Python 3.11's os module lacks, through libc. Each raises OSError with the path or call it failed on."""

from __future__ import annotations

import ctypes
import os

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

DEFAULT_CAPABILITIES = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31))
"""What root keeps inside a task: Docker's default set (CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP
NET_BIND_SERVICE NET_RAW SYS_CHROOT AUDIT_WRITE SETFCAP) without MKNOD, because no device cgroup stands behind it here."""

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
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


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


def bound_capabilities(kept: int) -> None:
    """Remove every capability that is not in the bit set `kept` from the bounding set."""
    with open("/proc/sys/kernel/cap_last_cap") as last:
        count = int(last.read()) + 1
    for number in range(count):
        if not kept >> number & 1:
            _prctl(_PR_CAPBSET_DROP, number)


def set_capabilities(kept: int) -> None:
    """Make the bit set `kept` permitted and effective, nothing inheritable."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    _call("capset", header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0))


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
