"""`stackd secret`: the secrets of the cluster. What they hold is never shown."""

from __future__ import annotations

import click

from stackd.api.control import FileRequest
from stackd.cli.commands.objects import content_of, key_values, label_option, one_named, remove_command
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.objectpages import secret_page, secret_table
from stackd.cli.options import example, host_option, output_option
from stackd.cli.output import document, list_document
from stackd.spec.stack import ExternalKind


@click.group(epilog=example("stackd secret ls", "stackd secret create db_password -"))
def secret() -> None:
    """Show, make and remove secrets."""


secret.add_command(remove_command(ExternalKind.SECRET))


@secret.command(epilog=example("stackd secret ls", "stackd secret ls -o name"))
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ls(invocation: Invocation) -> None:
    """List secrets."""
    with invocation.daemon() as daemon:
        found = daemon.secrets().items
    match invocation.output:
        case "json":
            click.echo(list_document("SecretList", found))
        case "name":
            for one in found:
                click.echo(one.name)
        case form:
            click.echo(secret_table(found, invocation.now(), wide=form == "wide"))


@secret.command(epilog=example("stackd secret inspect db_password"))
@click.argument("name")
@output_option("table", "json")
@host_option
@pass_invocation
def inspect(invocation: Invocation, name: str) -> None:
    """Show one secret: who uses it, never what it is."""
    with invocation.daemon() as daemon:
        one = one_named(daemon.secrets().items, ExternalKind.SECRET, name)
    click.echo(document("Secret", one) if invocation.as_json else secret_page(one, invocation.now()))


@secret.command(
    epilog=example("stackd secret create db_password ./password.txt", "stackd secret create db_password - < password.txt")
)
@click.argument("name")
@click.argument("path", metavar="FILE")
@click.option("--template-driver", default="", metavar="NAME", help="Engine that fills in the content, such as golang.")
@label_option
@host_option
@pass_invocation
def create(invocation: Invocation, name: str, path: str, template_driver: str, labels: tuple[str, ...]) -> None:
    """Make a secret from a file, or from stdin with `-`; stacks use it as `external: true`."""
    request = FileRequest(name=name, data=content_of(path), labels=key_values(labels), template=template_driver)
    with invocation.daemon() as daemon:
        click.echo(daemon.create_secret(request).name)
