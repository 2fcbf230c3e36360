"""A handler with somebody who takes the time of every call that it answers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from stackd.api.control import Caller
from stackd.base.errors import StackdError

Called = Callable[[str, str, float], None]
"""Told of the method, the outcome (an error's code, or ok) and the seconds that it took."""

OK = "ok"
_INTERNAL = "api.internal"


class Metered:
    """Stands for `handler` of the service so named. A stream counts once, when it ends."""

    def __init__(self, handler: object, service: str, called: Called) -> None:
        self._handler = handler
        self._service = service
        self._called = called

    def __getattr__(self, name: str) -> Callable[[Any, Caller], Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._handler, name)

        def call(request: Any, caller: Caller) -> Any:
            answer = method(request, caller)
            return self._stream(name, answer) if hasattr(answer, "__aiter__") else self._single(name, answer)

        return call

    async def _single(self, name: str, answer: Awaitable[Any]) -> Any:
        with _Watch(self._called, f"{self._service}.{name}"):
            return await answer

    async def _stream(self, name: str, answer: AsyncGenerator[Any, None]) -> AsyncIterator[Any]:
        with _Watch(self._called, f"{self._service}.{name}"):
            async with aclosing(answer):
                async for item in answer:
                    yield item


class _Watch:
    """Takes the time of a block."""

    def __init__(self, called: Called, name: str) -> None:
        self._called = called
        self._name = name

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        outcome = OK
        if isinstance(error, StackdError):
            outcome = error.code
        elif isinstance(error, Exception):
            outcome = _INTERNAL
        self._called(self._name, outcome, time.monotonic() - self._began)
