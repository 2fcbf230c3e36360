"""Waits until something that was asked of the cluster has come about, and shows how far it is. What is waited for goes on when
the waiting ends: by Ctrl-C, or when its time is over.

Other than a rollout (`progress.py`) it is looked at again and again: nodes change rarely, and who answers may change meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click

from stackd.base.errors import Unavailable
from stackd.base.time import SECOND, Duration
from stackd.cli.errors import RolloutTimedOut
from stackd.cli.invocation import Invocation
from stackd.cli.progress import display_of

LOOK_SECONDS = 0.3
"""Between two looks: short for a person, long for a manager."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is there to see: a line for each thing that is waited for, by its name; and whether all of it has come about."""

    lines: Mapping[str, str]
    done: bool


def settle(invocation: Invocation, look: Callable[[], Sight], timeout: Duration, goes_on: str) -> None:
    """Return once a look says so. A manager that doesn't answer is asked again: another one may be about to lead.
    Raises RolloutTimedOut (a `timeout` of 0 is none); `goes_on` says what does, and where to look."""
    deadline = time.monotonic() + timeout / SECOND if timeout else float("inf")
    display = display_of(invocation)
    try:
        while not _is_done(look, display.show):
            if time.monotonic() >= deadline:
                raise RolloutTimedOut("cli.wait.timeout", "not done in time", hint=goes_on)
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        display.close()
        click.echo(f"interrupted: {goes_on}", err=True)
        raise
    finally:
        display.close()


def _is_done(look: Callable[[], Sight], show: Callable[[Mapping[str, str]], None]) -> bool:
    try:
        sight = look()
    except Unavailable:
        return False
    show(sight.lines)
    return sight.done
