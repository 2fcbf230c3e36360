"""The system's clock, the only one in the program."""

from __future__ import annotations

import time
from pathlib import Path

from stackd.base.time import Duration, Instant

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """Implements `base.time.SteadyClock`."""

    def __init__(self) -> None:
        self.boot = _boot_id()

    def now(self) -> Instant:
        return Instant(time.time_ns())

    def elapsed(self) -> Duration:
        return Duration(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def _boot_id() -> str:
    """What the kernel calls this boot; "" where there is no /proc."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
