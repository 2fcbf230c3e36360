"""`stackd events`: what the cluster decided and why, in order."""

from __future__ import annotations

import click

from stackd.api.control import EventsRequest
from stackd.api.views import EventView
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import example, host_option, output_option
from stackd.cli.output import json_line, list_document

DEFAULT_LIMIT = 100


@click.command(epilog=example("stackd events --limit 20", "stackd events --follow --stack shop", "stackd events --audit"))
@click.option("--follow", is_flag=True, help="Go on with events as they happen.")
@click.option("--stack", default="", metavar="NAME", help="Only events of this stack.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=DEFAULT_LIMIT, show_default=True, help="At most this many past events."
)
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only events after this number.")
@click.option("--audit", is_flag=True, help="Only what somebody did, a person or a source, with the name.")
@output_option("table", "json")
@host_option
@pass_invocation
def events(invocation: Invocation, follow: bool, stack: str, limit: int, after: int, audit: bool) -> None:
    """Show what was decided, and why.

    With --follow, JSON comes one event per line.
    """
    request = EventsRequest(after=after, limit=limit, follow=follow, stack=stack, audit=audit)
    with invocation.daemon() as daemon:
        stream = daemon.events(request)
        if invocation.as_json and not follow:
            click.echo(list_document("EventList", stream))
            return
        for event in stream:
            click.echo(json_line(event) if invocation.as_json else event_line(event))


def event_line(event: EventView) -> str:
    """`2026-05-01T12:00:00.000Z  rollout.paused  shop_web  3 of 5 tasks failed  (source:main)`."""
    return f"{event.at}  {event.kind:<26}  {event.subject}  {event.message}  ({event.principal})"
