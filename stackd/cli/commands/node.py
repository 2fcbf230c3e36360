"""`stackd node`: the machines."""

from __future__ import annotations

import click

from stackd.api.views import NodeView
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import example, host_option, output_option
from stackd.cli.output import list_document, table
from stackd.cli.wording import SHORT_ID, binary_size


@click.group(epilog=example("stackd node ls"))
def node() -> None:
    """Show the nodes of the cluster."""


@node.command(epilog=example("stackd node ls -o wide"))
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ls(invocation: Invocation) -> None:
    """List nodes; a star marks the one that answers."""
    with invocation.daemon() as daemon:
        nodes = daemon.nodes().items
    match invocation.output:
        case "json":
            click.echo(list_document("NodeList", nodes))
        case "name":
            for one in nodes:
                click.echo(one.hostname)
        case form:
            headers, rows = _columns(nodes, wide=form == "wide")
            click.echo(table(headers, rows))


def _columns(nodes: tuple[NodeView, ...], *, wide: bool) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    headers: tuple[str, ...] = ("ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER STATUS", "TASKS", "ENGINE VERSION")
    rows = [_row(one) for one in nodes]
    if wide:
        headers = (*headers, "EXECUTORS", "CPUS", "MEMORY", "OS", "LABELS", "MESSAGE")
        rows = [(*row, *_wide_cells(one)) for row, one in zip(rows, nodes, strict=True)]
    return headers, rows


def _row(one: NodeView) -> tuple[str, ...]:
    star = " *" if one.self_ else ""
    return (
        f"{one.id[:SHORT_ID]}{star}",
        one.hostname,
        one.state,
        one.availability,
        one.manager_status,
        str(one.tasks),
        one.engine_version,
    )


def _wide_cells(one: NodeView) -> tuple[str, ...]:
    labels = ",".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
    cpus = f"{one.cpus:g}" if one.cpus else ""
    return (
        ",".join(one.executors),
        cpus,
        binary_size(one.memory_bytes),
        "/".join(filter(None, (one.os, one.arch))),
        labels,
        one.message,
    )
