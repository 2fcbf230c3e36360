"""`stackd stack`: the stacks that are deployed."""

from __future__ import annotations

import click

from stackd.api.control import ListRequest, NameRequest
from stackd.api.views import StackView
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.listing import print_services, print_tasks
from stackd.cli.options import example, host_option, output_option, override_option
from stackd.cli.output import list_document, table
from stackd.cli.wording import SHORT_ID, ago, yes_no

_COLUMNS = ("NAME", "SERVICES", "SOURCE", "SYNC", "HEALTH", "CONVERGED")


@click.group(epilog=example("stackd stack ls", "stackd stack ps shop"))
def stack() -> None:
    """Show and remove stacks."""


@stack.command(epilog=example("stackd stack ls"))
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ls(invocation: Invocation) -> None:
    """List stacks."""
    with invocation.daemon() as daemon:
        stacks = daemon.stacks().items
    match invocation.output:
        case "json":
            click.echo(list_document("StackList", stacks))
        case "name":
            for one in stacks:
                click.echo(one.name)
        case "wide":
            now = invocation.now()
            rows = ((*_row(one), one.file, one.revision[:SHORT_ID], ago(one.updated_at, now), one.message) for one in stacks)
            click.echo(table((*_COLUMNS, "FILE", "REVISION", "UPDATED", "MESSAGE"), rows))
        case _:
            click.echo(table(_COLUMNS, map(_row, stacks)))


def _row(one: StackView) -> tuple[str, ...]:
    return (one.name, str(one.services), one.source, one.sync, one.health, yes_no(one.converged))


@stack.command(epilog=example("stackd stack services shop"))
@click.argument("name")
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def services(invocation: Invocation, name: str) -> None:
    """List the services of one stack."""
    with invocation.daemon() as daemon:
        found = daemon.services(ListRequest(stack=name)).items
    print_services(invocation, found)


@stack.command(epilog=example("stackd stack ps shop", "stackd stack ps shop --no-history -o wide"))
@click.argument("name")
@click.option("--no-history", is_flag=True, help="Leave out tasks that are over.")
@click.option("--no-trunc", is_flag=True, help="Show whole ids and errors.")
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ps(invocation: Invocation, name: str, no_history: bool, no_trunc: bool) -> None:
    """List the tasks of one stack."""
    with invocation.daemon() as daemon:
        tasks = daemon.tasks(ListRequest(stack=name, history=not no_history)).items
        found = daemon.services(ListRequest(stack=name)).items
    print_tasks(invocation, tasks, found, whole=no_trunc)


@stack.command(epilog=example("stackd stack rm shop"))
@click.argument("names", nargs=-1, required=True)
@override_option
@host_option
@pass_invocation
def rm(invocation: Invocation, names: tuple[str, ...], override: bool) -> None:
    """Remove stacks with all their services; volumes stay."""
    with invocation.daemon() as daemon:
        for name in names:
            daemon.remove_stack(NameRequest(name=name, override=override))
            click.echo(name)
