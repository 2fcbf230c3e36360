"""`stackd status` and `stackd sync`: is the cluster what its sources say?"""

from __future__ import annotations

import click

from stackd.api.control import SyncRequest
from stackd.api.views import SourceView, StatusView
from stackd.base.errors import StackdError
from stackd.base.time import Instant
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import example, host_option, output_option
from stackd.cli.output import document, shortened, table
from stackd.cli.wording import ago, count, yes_no

_REVISION = 12
_MESSAGE = 80


@click.command(epilog=example("stackd status", "stackd status -o json"))
@output_option("table", "json")
@host_option
@pass_invocation
def status(invocation: Invocation) -> None:
    """Show sources, revisions, stacks and whether all of it is true."""
    with invocation.daemon() as daemon:
        found = daemon.status()
    click.echo(document("Status", found) if invocation.as_json else status_page(found, invocation.now()))


@click.command(epilog=example("stackd sync", "stackd sync --approve-prune"))
@click.argument("source", default="")
@click.option("--approve-prune", is_flag=True, help="Let removals that were held back go ahead.")
@output_option("table", "json")
@host_option
@pass_invocation
def sync(invocation: Invocation, source: str, approve_prune: bool) -> None:
    """Look at the sources now instead of at the next interval.

    SOURCE is a name from `stackd status`; without it all sources are looked at.
    """
    with invocation.daemon() as daemon:
        found = daemon.sync(SyncRequest(source=source, approve_prune=approve_prune))
    click.echo(document("Status", found) if invocation.as_json else status_page(found, invocation.now()))
    for one in found.sources:
        if one.error and source in ("", one.name):
            raise StackdError(one.error_code or "source.error", f"source {one.name}: {one.error}")


def status_page(status: StatusView, now: Instant) -> str:
    """The whole status as one page of text."""
    blocks = [_head(status)]
    if status.sources:
        blocks.append(_source_table(status.sources, now))
        blocks += [note for source in status.sources for note in _source_notes(source)]
    blocks.append(_stack_table(status) if status.stacks else "No stacks are deployed.")
    return "\n\n".join(blocks)


def _head(status: StatusView) -> str:
    nodes = f"{count(status.nodes, 'node')}, {status.nodes_ready} ready"
    leader = f", leader {status.leader}" if status.leader else ""
    return "\n".join(
        (
            f"Cluster    {status.cluster_id} ({nodes}{leader})",
            f"Sync       {status.sync}",
            f"Health     {status.health}",
            f"Converged  {yes_no(status.converged)}",
        )
    )


def _source_table(sources: tuple[SourceView, ...], now: Instant) -> str:
    rows = [
        (
            source.name,
            source.kind,
            _location(source),
            source.label[:_REVISION],
            source.state.replace("_", " "),
            ago(source.seen_at, now),
        )
        for source in sources
    ]
    return table(("SOURCE", "KIND", "LOCATION", "REVISION", "STATE", "LAST LOOK"), rows)


def _location(source: SourceView) -> str:
    """Where it is, with ref and path behind it where they are set: `https://host/repo@main:stacks`."""
    ref = f"@{source.ref}" if source.ref else ""
    path = f":{source.path}" if source.path else ""
    return f"{source.location}{ref}{path}"


def _source_notes(source: SourceView) -> list[str]:
    """What a person must know of a source: the error, and removals that wait for a yes."""
    notes = []
    if source.error:
        notes.append(f"Source {source.name}: error[{source.error_code}]: {source.error}")
    if source.held_prune:
        stacks = ", ".join(source.held_prune)
        notes.append(
            f"Source {source.name} no longer has {stacks}; not removed yet.\n"
            f"  hint: `stackd sync {source.name} --approve-prune` removes them"
        )
    return notes


def _stack_table(status: StatusView) -> str:
    rows = [
        (
            stack.name,
            str(stack.services),
            stack.sync,
            stack.health,
            yes_no(stack.converged),
            stack.revision[:_REVISION],
            stack.file,
            shortened(stack.message, _MESSAGE),
        )
        for stack in status.stacks
    ]
    return table(("STACK", "SERVICES", "SYNC", "HEALTH", "CONVERGED", "REVISION", "FILE", "MESSAGE"), rows)
