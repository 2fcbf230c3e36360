"""`stackd config ls|create|inspect|rm`: the configs of the cluster."""

from __future__ import annotations

import base64

import click

from stackd.api.control import FileRequest, NameRequest
from stackd.cli.commands.objects import content_of, key_values, label_option, remove_command
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.objectpages import config_page, config_table
from stackd.cli.options import example, host_option, output_option
from stackd.cli.output import document, list_document
from stackd.spec.stack import ExternalKind


@click.group(epilog=example("stackd config ls", "stackd config create site ./nginx.conf"))
def config() -> None:
    """Show, make and remove configs."""


config.add_command(remove_command(ExternalKind.CONFIG))


@config.command(epilog=example("stackd config ls", "stackd config ls -o wide"))
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ls(invocation: Invocation) -> None:
    """List configs."""
    with invocation.daemon() as daemon:
        found = daemon.configs().items
    match invocation.output:
        case "json":
            click.echo(list_document("ConfigList", found))
        case "name":
            for one in found:
                click.echo(one.name)
        case form:
            click.echo(config_table(found, invocation.now(), wide=form == "wide"))


@config.command(epilog=example("stackd config inspect site", "stackd config inspect site -o json"))
@click.argument("name")
@output_option("table", "json")
@host_option
@pass_invocation
def inspect(invocation: Invocation, name: str) -> None:
    """Show one config with its content (in JSON as base64)."""
    with invocation.daemon() as daemon:
        detail = daemon.inspect_config(NameRequest(name=name))
    if invocation.as_json:
        content = {"data": base64.b64encode(detail.data).decode()}
        click.echo(document("Config", {"config": detail.config, **content}))
    else:
        click.echo(config_page(detail, invocation.now()))


@config.command(epilog=example("stackd config create site ./nginx.conf", "stackd config create site - < nginx.conf"))
@click.argument("name")
@click.argument("path", metavar="FILE")
@click.option("--template-driver", default="", metavar="NAME", help="Engine that fills in the content, such as golang.")
@label_option
@host_option
@pass_invocation
def create(invocation: Invocation, name: str, path: str, template_driver: str, labels: tuple[str, ...]) -> None:
    """Make a config from a file, or from stdin with `-`; stacks use it as `external: true`."""
    request = FileRequest(name=name, data=content_of(path), labels=key_values(labels), template=template_driver)
    with invocation.daemon() as daemon:
        click.echo(daemon.create_config(request).name)
