"""The system's clock, the only one in the program."""

from __future__ import annotations

import time

from stackd.base.time import Instant


class SystemClock:
    """Implements `base.time.Clock`."""

    def now(self) -> Instant:
        return Instant(time.time_ns())
