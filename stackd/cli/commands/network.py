"""`stackd network`: the networks that services join."""

from __future__ import annotations

import click

from stackd.api.control import NetworkRequest
from stackd.base.records import pairs
from stackd.cli.commands.objects import key_values, label_option, one_named, remove_command
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.objectpages import network_page, network_table
from stackd.cli.options import example, host_option, output_option
from stackd.cli.output import document, list_document
from stackd.spec.stack import ExternalKind, NetworkSpec, Pool


@click.group(epilog=example("stackd network ls", "stackd network create --subnet 10.9.0.0/16 common"))
def network() -> None:
    """Show, make and remove networks."""


network.add_command(remove_command(ExternalKind.NETWORK))


@network.command(epilog=example("stackd network ls", "stackd network ls -o wide"))
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ls(invocation: Invocation) -> None:
    """List networks."""
    with invocation.daemon() as daemon:
        found = daemon.networks().items
    match invocation.output:
        case "json":
            click.echo(list_document("NetworkList", found))
        case "name":
            for one in found:
                click.echo(one.name)
        case form:
            click.echo(network_table(found, wide=form == "wide"))


@network.command(epilog=example("stackd network inspect common", "stackd network inspect shop_default -o json"))
@click.argument("name")
@output_option("table", "json")
@host_option
@pass_invocation
def inspect(invocation: Invocation, name: str) -> None:
    """Show one network: its subnets, who is attached, how many addresses are left."""
    with invocation.daemon() as daemon:
        one = one_named(daemon.networks().items, ExternalKind.NETWORK, name)
    click.echo(document("Network", one) if invocation.as_json else network_page(one, invocation.now()))


@network.command(
    epilog=example("stackd network create common", "stackd network create --subnet 10.9.0.0/16 --gateway 10.9.0.1 common")
)
@click.argument("name")
@click.option("-d", "--driver", default="overlay", show_default=True, help="Driver of the network.")
@click.option("--subnet", "subnets", multiple=True, metavar="CIDR", help="Subnet (repeatable); one is chosen if none is given.")
@click.option("--gateway", "gateways", multiple=True, metavar="ADDRESS", help="Gateway of the subnet of the same position.")
@click.option("--ip-range", "ranges", multiple=True, metavar="CIDR", help="Part of the subnet that addresses are taken from.")
@click.option("--opt", "options", multiple=True, metavar="KEY=VALUE", help="Option for the driver (repeatable).")
@click.option("--ipv6", is_flag=True, help="Give out IPv6 addresses as well.")
@click.option("--internal", is_flag=True, help="No way out of the network.")
@click.option("--attachable", is_flag=True, help="Containers of other tools may join.")
@label_option
@host_option
@pass_invocation
def create(
    invocation: Invocation,
    name: str,
    driver: str,
    subnets: tuple[str, ...],
    gateways: tuple[str, ...],
    ranges: tuple[str, ...],
    options: tuple[str, ...],
    ipv6: bool,
    internal: bool,
    attachable: bool,
    labels: tuple[str, ...],
) -> None:
    """Make a network that stacks can use as `external: true`."""
    spec = NetworkSpec(
        name=name,
        driver=driver,
        driver_options=pairs(key_values(options)),
        internal=internal,
        attachable=attachable,
        ipv6=ipv6,
        pools=_pools(subnets, gateways, ranges),
        labels=pairs(key_values(labels)),
    )
    with invocation.daemon() as daemon:
        click.echo(daemon.create_network(NetworkRequest(spec=spec)).name)


def _pools(subnets: tuple[str, ...], gateways: tuple[str, ...], ranges: tuple[str, ...]) -> tuple[Pool, ...]:
    """The pools that the options describe, each from the options of one position."""
    if max(len(gateways), len(ranges)) > len(subnets):
        raise click.UsageError("--gateway and --ip-range belong to a --subnet: give as many subnets")
    return tuple(
        Pool(subnet=subnet, gateway=_at(gateways, number), ip_range=_at(ranges, number))
        for number, subnet in enumerate(subnets)
    )


def _at(values: tuple[str, ...], number: int) -> str:
    return values[number] if number < len(values) else ""
