"""`stackd service`: one service at a time, looked at or changed by hand."""

from __future__ import annotations

from collections.abc import Callable

import click

from stackd.api.control import (
    ListRequest,
    NameRequest,
    ScaleRequest,
    ServiceDetail,
    UpdateRequest,
)
from stackd.api.views import ServiceView
from stackd.base.time import Duration
from stackd.cli.client import ControlClient
from stackd.cli.commands.logs import logs
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.listing import print_services, print_tasks
from stackd.cli.options import example, host_option, output_option, override_option, wait_options
from stackd.cli.output import document
from stackd.cli.progress import display_of, wait_for
from stackd.cli.rollout import Expectation, rollouts_of
from stackd.cli.servicepage import service_page


@click.group(epilog=example("stackd service ls", "stackd service ps hello_web"))
def service() -> None:
    """Show and change services."""


service.add_command(logs)


@service.command(epilog=example("stackd service ls", "stackd service ls -o json"))
@click.option("--stack", default="", metavar="NAME", help="Only services of this stack.")
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ls(invocation: Invocation, stack: str) -> None:
    """List services."""
    with invocation.daemon() as daemon:
        found = daemon.services(ListRequest(stack=stack)).items
    print_services(invocation, found)


@service.command(epilog=example("stackd service ps hello_web", "stackd service ps hello_web --no-trunc"))
@click.argument("names", nargs=-1, required=True)
@click.option("--no-history", is_flag=True, help="Leave out tasks that are over.")
@click.option("--no-trunc", is_flag=True, help="Show whole ids and errors.")
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ps(invocation: Invocation, names: tuple[str, ...], no_history: bool, no_trunc: bool) -> None:
    r"""List the tasks of services.

    NAMES are STACK_SERVICE, as in `stackd service ls`. By slot, the newest task first; those before it are marked with \_.
    """
    with invocation.daemon() as daemon:
        tasks = [task for name in names for task in daemon.tasks(ListRequest(service=name, history=not no_history)).items]
        found = daemon.services(ListRequest()).items
    print_tasks(invocation, tasks, found, whole=no_trunc)


@service.command(epilog=example("stackd service inspect hello_web", "stackd service inspect hello_web -o json"))
@click.argument("name")
@output_option("table", "json")
@host_option
@pass_invocation
def inspect(invocation: Invocation, name: str) -> None:
    """Show one service in full."""
    with invocation.daemon() as daemon:
        detail: ServiceDetail = daemon.inspect(NameRequest(name=name))
    click.echo(document("Service", detail) if invocation.as_json else service_page(detail, invocation.now()))


@service.command(epilog=example("stackd service scale work_worker=5"))
@click.argument("targets", nargs=-1, required=True, metavar="NAME=REPLICAS...")
@override_option
@wait_options
@host_option
@pass_invocation
def scale(invocation: Invocation, targets: tuple[str, ...], override: bool, detach: bool, timeout: Duration) -> None:
    """Change the number of replicas."""
    wanted = dict(map(_scale_target, targets))

    def change(daemon: ControlClient) -> list[ServiceView]:
        return [
            daemon.scale(ScaleRequest(name=name, replicas=replicas, override=override)) for name, replicas in wanted.items()
        ]

    _change(invocation, change, detach=detach, timeout=timeout)


def _scale_target(text: str) -> tuple[str, int]:
    name, separator, number = text.partition("=")
    if not (name and separator and number.isdecimal()):
        raise click.UsageError(f"{text!r} is not of the form NAME=REPLICAS, such as hello_web=3")
    return name, int(number)


@service.command(
    epilog=example(
        "stackd service update hello_web --image python:3.12-alpine",
        "stackd service update hello_web --force",
    )
)
@click.argument("name")
@click.option("--image", metavar="IMAGE", help="Run this image.")
@click.option("--env-add", multiple=True, metavar="KEY=VALUE", help="Set an environment variable (repeatable).")
@click.option("--env-rm", multiple=True, metavar="KEY", help="Remove an environment variable (repeatable).")
@click.option("--update-parallelism", type=click.IntRange(min=0), help="Tasks replaced at once; 0 means all.")
@click.option(
    "--update-order",
    type=click.Choice(("stop-first", "start-first")),
    help="Whether the old task stops before the new one starts.",
)
@click.option("--force", is_flag=True, help="Replace all tasks even if nothing has changed.")
@override_option
@wait_options
@host_option
@pass_invocation
def update(
    invocation: Invocation,
    name: str,
    image: str | None,
    env_add: tuple[str, ...],
    env_rm: tuple[str, ...],
    update_parallelism: int | None,
    update_order: str | None,
    force: bool,
    override: bool,
    detach: bool,
    timeout: Duration,
) -> None:
    """Change one service by hand, and wait until its tasks are replaced."""
    request = UpdateRequest(
        name=name,
        image=image,
        env_add=_assignments(env_add),
        env_remove=env_rm,
        parallelism=update_parallelism,
        order=update_order,
        force=force,
        override=override,
    )
    if request == UpdateRequest(name=name, override=override):
        raise click.UsageError("nothing to change: give --image, --env-add, --env-rm, --update-... or --force")
    _change(invocation, lambda daemon: [daemon.update(request)], detach=detach, timeout=timeout)


def _assignments(entries: tuple[str, ...]) -> tuple[str, ...]:
    for entry in entries:
        if not entry.partition("=")[0] or "=" not in entry:
            raise click.UsageError(f"--env-add: {entry!r} is not of the form KEY=VALUE")
    return entries


@service.command(epilog=example("stackd service rollback hello_web"))
@click.argument("name")
@override_option
@wait_options
@host_option
@pass_invocation
def rollback(invocation: Invocation, name: str, override: bool, detach: bool, timeout: Duration) -> None:
    """Go back to what a service was before its last change."""
    request = NameRequest(name=name, override=override)
    _change(invocation, lambda daemon: [daemon.rollback(request)], detach=detach, timeout=timeout, is_rollback=True)


@service.command(epilog=example("stackd service rm hello_web --override"))
@click.argument("names", nargs=-1, required=True)
@override_option
@host_option
@pass_invocation
def rm(invocation: Invocation, names: tuple[str, ...], override: bool) -> None:
    """Remove services; volumes stay.

    With --override, what a source owns comes back at its next sync.
    """
    with invocation.daemon() as daemon:
        for name in names:
            daemon.remove_service(NameRequest(name=name, override=override))
            click.echo(name)


def _change(
    invocation: Invocation,
    change: Callable[[ControlClient], list[ServiceView]],
    *,
    detach: bool,
    timeout: Duration,
    is_rollback: bool = False,
) -> None:
    """Make a change by hand and wait until it is true, as `apply` does."""
    with invocation.daemon() as daemon:
        earlier = rollouts_of(daemon.services(ListRequest()).items)
        changed = change(daemon)
        names = tuple(one.name for one in changed)
        if not detach:
            expectation = Expectation(services=names, earlier_rollouts=earlier, rollback=is_rollback)
            wait_for(daemon, display_of(invocation), expectation, timeout)
    for name in names:
        click.echo(name if detach else f"{name} converged")
