"""A server of the Control service on a real unix socket, for tests of its clients; what it answers is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

from stackd.api.control import Caller
from stackd.api.server import serve_unix
from stackd.engine.parts import Principal, PrincipalKind

WAIT_SECONDS = 10.0


def local(uid: int) -> Caller:
    return Caller(principal=Principal(kind=PrincipalKind.LOCAL_USER, name=str(uid)))


class Daemon:
    """A server in a thread of its own, so that the blocking client can be used as a command uses it."""

    def __init__(self, path: Path, handler: Any) -> None:
        self.path = path
        self._handler = handler
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with serve_unix(self.path, self._handler, local):
                self._ready.set()
                await self._stop.wait()
        except BaseException as exc:
            self.error = exc
        finally:
            self._ready.set()

    def __enter__(self) -> Daemon:
        self._thread.start()
        assert self._ready.wait(WAIT_SECONDS)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._loop and self._stop:
            with contextlib.suppress(RuntimeError):  # it has ended by itself meanwhile, with `error`
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()
