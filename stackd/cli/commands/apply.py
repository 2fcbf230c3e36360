"""`stackd apply`: deploy stack files by hand and wait until they are true."""

from __future__ import annotations

import time

import click

from stackd.api.control import ApplyRequest, ApplyResponse, ListRequest, PlanRequest
from stackd.api.views import PlanView
from stackd.base.errors import Refused
from stackd.base.time import Duration
from stackd.cli.client import ControlClient
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import StackSelection, example, file_options, host_option, output_option, wait_options
from stackd.cli.output import document
from stackd.cli.planprint import summary
from stackd.cli.progress import display_of, wait_for
from stackd.cli.rollout import Expectation, rollouts_of
from stackd.cli.stackfiles import StackFile, read_stacks
from stackd.cli.wording import clock_time, count


@click.command(epilog=example("stackd apply -f stacks/shop/stack.yaml", "stackd apply -f stacks/ --timeout 5m --yes"))
@file_options
@click.option("--adopt", is_flag=True, help="Take over stacks that belong to a source.")
@click.option("--yes", is_flag=True, help="Don't ask before removals and take-overs, as a script has to.")
@wait_options
@output_option("table", "json")
@host_option
@pass_invocation
def apply(
    invocation: Invocation,
    selection: StackSelection,
    adopt: bool,
    yes: bool,
    detach: bool,
    timeout: Duration,
) -> None:
    """Deploy stack files by hand and wait until all tasks run.

    Asks only before services are removed or stacks taken over. Exit code 4: not converged in time; 5: the rollout is
    paused or has failed; 6: it was rolled back.
    """
    files = read_stacks(selection, invocation.environment)
    started = time.monotonic()
    with invocation.daemon() as daemon:
        plan = _plan(daemon, files, adopt=adopt)
        asked = _confirm(daemon, invocation, files, plan, adopt=adopt, yes=yes)
        earlier = rollouts_of(daemon.services(ListRequest()).items)
        response = daemon.apply(
            ApplyRequest(
                stacks=tuple(file.spec for file in files),
                files=tuple(file.path for file in files),
                adopt=adopt,
                base_version=plan.base_version if asked else 0,
            )
        )
        _say_stored(response, plan)
        if not detach:
            expectation = Expectation(services=response.services, gone=_removals(plan), earlier_rollouts=earlier)
            wait_for(daemon, display_of(invocation), expectation, timeout)
    _print_result(invocation, response, waited=None if detach else time.monotonic() - started)


def _plan(daemon: ControlClient, files: tuple[StackFile, ...], *, adopt: bool) -> PlanView:
    """The plan, so that removals are known before anything happens. Raises Refused where the cluster would refuse."""
    request = PlanRequest(stacks=tuple(file.spec for file in files), files=tuple(file.path for file in files), adopt=adopt)
    plan = daemon.plan(request)
    if plan.refused:
        raise Refused("apply.refused", plan.refused, hint=plan.refused_hint or None)
    return plan


def _removals(plan: PlanView) -> tuple[str, ...]:
    return tuple(service.name for service in plan.services if service.action == "remove")


def _confirm(
    daemon: ControlClient,
    invocation: Invocation,
    files: tuple[StackFile, ...],
    plan: PlanView,
    *,
    adopt: bool,
    yes: bool,
) -> bool:
    """Ask before what can't be undone: whether a person was asked. Raises Refused where the answer is no, or where
    nobody can be asked."""
    removals = _removals(plan)
    taken = _taken_over(daemon, files) if adopt else ()
    doings = []
    if removals:
        doings.append(f"removes {count(len(removals), 'service')} ({', '.join(removals)})")
    if taken:
        doings.append(f"takes {', '.join(taken)}")
    if not doings or yes:
        return False
    what = f"This {' and '.join(doings)}."
    if not invocation.interactive:
        raise Refused("apply.confirm", what, hint="--yes goes ahead without asking")
    if not click.confirm(f"{what} Go ahead?", err=True):
        raise Refused("apply.declined", "nothing was changed")
    return True


def _taken_over(daemon: ControlClient, files: tuple[StackFile, ...]) -> tuple[str, ...]:
    """The stacks that belong to a source at present, with its name."""
    ours = {file.spec.name for file in files}
    return tuple(
        f"stack {stack.name} from source {stack.source}"
        for stack in daemon.stacks().items
        if stack.name in ours and stack.source
    )


def _say_stored(response: ApplyResponse, plan: PlanView) -> None:
    click.echo(summary(plan) if response.changed else "No changes: the cluster is asked for this already.", err=True)


def _print_result(invocation: Invocation, response: ApplyResponse, *, waited: float | None) -> None:
    if invocation.as_json:
        result = {
            "revision": response.revision,
            "changed": response.changed,
            "converged": waited is not None,
            "services": list(response.services),
        }
        click.echo(document("ApplyResult", result))
        return
    services = count(len(response.services), "service")
    if waited is None:
        click.echo(f"Revision {response.revision[:12]}: {services} under way." if response.changed else "Unchanged.")
    else:
        click.echo(f"Converged: {services} in {clock_time(waited)}.")
