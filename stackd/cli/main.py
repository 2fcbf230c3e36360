"""The console script: builds the invocation, calls one command, turns whatever comes out into an exit code."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from stackd.base.errors import StackdError
from stackd.cli.ending import end_after
from stackd.cli.errors import describe, exit_code
from stackd.cli.invocation import Invocation
from stackd.cli.lazy import LazyGroup
from stackd.cli.options import example

COMPLETE_VARIABLE = "_STACKD_COMPLETE"
"""Set by the completion scripts of `stackd completion`."""

_PACKAGE = "stackd.cli.commands"


@click.group(
    cls=LazyGroup,
    commands_at={
        "up": f"{_PACKAGE}.local:up",
        "down": f"{_PACKAGE}.local:down",
        "daemon": f"{_PACKAGE}.local:daemon",
        "new": f"{_PACKAGE}.new:new",
        "validate": f"{_PACKAGE}.validate:validate",
        "schema": f"{_PACKAGE}.new:schema",
        "plan": f"{_PACKAGE}.plan:plan",
        "apply": f"{_PACKAGE}.apply:apply",
        "status": f"{_PACKAGE}.status:status",
        "sync": f"{_PACKAGE}.status:sync",
        "events": f"{_PACKAGE}.events:events",
        "stack": f"{_PACKAGE}.stack:stack",
        "service": f"{_PACKAGE}.service:service",
        "node": f"{_PACKAGE}.node:node",
        "network": f"{_PACKAGE}.network:network",
        "config": f"{_PACKAGE}.config:config",
        "secret": f"{_PACKAGE}.secret:secret",
        "cluster": f"{_PACKAGE}.cluster:cluster",
        "completion": f"{_PACKAGE}.local:completion",
        "version": f"{_PACKAGE}.local:version",
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example("stackd up ./stacks", "stackd status", "stackd service ps hello_web"),
)
def cli() -> None:
    """stackd makes a cluster run exactly what a directory or a git repository says.

    `stackd up DIR` starts a node; the other commands talk to it from a second terminal.
    """


def run(arguments: Sequence[str], invocation: Invocation) -> int:
    """Carry out one command line; its exit code. What went wrong has been said on stderr."""
    color = False if invocation.environment.get("NO_COLOR") else None
    try:
        with cli.make_context("stackd", list(arguments), obj=invocation, color=color) as context:
            cli.invoke(context)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        _forget_stdout()
        return 0
    except (click.exceptions.Exit, click.Abort, click.ClickException, StackdError, KeyboardInterrupt) as error:
        if text := describe(error, as_json=invocation.as_json or _asks_for_json(arguments)):
            click.echo(text, err=True)
        return exit_code(error)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether a command line that could not be understood asked for JSON all the same."""
    return re.search(r"(^| )(-o ?|--output[ =])json( |$)", " ".join(arguments)) is not None


def _forget_stdout() -> None:
    """The reader has gone (`stackd events | head`): let the interpreter flush into nothing when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> NoReturn:
    """Entry point of the console script."""
    if COMPLETE_VARIABLE in os.environ:
        cli.main(prog_name="stackd", complete_var=COMPLETE_VARIABLE)
    live = sys.stderr.isatty()
    invocation = Invocation(interactive=live and sys.stdin.isatty(), live=live)
    end_after(lambda: run(sys.argv[1:], invocation))
