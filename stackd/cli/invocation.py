"""What one call of the command has at hand: where the daemon is, in which form to print, and the outside world.

Commands get it as `@pass_invocation`. Tests put a small real client in place of `connect` and a fixed time for `now`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from stackd.api.locations import default_data_dir, socket_path
from stackd.base.time import Instant

if TYPE_CHECKING:
    from stackd.api.secure import TlsMaterial
    from stackd.cli.client import ControlClient

TCP = "tcp://"


class Connect(Protocol):
    """Makes a client of the daemon at the first of `hosts` that answers; `material` is what managers far away are shown."""

    def __call__(self, *hosts: str, material: TlsMaterial | None = None) -> ControlClient: ...


def connect(*hosts: str, material: TlsMaterial | None = None) -> ControlClient:
    """See Connect; the RPC library is imported only now."""
    from stackd.api.client import Client

    return Client(*hosts, material=material)


def _now() -> Instant:
    return Instant(time.time_ns())


@dataclass(slots=True)
class Invocation:
    """`interactive` says whether a person can be asked; `live` whether lines on stderr may be redrawn."""

    connect: Connect = connect
    now: Callable[[], Instant] = _now
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    interactive: bool = False
    live: bool = False
    host: str = ""
    context: str = ""
    output: str = "table"

    @contextmanager
    def daemon(self) -> Iterator[ControlClient]:
        """A client for the time of the block. Raises Unavailable where no daemon answers; what a context that can't be used
        is refused with."""
        client = self._client()
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def own_daemon(self) -> Iterator[ControlClient]:
        """The same for what only this machine's daemon can do. Raises click.UsageError if another one is named."""
        if not self.is_local:
            raise click.UsageError("this is about the machine it is typed on: leave --context, $STACKD_CONTEXT and tcp:// out")
        with self.daemon() as daemon:
            yield daemon

    @property
    def is_local(self) -> bool:
        """Whether commands go to the daemon of this machine."""
        host, context = self._destination()
        return not context and not host.startswith(TCP)

    @property
    def given_context(self) -> str:
        """Name, path or token of the context with which commands go to managers far away; "" for this machine's daemon."""
        return self._destination()[1]

    def go_on_with(self, token: str) -> None:
        """From now on use this user token in place of the context that was given."""
        self.host, self.context = self._destination()[0], token

    def context_file(self) -> Path | None:
        """Where the context lies with which commands go to managers far away; None for a token, and for this machine's
        daemon."""
        context = self.given_context
        if not context:
            return None
        from stackd.cli.contexts import context_path, is_token

        return None if is_token(context) else context_path(context, self.environment)

    def _client(self) -> ControlClient:
        host, context = self._destination()
        if not context:
            return self.connect(host or f"unix://{socket_path(default_data_dir(self.environment))}")
        if host and not host.startswith(TCP):
            raise click.UsageError(f"--context is for managers (tcp://HOST), not for {host}")
        from stackd.cli.contexts import load_context

        found = load_context(context, self.environment)
        hosts = (host,) if host else tuple(f"{TCP}{address}" for address in found.managers)
        return self.connect(*hosts, material=found.material(self.now()))

    def _destination(self) -> tuple[str, str]:
        """Address and context, either of which may be "". What is on the command line counts for more than the environment,
        and a socket needs no context."""
        host, context = self.host, self.context
        if not host and not context:
            host = self.environment.get("STACKD_HOST", "")
        if not context and (not host or host.startswith(TCP)):
            context = self.environment.get("STACKD_CONTEXT", "")
        return host, context

    @property
    def as_json(self) -> bool:
        return self.output == "json"


pass_invocation = click.make_pass_decorator(Invocation)
