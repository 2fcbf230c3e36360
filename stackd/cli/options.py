"""Options and parameter types that several commands share, so they look and mean the same everywhere."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from stackd.base.time import HOUR, MILLISECOND, MINUTE, SECOND, Duration
from stackd.cli.invocation import Invocation

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_UNITS = {"ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")

DEFAULT_WAIT = "10m"
"""How long commands wait for a rollout: longer than nearly every rollout, shorter than a CI job's patience."""


class DurationType(click.ParamType[Duration]):
    """A duration such as `30s`, `1m30s` or `500ms`; a bare 0 is allowed."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        text = str(value)
        if text == "0":
            return Duration(0)
        if not _DURATION.fullmatch(text):
            self.fail(f"{text!r} is not a duration such as 30s, 1m30s or 500ms", param, ctx)
        return Duration(round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))))


DURATION = DurationType()


def example(*commands: str) -> str:
    """The end of a command's help: lines to copy."""
    heading = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(("\b", heading, *(f"  {command}" for command in commands)))


def _remember_output(ctx: click.Context, param: click.Parameter, value: str) -> None:
    ctx.find_object(Invocation).output = value  # type: ignore[union-attr]  # run() always gives the context one


def _remember_host(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        ctx.find_object(Invocation).host = value  # type: ignore[union-attr]  # as above


def _remember_context(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        ctx.find_object(Invocation).context = value  # type: ignore[union-attr]  # as above


def output_option(*forms: str) -> Callable[[Decorated], Decorated]:
    """`-o` with these forms, the first as the default. It is read first, so that errors take the same form."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        is_eager=True,
        expose_value=False,
        callback=_remember_output,
        help="Form of the output.",
    )


def host_option(command: Decorated) -> Decorated:
    """`--host` and `--context`, for commands that talk to a daemon; $STACKD_HOST and $STACKD_CONTEXT stand in for them."""
    host = click.option(
        "--host",
        metavar="ADDRESS",
        expose_value=False,
        callback=_remember_host,
        help="Daemon to talk to: unix:///run/stackd.sock, or tcp://HOST with --context (default: $STACKD_HOST, else this "
        "machine's).",
    )
    context = click.option(
        "--context",
        metavar="NAME",
        expose_value=False,
        callback=_remember_context,
        help="Cluster to talk to from afar: name or path of a context (default: $STACKD_CONTEXT, which may be a user token).",
    )
    return host(context(command))


def own_host_option(command: Decorated) -> Decorated:
    """`--host`, for what only the daemon of this machine can do."""
    return click.option(
        "--host",
        metavar="ADDRESS",
        expose_value=False,
        callback=_remember_host,
        help="Socket of this machine's daemon, such as unix:///run/stackd.sock (default: $STACKD_HOST, else the usual one).",
    )(command)


def wait_options(command: Decorated) -> Decorated:
    """`--detach` and `--timeout`, for commands that start a rollout."""
    timeout = click.option(
        "--timeout",
        type=DURATION,
        default=DEFAULT_WAIT,
        show_default=True,
        help="Stop waiting after this time (exit code 4; the rollout goes on). 0 waits for ever.",
    )
    detach = click.option("--detach", is_flag=True, help="Return once the change is stored, without waiting for it.")
    return detach(timeout(command))


@dataclass(frozen=True, slots=True)
class StackSelection:
    """Which stack files a command is about, and how they are to be read: what `-f` and the options beside it say."""

    paths: tuple[str, ...]
    name: str | None = None
    project_directory: str | None = None
    env_files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


_FILE_OPTIONS = (
    click.option(
        "-f",
        "--file",
        "paths",
        multiple=True,
        metavar="PATH",
        help="Stack file, or directory to search as a source does (repeatable).",
    ),
    click.option(
        "-n", "--name", metavar="NAME", help="Stack name, where the files say none; several files are then one stack."
    ),
    click.option(
        "--project-directory",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        help="Where relative paths start (default: the folder of the stack file, or of the first one).",
    ),
    click.option(
        "--env-file",
        "env_files",
        multiple=True,
        metavar="PATH",
        help="File with variables for ${NAME}, in place of .env beside the stack file (repeatable; later ones win).",
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        metavar="NAME",
        help="Profile to make active, beside those in $COMPOSE_PROFILES (repeatable; * is all).",
    ),
)


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-f`, `-n` and the other options of commands that read stack files, which get them as `selection`."""

    @functools.wraps(command)
    def selecting(*args: Any, **given: Any) -> Any:
        chosen = {name: given.pop(name) for name in StackSelection.__slots__}
        return command(*args, selection=StackSelection(**chosen), **given)

    for option in reversed(_FILE_OPTIONS):
        selecting = option(selecting)
    return selecting


def override_option(command: Decorated) -> Decorated:
    """`--override`, for changes by hand to what a source owns."""
    return click.option(
        "--override",
        is_flag=True,
        help="Change it although a source owns it; shown as drift until the next sync.",
    )(command)
