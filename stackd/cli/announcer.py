"""What `stackd up` shows while it runs: that it is up, and every service as it changes. Plain lines on stderr.

It watches like any other client, over the node's own socket, from a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import click

from stackd import __version__
from stackd.api.control import ListRequest
from stackd.base.errors import StackdError
from stackd.cli.client import ControlClient
from stackd.cli.progress import PlainLines
from stackd.cli.rollout import Expectation, progress_lines, verdicts


class Announcer:
    """An observer of the daemon (`stackd.daemon.Observer`)."""

    def __init__(self, connect: Callable[[str], ControlClient], *, watches: bool = True) -> None:
        """`watches`: show the services. Else only what the daemon itself says."""
        self._connect = connect
        self._watches = watches
        self._client: ControlClient | None = None
        self._watcher: threading.Thread | None = None

    def ready(self, socket: Path, executor: str) -> None:
        """Say that the node is up, and follow its services from now on."""
        address = f"unix://{socket}"
        if not self._watches:
            click.echo(f"stackd {__version__} runs; API on {address}", err=True)
            if not executor:
                click.echo("It waits for `stackd cluster init` or `stackd cluster join`.", err=True)
            return
        click.echo(f"stackd {__version__} is up with the {executor} executor; API on {address}", err=True)
        click.echo("Ctrl-C ends the daemon and leaves tasks running; `stackd down` removes them.", err=True)
        self._client = self._connect(address)
        self._watcher = threading.Thread(target=self._watch, args=(self._client,), name="announcer", daemon=True)
        self._watcher.start()

    def note(self, message: str) -> None:
        """Something a person should know, in one sentence."""
        click.echo(message, err=True)

    def close(self) -> None:
        """End the watching; nothing is shown afterwards."""
        if self._client is not None and self._watcher is not None:
            self._client.close()
            self._watcher.join(timeout=2)

    def _watch(self, client: ControlClient) -> None:
        lines = PlainLines()
        try:
            for snapshot in client.watch(ListRequest()):
                everything = Expectation(services=tuple(service.name for service in snapshot.items))
                lines.show(progress_lines(verdicts(snapshot.items, everything), snapshot.items))
        except StackdError:
            return  # the daemon is ending; it says so itself
