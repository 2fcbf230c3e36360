"""`stackd new` and `stackd schema`: the first file of a stack, and what editors need to help with it. Needs no daemon."""

from __future__ import annotations

from pathlib import Path

import click

from stackd.base.errors import Refused, StackdError
from stackd.cli.options import example
from stackd.spec.schema import schema_text
from stackd.spec.shorthand import stack_name

_SCHEMA_FILE = "stack.schema.json"

_STARTER = """\
# yaml-language-server: $schema=./{schema}
#
# The stack "{name}". Check it with `stackd validate -f {folder}`, run it with `stackd up {folder}`,
# or deploy it to a running node with `stackd apply -f {folder}`.
name: {name}

services:
  web:
    image: nginx:1.27
    ports:
      - "8080:80"
    deploy:
      replicas: 1
      update_config:
        order: stop-first          # start-first needs room for a second task, and a port of its own
        failure_action: rollback   # a failed update goes back by itself
      resources:
        limits:
          memory: 128M
"""


@click.command(epilog=example("stackd new shop", "stackd new shop --directory stacks/shop"))
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write it (default: a new directory called NAME).",
)
def new(name: str, directory: Path | None) -> None:
    """Write a starter stack, with the schema that lets editors complete and check it.

    Refuses to replace a file that is there.
    """
    name = stack_name(name)
    folder = directory or Path(name)
    _write(folder / "stack.yaml", _STARTER.format(schema=_SCHEMA_FILE, name=name, folder=folder))
    schema = folder / _SCHEMA_FILE
    if not schema.exists():
        _write(schema, schema_text())
    click.echo(f"{folder / 'stack.yaml'}")
    click.echo(f"Run it with: stackd up {folder}", err=True)


@click.command(epilog=example("stackd schema > stack.schema.json"))
def schema() -> None:
    """Print the JSON schema of the stack file (draft-07), for editors and other tools."""
    click.echo(schema_text(), nl=False)


def _write(path: Path, text: str) -> None:
    """A new file with `text`. Raises Refused("cli.new.exists") if there is one, StackdError("cli.new.unwritable")."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        if path.exists():
            hint = "give another name, or another --directory"
            raise Refused("cli.new.exists", f"{path} exists already and is kept", hint=hint) from exc
        raise StackdError("cli.new.unwritable", f"can't write {path}: {exc.strerror}") from exc
