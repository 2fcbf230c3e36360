"""`stackd config -f FILE`: what stack files say, in their long form. The subcommands are those of config objects."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from stackd.cli.commands import configs
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import example, file_options, output_option
from stackd.cli.stackfiles import WrittenStack, read_written
from stackd.cli.yamltext import yaml_text
from stackd.spec.docker.bodies import docker_bodies
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
def config(ctx: click.Context, invocation: Invocation, paths: tuple[str, ...], name: str | None) -> None:
    """Print stack files as one, in their long form; or show, make and remove configs.

    Several files are put on top of one another. Variables, env files, anchors, `extends` and `include` are resolved, short
    forms are long, paths are absolute. With `-o docker`: the requests that `docker stack deploy` would send. Whether the
    stack makes sense is what `stackd validate` checks.
    """
    if ctx.invoked_subcommand is not None:
        return
    written = read_written(paths, name, invocation.environment)
    match invocation.output:
        case "docker":
            click.echo(_indented(_bodies(written)))
        case "json":
            click.echo(_indented(_document(written, invocation)))
        case _:
            click.echo(yaml_text(_document(written, invocation)), nl=False)


for command in configs.config.commands.values():
    config.add_command(command)


def _document(written: WrittenStack, invocation: Invocation) -> dict[str, Any]:
    directory = written.around.files.directory
    return render(written.loaded.document, directory, invocation.environment)


def _bodies(written: WrittenStack) -> dict[str, Any]:
    """Raises SpecErrors where the official client could send nothing."""
    loaded = written.loaded
    problems = Problems()
    bodies = docker_bodies(loaded.document, written.around, loaded.sources, problems)
    problems.raise_errors()
    return dict(bodies)


def _indented(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
