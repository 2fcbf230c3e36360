"""Against loss: `stackd cluster backup|restore|force-new`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from stackd.api.locations import default_data_dir
from stackd.api.views import rfc3339
from stackd.base.errors import Refused, StackdError
from stackd.cli.commands.local import DATA_DIR, DOCKER_HOST, EXECUTOR
from stackd.cli.commands.unlocking import ask_unlock_key
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import example, host_option
from stackd.cli.wording import binary_size, count

T = TypeVar("T")

_LOCKED = "security.key.locked"
_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command(
    epilog=example("stackd cluster backup /backup/shop.backup", "stackd cluster backup --data-dir /var/lib/stackd shop.backup")
)
@_FILE
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Read a manager's data directory, whose daemon isn't running, instead of asking the cluster.",
)
@host_option
@pass_invocation
def backup(invocation: Invocation, file: Path, data_dir: Path | None) -> None:
    """Write the cluster's whole state to FILE.

    The cluster goes on meanwhile. Everything but what is in volumes: stacks, services, secrets, certificates, users. Whoever
    has the file has the cluster's key as well, unless autolock is on; keep it as you would keep a key.
    """
    if data_dir is not None:
        from stackd.daemon.recovery import back_up

        _unlocked(invocation, lambda key: back_up(data_dir, file, key))
    else:
        from stackd.raft.backup import store_backup

        with invocation.daemon() as daemon:
            store_backup(file, (piece.data for piece in daemon.backup()))
    click.echo(f"{file} ({binary_size(file.stat().st_size)})")


@click.command(
    epilog=example(
        "stackd cluster restore /backup/shop.backup",
        "stackd cluster restore --data-dir /srv/stackd --advertise-addr 10.0.0.1 /backup/shop.backup",
    )
)
@_FILE
@DATA_DIR
@EXECUTOR
@DOCKER_HOST
@click.option("--listen-addr", default="", metavar="HOST[:PORT]", help="As in `cluster init`.")
@click.option(
    "--advertise-addr", default="", metavar="HOST[:PORT]", help="As in `cluster init`: best that of a manager of old."
)
@pass_invocation
def restore(
    invocation: Invocation,
    file: Path,
    data_dir: Path | None,
    executor: str,
    docker_host: str,
    listen_addr: str,
    advertise_addr: str,
) -> None:
    """Make a manager out of a backup.

    An empty data directory becomes the only manager of the cluster in FILE. Start `stackd daemon` on it afterwards, and let
    other managers join. Workers of old come back by themselves if they find a manager where they knew one. Never do this while
    the cluster of old still runs: there would be two.
    """
    from stackd.daemon import UpOptions
    from stackd.daemon.recovery import restore_node

    where = data_dir or default_data_dir(invocation.environment)
    options = UpOptions(data_dir=where, executor=executor, docker_host=docker_host)
    restored = _unlocked(
        invocation,
        lambda key: restore_node(file, options, listen=listen_addr, advertise=advertise_addr, unlock_key=key),
    )
    held = f"{count(restored.stacks, 'stack')}, {count(restored.nodes, 'node')}"
    click.echo(
        f"Node {restored.identity.node_id} is the manager of the cluster as it was at {rfc3339(restored.as_of)}: {held}."
    )
    click.echo(f"Start it with `stackd daemon --data-dir {where}`; then remove the nodes that are gone (`stackd node ls`).")


@click.command("force-new", epilog=example("stackd cluster force-new", "stackd cluster force-new --data-dir /srv/stackd --yes"))
@DATA_DIR
@click.option("--yes", is_flag=True, help="Don't ask.")
@pass_invocation
def force_new(invocation: Invocation, data_dir: Path | None, yes: bool) -> None:
    """Go on alone after a lost quorum.

    The manager on this machine, whose daemon must not be running, becomes the only one, with all that its log holds. The others
    are not heard any more, and must not be running either: those that come back have to leave and join anew.
    """
    from stackd.daemon import recovery

    where = data_dir or default_data_dir(invocation.environment)
    _confirm(invocation, f"Go on with the manager in {where} alone, and never hear the others again?", yes=yes)
    identity = _unlocked(invocation, lambda key: recovery.force_new(where, key))
    click.echo(f"Node {identity.node_id} is the only manager of its cluster now.")
    click.echo(f"Start it with `stackd daemon --data-dir {where}`; then remove or demote the managers that are gone.")


def _confirm(invocation: Invocation, question: str, *, yes: bool) -> None:
    """Raises click.Abort, or Refused("cli.confirm") where nobody can be asked."""
    if yes:
        return
    if not invocation.interactive:
        raise Refused("cli.confirm", question, hint="--yes goes ahead without asking")
    click.confirm(question, abort=True, err=True)


def _unlocked(invocation: Invocation, work: Callable[[str], T]) -> T:
    """What comes of the work; the unlock key is asked for, or read from stdin, if it takes one."""
    try:
        return work("")
    except StackdError as error:
        if error.code != _LOCKED:
            raise
        return work(ask_unlock_key(invocation))
