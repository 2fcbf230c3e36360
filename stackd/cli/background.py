"""A blocking call made in a thread, so that something can be shown meanwhile and Ctrl-C doesn't hit in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_background(call: Callable[[], T]) -> Future[T]:
    """Make the call; its answer, or the error that it raises. A command that ends earlier doesn't wait for it."""
    answer: Future[T] = Future()

    def make() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=make, name="call", daemon=True).start()
    return answer
