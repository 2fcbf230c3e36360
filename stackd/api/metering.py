"""Takes the time of calls: of those answered here, of those refused, and of those carried on to the leader."""

from __future__ import annotations

import time
from collections.abc import Callable

from stackd.api.control import Method
from stackd.base.errors import StackdError

HERE, LEADER = "here", "leader"
OK = "ok"
_INTERNAL = "api.internal"

Called = Callable[[str, str, str, float], None]
"""Told of the method (`Control.Apply`), the outcome (an error's code, or ok), who answered (here or leader), and the seconds
that it took. A stream counts once, when it ends."""


class Metered:
    """One call, from when it arrives to when the block ends. Set `answered` to LEADER where it is carried on."""

    def __init__(self, method: Method, called: Called | None) -> None:
        self.answered = HERE
        self._method = method
        self._called = called

    def __enter__(self) -> Metered:
        self._began = time.monotonic()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._called is None:
            return
        outcome = OK
        if isinstance(error, StackdError):
            outcome = error.code
        elif isinstance(error, Exception):
            outcome = _INTERNAL
        self._called(f"{self._method.service}.{self._method.name}", outcome, self.answered, time.monotonic() - self._began)
