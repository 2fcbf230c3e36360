"""Times, sizes and states in the words people know from Docker. Pure: the present is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from stackd.api.views import PortView, ServiceView
from stackd.base.time import SECOND, Instant

SHORT_ID = 12
_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


def instant(text: str | None) -> Instant:
    """The instant of an RFC 3339 time; 0 for None."""
    return Instant(round(datetime.fromisoformat(text).timestamp() * SECOND)) if text else Instant(0)


def about(seconds: float) -> str:
    """A duration as Docker says it (`units.HumanDuration` of docker/go-units): "About a minute", "5 minutes"."""
    whole = int(seconds)
    hours = int(seconds / _HOUR + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < _MINUTE:
        return f"{whole} seconds"
    if whole < 2 * _MINUTE:
        return "About a minute"
    if whole < _HOUR:
        return f"{whole // _MINUTE} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / _DAY) // 365} years"


def ago(at: str | None, now: Instant) -> str:
    """How long ago `at` was: "5 minutes ago"; "" for never. A time ahead of our clock counts as now."""
    if at is None:
        return ""
    text = about(max(0, now - instant(at)) / SECOND)
    return f"{text[0].lower()}{text[1:]} ago"


def until(at: str | None, now: Instant) -> str:
    """How long something is good that ends at `at`: "good for 3 months", "expired"; "" if it never ends or isn't there."""
    if at is None:
        return ""
    left = (instant(at) - now) / SECOND
    return f"good for {about(left).lower()}" if left > 0 else f"expired {ago(at, now)}"


def clock_time(seconds: float) -> str:
    """A forecast or measured duration, short: "0.4s", "12s", "1m40s", "2h5m"."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE}s"
    return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE}m"


def binary_size(size: int) -> str:
    """Bytes as people read them: "7.8GiB"; "" for 0, which is unknown."""
    if not size:
        return ""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g}{unit}"
        value /= 1024
    return f"{value:.4g}TiB"


def count(number: int, noun: str) -> str:
    """ "1 error", "2 errors", "no errors"."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def replicas(service: ServiceView) -> str:
    """Running and wanted tasks: "3/3"; of a job the runs that have completed, of those that have to."""
    if service.iteration:
        return f"{service.completed}/{service.replicas} completed"
    return f"{service.running}/{service.replicas}"


def ports(published: Iterable[PortView]) -> str:
    """Published ports in Docker's form: "*:8080->80/tcp"."""
    return ", ".join(f"*:{port.published}->{port.target}/{port.protocol}" for port in published)


def yes_no(value: bool) -> str:
    return "yes" if value else "no"
