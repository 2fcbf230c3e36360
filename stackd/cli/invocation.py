"""What one call of the command has at hand: where the daemon is, in which form to print, and the outside world.

Commands get it as `@pass_invocation`. Tests put a small real client in place of `connect` and a fixed time for `now`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from stackd.api.locations import default_host
from stackd.base.time import Instant

if TYPE_CHECKING:
    from stackd.cli.client import ControlClient


def connect(host: str) -> ControlClient:
    """A client of the daemon at `host`; the RPC library is imported only now."""
    from stackd.api.client import Client

    return Client(host)


def _now() -> Instant:
    return Instant(time.time_ns())


@dataclass(slots=True)
class Invocation:
    """`interactive` says whether a person can be asked; `live` whether lines on stderr may be redrawn."""

    connect: Callable[[str], ControlClient] = connect
    now: Callable[[], Instant] = _now
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    interactive: bool = False
    live: bool = False
    host: str = ""
    output: str = "table"

    @contextmanager
    def daemon(self) -> Iterator[ControlClient]:
        """A client for the time of the block. Raises Unavailable where no daemon answers."""
        client = self.connect(self.host or default_host(self.environment))
        try:
            yield client
        finally:
            client.close()

    @property
    def as_json(self) -> bool:
        return self.output == "json"


pass_invocation = click.make_pass_decorator(Invocation)
