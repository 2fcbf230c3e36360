"""An asyncio loop in virtual time: sleeping costs nothing, and one seed gives one history.

Time moves only when nothing is ready to run, and then straight to the next timer; timers of one instant fire in the order
in which they were set. With a grain, timers fire on its multiples only: then much happens in the same instant. There are no
sockets and no threads here. A program in which everything waits and no timer is set will never go on, so that is an error at
once instead of a hanging test.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

from stackd.base.time import SECOND, Duration, Instant

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NO_DRIFT = Duration(0)

EPOCH = Instant(1_767_225_600 * SECOND)
"""Where simulated wall clocks start: the first second of 2026."""


class Deadlock(Exception):
    """Everything waits and no timer is set."""


class _InstantSelector(selectors.DefaultSelector):
    """Never waits: tells the loop how far its time has to jump."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; its time starts at 0. `grain` is in seconds, 0 for none."""

    def __init__(self, grain: float = 0.0) -> None:
        self._instants = _InstantSelector()
        self._grain = grain
        super().__init__(self._instants)

    def time(self) -> float:
        return self._instants.now

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        at = when if not self._grain else math.ceil(when / self._grain) * self._grain
        return super().call_at(at, callback, *args, context=context)


class VirtualClock:
    """A host's clock in virtual time. `drift` is how far its time of day is off, `boots` how often the host was started."""

    def __init__(self, drift: Duration = _NO_DRIFT) -> None:
        self.drift = drift
        self.boots = 1

    @property
    def boot(self) -> str:
        return str(self.boots)

    def now(self) -> Instant:
        return Instant(EPOCH + self.drift + self.elapsed())

    def elapsed(self) -> Duration:
        return Duration(round(asyncio.get_running_loop().time() * SECOND))


def run(main: Coroutine[Any, Any, T], *, grain: float = 0.0) -> T:
    """Run `main` in virtual time to its end."""
    with asyncio.Runner(loop_factory=partial(VirtualLoop, grain)) as runner:
        return runner.run(main)
