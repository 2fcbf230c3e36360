"""Waits for a change to come true while showing it: one live line per service on a terminal, plain lines elsewhere.

Nothing is polled: the daemon pushes the services whenever one of them looks different. Leaving early, by Ctrl-C or by
the timeout, leaves the rollout going, and says so.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from typing import Protocol

import click

from stackd.api.control import ListRequest, Services
from stackd.base.errors import StackdError, Unavailable
from stackd.base.time import SECOND, Duration
from stackd.cli.client import ControlClient
from stackd.cli.errors import RolledBack, RolloutFailed, RolloutTimedOut
from stackd.cli.invocation import Invocation
from stackd.cli.rollout import Expectation, Standing, Verdict, outcome, progress_lines, verdicts

READER_SECONDS = 2.0
"""How long the thread that reads may take to notice that its stream was closed; it takes milliseconds."""

_GOES_ON = "the rollout goes on; `stackd status` shows it"


class Display(Protocol):
    """Where progress lines go: the lines of all services are given each time, by service."""

    def show(self, lines: Mapping[str, str]) -> None: ...
    def close(self) -> None: ...


class PlainLines:
    """For logs and pipes: a line is printed when it differs from the one shown before for its service."""

    def __init__(self) -> None:
        self._shown: Mapping[str, str] = {}

    def show(self, lines: Mapping[str, str]) -> None:
        for service, line in lines.items():
            if self._shown.get(service) != line:
                click.echo(line, err=True)
        self._shown = lines

    def close(self) -> None:
        pass


class NoLines:
    """Where somebody else shows the progress already."""

    def show(self, lines: Mapping[str, str]) -> None:
        pass

    def close(self) -> None:
        pass


class LiveLines:
    """For terminals: the lines are redrawn in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True, highlight=False), auto_refresh=False)
        self._live.start()

    def show(self, lines: Mapping[str, str]) -> None:
        from rich.text import Text

        self._live.update(Text("\n".join(lines.values()), no_wrap=True, overflow="ellipsis"), refresh=True)

    def close(self) -> None:
        self._live.stop()


def display_of(invocation: Invocation) -> Display:
    """Lines that are redrawn where the terminal can do that, plain ones elsewhere."""
    return LiveLines() if invocation.live else PlainLines()


def wait_for(client: ControlClient, display: Display, expectation: Expectation, timeout: Duration) -> None:
    """Return once everything expected is true; `display` is closed in any case.

    Raises RolloutFailed, RolledBack or RolloutTimedOut (a `timeout` of 0 is none), and Unavailable if the daemon goes
    away meanwhile."""
    try:
        with closing(_snapshots(client, timeout)) as snapshots:
            judged = _follow(snapshots, expectation, display)
    except KeyboardInterrupt:
        display.close()
        click.echo(f"interrupted: {_GOES_ON}", err=True)
        raise
    finally:
        display.close()
    _raise_unless_converged(judged)


def _follow(snapshots: Iterable[Services], expectation: Expectation, display: Display) -> tuple[Verdict, ...]:
    for snapshot in snapshots:
        judged = verdicts(snapshot.items, expectation)
        display.show(progress_lines(judged, snapshot.items))
        if outcome(judged) is not Standing.WAITING:
            return judged
    raise Unavailable("cli.watch.ended", "the daemon has ended the connection", hint=_GOES_ON)


def _raise_unless_converged(judged: tuple[Verdict, ...]) -> None:
    for standing, kind, code in (
        (Standing.FAILED, RolloutFailed, "rollout.failed"),
        (Standing.ROLLED_BACK, RolledBack, "rollout.rolled_back"),
    ):
        ended = [verdict for verdict in judged if verdict.standing is standing]
        if ended:
            sentences = "; ".join(f"{verdict.name}: {verdict.reason}" for verdict in ended)
            raise kind(code, sentences, hint=f"`stackd service ps {ended[0].name}` shows the tasks and their errors")


def _snapshots(client: ControlClient, timeout: Duration) -> Generator[Services]:
    """What the daemon pushes, until the time is over.

    A thread reads, so that a quiet daemon doesn't outlast the timeout and Ctrl-C never hits in the middle of gRPC's own
    code. It has ended when this generator has."""
    stream = client.watch(ListRequest())
    arrived: queue.SimpleQueue[Services | StackdError | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for services in stream:
                arrived.put(services)
            arrived.put(None)
        except StackdError as error:
            arrived.put(error)

    reader = threading.Thread(target=read, name="watch", daemon=True)
    reader.start()
    try:
        yield from _until_over(arrived, timeout)
    finally:
        stream.close()
        reader.join(READER_SECONDS)


def _until_over(arrived: queue.SimpleQueue[Services | StackdError | None], timeout: Duration) -> Generator[Services]:
    deadline = time.monotonic() + timeout / SECOND if timeout else None
    while True:
        try:
            item = arrived.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise RolloutTimedOut("cli.wait.timeout", "not converged in time", hint=_GOES_ON) from None
        if isinstance(item, StackdError):
            raise item
        if item is None:
            return
        yield item
