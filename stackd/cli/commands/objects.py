"""What `stackd network`, `stackd config` and `stackd secret` share: reading what people give, and removing by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from stackd.api.control import RemoveRequest
from stackd.base.errors import NotFound
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import example, host_option, override_option
from stackd.spec.stack import ExternalKind

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def label_option(command: Decorated) -> Decorated:
    """`--label`, for whatever can have labels."""
    return click.option(
        "-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label of the object (repeatable)."
    )(command)


def key_values(texts: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping; a key alone has the empty value."""
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def content_of(path: str) -> bytes:
    """The content of a file, of stdin for "-". An unreadable file is an error of usage."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="FILE") from None


def one_named(items: Iterable[Any], kind: ExternalKind, name: str) -> Any:
    """The item with this name, or whose id begins with it. Raises NotFound."""
    found = list(items)
    for one in found:
        if one.name == name:
            return one
    matches = [one for one in found if len(name) >= 4 and one.id.startswith(name)]
    if len(matches) != 1:
        raise NotFound("object.unknown", f'no {kind} named "{name}"', hint=f"`stackd {kind} ls` lists them")
    return matches[0]


def remove_command(kind: ExternalKind) -> click.Command:
    """`stackd KIND rm NAME...`."""

    @click.command("rm", epilog=example(f"stackd {kind} rm old"), help=f"Remove {kind}s that no service uses.")
    @click.argument("names", nargs=-1, required=True)
    @override_option
    @host_option
    @pass_invocation
    def rm(invocation: Invocation, names: tuple[str, ...], override: bool) -> None:
        with invocation.daemon() as daemon:
            for name in names:
                daemon.remove_object(RemoveRequest(kind=kind, name=name, override=override))
                click.echo(name)

    return rm
