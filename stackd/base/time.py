"""Time as a value. Instants and durations are integers of nanoseconds, as in the Docker API: exact and comparable."""

from __future__ import annotations

from typing import NewType, Protocol

Instant = NewType("Instant", int)
"""Nanoseconds since the Unix epoch, in cluster time."""

Duration = NewType("Duration", int)
"""Nanoseconds."""

NANOSECOND = Duration(1)
MILLISECOND = Duration(1_000_000)
SECOND = Duration(1_000_000_000)
MINUTE = Duration(60 * SECOND)
HOUR = Duration(60 * MINUTE)
DAY = Duration(24 * HOUR)


class Clock(Protocol):
    """Where a shell gets the time; decisions get an Instant as an argument."""

    def now(self) -> Instant: ...


class SteadyClock(Clock, Protocol):
    """A clock that also counts, evenly, whatever anybody sets: with this, spans are measured."""

    @property
    def boot(self) -> str:
        """Names the machine's present run, from its start to its end; `elapsed` begins anew with each. "" if unknown."""
        ...

    def elapsed(self) -> Duration:
        """Since some moment of the machine's present run. Goes on while the machine sleeps, and through a program's end."""
        ...


def after(instant: Instant, duration: int) -> Instant:
    """The instant `duration` nanoseconds later."""
    return Instant(instant + duration)


def seconds(value: float) -> Duration:
    """`value` seconds as a Duration."""
    return Duration(round(value * SECOND))
