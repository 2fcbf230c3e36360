"""`stackd cluster`: the cluster as a whole."""

from __future__ import annotations

import click

from stackd.api.control import ClusterRequest
from stackd.api.views import ClusterView
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import example, host_option, output_option
from stackd.cli.output import document


@click.group(epilog=example("stackd cluster update --rebalance 2"))
def cluster() -> None:
    """Show and change the cluster as a whole."""


@cluster.command(epilog=example("stackd cluster update --rebalance 2", "stackd cluster update --history 10"))
@click.option("--rebalance", type=int, metavar="N", help="Move N tasks at a time to a node that joins or comes back; 0: none.")
@click.option("--history", type=int, metavar="N", help="Records of tasks that are kept per slot.")
@output_option("table", "json")
@host_option
@pass_invocation
def update(invocation: Invocation, rebalance: int | None, history: int | None) -> None:
    """Change settings of the cluster, and show them."""
    with invocation.daemon() as daemon:
        settings = daemon.update_cluster(ClusterRequest(history=history, rebalance=rebalance))
    click.echo(document("Cluster", settings) if invocation.as_json else _page(settings))


def _page(settings: ClusterView) -> str:
    rebalance = f"{settings.rebalance_tasks} tasks at a time" if settings.rebalance_tasks else "off"
    return "\n".join(
        (
            f"ID:          {settings.id}",
            f"History:     {settings.history_limit} tasks per slot",
            f"Rebalance:   {rebalance}",
            f"Subnets:     /{settings.subnet_bits} of {', '.join(settings.address_pools)}",
        )
    )
