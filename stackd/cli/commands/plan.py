"""`stackd plan`: what an `apply` would do, from the real engine run forward."""

from __future__ import annotations

import click

from stackd.api.control import PlanRequest
from stackd.api.views import PlanView
from stackd.base.errors import Refused
from stackd.cli.errors import CHANGES
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import StackSelection, example, file_options, host_option, output_option
from stackd.cli.output import document
from stackd.cli.planprint import annotated, plan_markdown, plan_text
from stackd.cli.stackfiles import read_stacks


@click.command(epilog=example("stackd plan -f stacks/", "stackd plan -f stacks/ -o markdown --exit-code"))
@file_options
@click.option("--adopt", is_flag=True, help="Plan as if stacks of another owner could be taken over.")
@click.option("--exit-code", "tell_changes", is_flag=True, help="Exit with 2 if there are changes.")
@output_option("table", "wide", "json", "markdown")
@host_option
@pass_invocation
@click.pass_context
def plan(
    ctx: click.Context,
    invocation: Invocation,
    selection: StackSelection,
    adopt: bool,
    tell_changes: bool,
) -> None:
    """Show what an apply would change, and how.

    Shows which fields change and on which line they stand, where tasks would run, in which order they are replaced, how
    many keep running meanwhile, and how long it takes. Nothing is changed. Exit code 3 if the change would be refused or
    would not fit.
    """
    files = read_stacks(selection, invocation.environment)
    request = PlanRequest(
        stacks=tuple(file.spec for file in files),
        files=tuple(file.path for file in files),
        adopt=adopt,
    )
    with invocation.daemon() as daemon:
        found = annotated(daemon.plan(request), files)
    _print(invocation, found)
    _raise_if_refused(found)
    if tell_changes and found.changes:
        ctx.exit(CHANGES)


def _print(invocation: Invocation, found: PlanView) -> None:
    match invocation.output:
        case "json":
            click.echo(document("Plan", found))
        case "markdown":
            click.echo(plan_markdown(found))
        case form:
            click.echo(plan_text(found, every_step=form == "wide"))


def _raise_if_refused(found: PlanView) -> None:
    if found.refused:
        raise Refused("plan.refused", found.refused, hint=found.refused_hint or None)
    blocked = [service for service in found.services if service.blocked and service.action != "unchanged"]
    if blocked:
        sentences = "; ".join(f"{service.name}: {service.blocked}" for service in blocked)
        raise Refused("plan.blocked", sentences)
