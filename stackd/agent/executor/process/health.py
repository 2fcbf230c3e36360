"""What counts as healthy. Pure: times are arguments, in seconds.

Docker's rules (interval 30 s, timeout 30 s, 3 retries, no start period, failures within the start period don't count),
with one difference: until the first success checks follow one another quickly, so that a task which is up after two
seconds isn't waited for until the first interval is over. Failures still count at the pace of the interval.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from stackd.base.time import SECOND
from stackd.spec.stack import Healthcheck

EAGER_SECONDS = 1.0
"""The pause between checks until the first success, unless the interval is shorter or `start_interval` is given."""


@dataclass(frozen=True, slots=True)
class Check:
    """A health check with Docker's defaults filled in; `start_interval` 0 is ours."""

    argv: tuple[str, ...]
    interval: float
    timeout: float
    retries: int
    start_period: float
    start_interval: float = 0.0


class Health(enum.Enum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


def check_of(spec: Healthcheck | None) -> Check | None:
    """The check a spec asks for; None if none or ("NONE",)."""
    if spec is None or not spec.test or spec.test[0] == "NONE":
        return None
    kind, *words = spec.test
    return Check(
        argv=("/bin/sh", "-c", *words) if kind == "CMD-SHELL" else tuple(words),
        interval=(spec.interval_ns or 30 * SECOND) / SECOND,
        timeout=(spec.timeout_ns or 30 * SECOND) / SECOND,
        retries=spec.retries or 3,
        start_period=spec.start_period_ns / SECOND,
        start_interval=spec.start_interval_ns / SECOND,
    )


class Tally:
    """Turns results of checks into a state of health."""

    def __init__(self, check: Check, started: float, *, healthy: bool = False) -> None:
        """`healthy` for a task that was healthy before this daemon came."""
        self._check = check
        self._counted_at = started
        self._forgiven_until = started + check.start_period
        self._failures = 0
        self.state = Health.HEALTHY if healthy else Health.STARTING

    @property
    def pause(self) -> float:
        """Seconds until the next check."""
        if self.state is not Health.STARTING:
            return self._check.interval
        return self._check.start_interval or min(EAGER_SECONDS, self._check.interval)

    def add(self, succeeded: bool, now: float) -> Health:
        """One more result; returns the new state."""
        if succeeded:
            self._failures = 0
            self.state = Health.HEALTHY
        elif self.state is Health.HEALTHY or self._counts(now):
            self._failures += 1
            self._counted_at = now
            if self._failures >= self._check.retries:
                self.state = Health.UNHEALTHY
        return self.state

    def _counts(self, now: float) -> bool:
        """Whether a failure before the first success counts: after the start period, and one per interval."""
        return now >= self._forgiven_until and now - self._counted_at >= self._check.interval
