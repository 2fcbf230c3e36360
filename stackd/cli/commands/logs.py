"""`stackd service logs`: what a service writes, merged over its tasks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from stackd.api.control import LogsRequest
from stackd.api.views import LogLineView
from stackd.base.time import SECOND, Duration, Instant
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import DURATION, example, host_option, output_option
from stackd.cli.output import json_line


class SinceType(click.ParamType[Duration | datetime]):
    """A time: how long ago (`10m`), or an RFC 3339 time (`2026-05-01T12:00:00Z`, UTC where no zone is given)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration | datetime:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            return DURATION.convert(value, param, ctx)
        return at if at.tzinfo else at.replace(tzinfo=UTC)


@click.command(epilog=example("stackd service logs hello_web --follow --tail 20", "stackd service logs hello_web --since 10m"))
@click.argument("name", metavar="SERVICE|TASK")
@click.option("-f", "--follow", is_flag=True, help="Go on with lines as they are written.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of each task, and what follows.")
@click.option("--since", type=SinceType(), help="Only lines since then: 10m, or 2026-05-01T12:00:00Z.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time.")
@output_option("table", "json")
@host_option
@pass_invocation
def logs(
    invocation: Invocation,
    name: str,
    follow: bool,
    tail: int | None,
    since: Duration | datetime | None,
    timestamps: bool,
) -> None:
    """Show what a service or one task writes.

    A service is named as in `stackd service ls`, a task by its id or the beginning of it. JSON comes one line of the log
    per line.
    """
    request = LogsRequest(
        name=name,
        follow=follow,
        tail=-1 if tail is None else tail,
        since_ns=_since_ns(since, invocation.now()),
    )
    width = 0
    with invocation.daemon() as daemon:
        for line in daemon.logs(request):
            width = max(width, len(_origin(line)))
            if invocation.as_json:
                click.echo(json_line(line))
            elif line.warning:
                click.echo(f"warning: {_origin(line)}: {line.warning}", err=True)
            else:
                time = f"{line.at} " if timestamps else ""
                click.echo(f"{time}{_origin(line).ljust(width)} | {line.line}", err=line.stream == "stderr")


def _since_ns(since: Duration | datetime | None, now: Instant) -> int:
    if since is None:
        return 0
    if isinstance(since, datetime):
        return round(since.timestamp() * SECOND)
    return max(0, now - since)


def _origin(line: LogLineView) -> str:
    """Where a line comes from: `shop_web.1@node`."""
    return f"{line.task}@{line.node}"
