"""Autolock: `stackd cluster unlock|unlock-key`."""

from __future__ import annotations

import sys

import click

from stackd.api.cluster import AutolockRequest
from stackd.api.local import UnlockRequest
from stackd.base.errors import Refused
from stackd.cli.clusterpages import unlock_key_page
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import example, host_option, output_option, own_host_option
from stackd.cli.output import document


@click.command(epilog=example("stackd cluster unlock", "stackd cluster unlock < unlock-key"))
@own_host_option
@pass_invocation
def unlock(invocation: Invocation) -> None:
    """Let a manager start that waits for its unlock key.

    The key is asked for, or read from stdin; it is no argument, since those are visible to everybody on the machine.
    """
    with invocation.own_daemon() as daemon:
        here = daemon.unlock(UnlockRequest(key=ask_unlock_key(invocation)))
    click.echo(f"Unlocked: this node is a {here.state}.")


@click.command(epilog=example("stackd cluster unlock-key", "stackd cluster unlock-key --rotate"))
@click.option("--rotate", is_flag=True, help="Make a new one first.")
@click.option("-q", "--quiet", is_flag=True, help="Print the key alone.")
@output_option("table", "json")
@host_option
@pass_invocation
def unlock_key(invocation: Invocation, rotate: bool, quiet: bool) -> None:
    """Show the key that managers need to start.

    After a rotation keep the old key until every manager has been up once: one that was off still needs it.
    """
    with invocation.daemon() as daemon:
        key = daemon.unlock_key().key
        if not key:
            hint = "`stackd cluster update --autolock` turns it on"
            raise Refused("cli.autolock.off", "managers start without an unlock key", hint=hint)
        if rotate:
            key = daemon.set_autolock(AutolockRequest(on=True, rotate=True)).key
    if invocation.as_json:
        click.echo(document("UnlockKey", {"key": key}))
    else:
        click.echo(key if quiet else unlock_key_page(key))


def ask_unlock_key(invocation: Invocation) -> str:
    """The unlock key from a person who doesn't see it, or from stdin."""
    key = click.prompt("Unlock key", hide_input=True, err=True) if invocation.interactive else sys.stdin.readline()
    return str(key).strip()
