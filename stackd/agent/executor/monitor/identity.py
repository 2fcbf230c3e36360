"""Naming a process so that no other one ever has the same name, not even after a reboot."""

from __future__ import annotations


def identity(pid: int) -> str:
    """`PID STARTTIME BOOT` of a process of this host (proc(5), field 22); OSError if there is none, or only its shell."""
    with open(f"/proc/{pid}/stat") as stat, open("/proc/sys/kernel/random/boot_id") as boot:
        fields = stat.read().rpartition(")")[2].split()
        if fields[0] in "ZX":
            raise ProcessLookupError(f"process {pid} has ended")
        return f"{pid} {fields[19]} {boot.read().strip()}"
