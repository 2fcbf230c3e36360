"""`stackd config -f FILE`: what stack files say, in their long form. The subcommands are those of config objects."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from stackd.cli.commands import configs
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import StackSelection, example, file_options, output_option
from stackd.cli.stackfiles import read_written
from stackd.cli.yamltext import yaml_text
from stackd.spec.docker.bodies import docker_bodies
from stackd.spec.load import LoadedDocument
from stackd.spec.problems import Problems
from stackd.spec.render import render


@click.group(
    invoke_without_command=True,
    epilog=example("stackd config -f stack.yaml", "stackd config -f stack.yaml -n shop -o docker", "stackd config ls"),
)
@file_options
@output_option("yaml", "json", "docker")
@pass_invocation
@click.pass_context
def config(ctx: click.Context, invocation: Invocation, selection: StackSelection) -> None:
    """Print stack files as one, in their long form; or show, make and remove configs.

    Several files are put on top of one another. Variables, env files, anchors, `extends` and `include` are resolved, short
    forms are long, paths are absolute. With `-o docker`: the requests that `docker stack deploy` would send. Whether the
    stack makes sense is what `stackd validate` checks.
    """
    if ctx.invoked_subcommand is not None:
        return
    loaded = read_written(selection, invocation.environment)
    match invocation.output:
        case "docker":
            click.echo(_indented(_bodies(loaded)))
        case "json":
            click.echo(_indented(_document(loaded)))
        case _:
            click.echo(yaml_text(_document(loaded)), nl=False)


for command in configs.config.commands.values():
    config.add_command(command)


def _document(loaded: LoadedDocument) -> dict[str, Any]:
    return render(loaded.document, loaded.around.files.directory, loaded.around.environment)


def _bodies(loaded: LoadedDocument) -> dict[str, Any]:
    """Raises SpecErrors where the official client could send nothing."""
    problems = Problems()
    bodies = docker_bodies(loaded.document, loaded.around, loaded.sources, problems)
    problems.raise_errors()
    return dict(bodies)


def _indented(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
