"""How a node comes into a cluster and leaves it: `stackd cluster init|join|join-token|leave`."""

from __future__ import annotations

from concurrent.futures import Future

import click

from stackd.api.cluster import JoinTokenRequest, JoinTokenResponse
from stackd.api.local import InitRequest, JoinClusterRequest, LeaveClusterRequest, LocalNodeView
from stackd.base.time import Duration
from stackd.cli.background import in_background
from stackd.cli.client import ControlClient
from stackd.cli.clusterpages import join_page
from stackd.cli.commands.objects import content_of
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import DEFAULT_WAIT, DURATION, example, host_option, output_option, own_host_option
from stackd.cli.output import document
from stackd.cli.settling import Sight, settle
from stackd.engine.parts import Availability, Role

_IDLE = "idle"
_GOES_ON = "what has begun goes on; `stackd cluster info` shows it"

_LISTEN = click.option(
    "--listen-addr",
    default="",
    metavar="HOST[:PORT]",
    help="Where it listens as a manager, on this port and the two that follow (default: all addresses, port 2377).",
)
_ADVERTISE = click.option(
    "--advertise-addr",
    default="",
    metavar="HOST[:PORT]",
    help="Where others reach it as a manager (default: the address of the default route).",
)


@click.command(
    epilog=example("stackd cluster init", "stackd cluster init --listen-addr 10.0.0.1:2377 --advertise-addr 203.0.113.7")
)
@_LISTEN
@_ADVERTISE
@click.option("--ca-cert", metavar="FILE", help="Root certificate (PEM) to use instead of a new one.")
@click.option("--ca-key", metavar="FILE", help="Its key (PEM).")
@output_option("table", "json")
@own_host_option
@pass_invocation
def init(invocation: Invocation, listen_addr: str, advertise_addr: str, ca_cert: str | None, ca_key: str | None) -> None:
    """Found a cluster that others can join.

    This node is its first manager: `stackd daemon` or `stackd up` runs here, and what it runs already stays.
    """
    if bool(ca_cert) != bool(ca_key):
        raise click.UsageError("--ca-cert and --ca-key belong together")
    request = InitRequest(
        listen=listen_addr,
        advertise=advertise_addr,
        root=content_of(ca_cert) if ca_cert else b"",
        key=content_of(ca_key) if ca_key else b"",
    )
    with invocation.own_daemon() as daemon:
        here = daemon.init_cluster(request)
        token = daemon.join_token(JoinTokenRequest(role=Role.WORKER))
    if invocation.as_json:
        click.echo(document("Node", here))
        return
    click.echo(f"Cluster initialized: this node ({here.node_id}) is now a manager.\n\n{join_page('worker', token)}")
    click.echo("To add a manager, run `stackd cluster join-token manager` and follow what it says.")


@click.command(epilog=example("stackd cluster join --token STKN-1-... 10.0.0.1", "stackd cluster join --token - 10.0.0.1:2377"))
@click.argument("manager", metavar="HOST[:PORT]")
@click.option("--token", required=True, metavar="TOKEN", help="What `join-token` prints on a manager; - reads it from stdin.")
@_LISTEN
@_ADVERTISE
@click.option(
    "--availability",
    type=click.Choice([one.value for one in Availability]),
    default="active",
    show_default=True,
    help="Whether it takes tasks.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default=DEFAULT_WAIT,
    show_default=True,
    help="Stop waiting until it is ready. 0 waits for ever.",
)
@output_option("table", "json")
@own_host_option
@pass_invocation
def join(
    invocation: Invocation,
    manager: str,
    token: str,
    listen_addr: str,
    advertise_addr: str,
    availability: str,
    timeout: Duration,
) -> None:
    """Let this node join a cluster.

    HOST is any of its managers. The token says whether the node comes as a worker or as a manager. `stackd daemon` runs here
    already; the command ends when the node is ready.
    """
    request = JoinClusterRequest(
        token=content_of("-").decode("ascii", "replace").strip() if token == "-" else token,
        manager=manager,
        listen=listen_addr,
        advertise=advertise_addr,
        availability=availability,
    )
    with invocation.own_daemon() as daemon:
        click.echo(f"asking {manager} for a place in its cluster", err=True)
        joined = in_background(lambda: daemon.join_cluster(request))
        settle(invocation, lambda: _join_sight(daemon, joined), timeout, _GOES_ON)
        joined.result()
        here = daemon.local_node()
    if invocation.as_json:
        click.echo(document("Node", here))
    else:
        click.echo(f"This node ({here.node_id}) joined the cluster as a {here.state}.")


def _join_sight(daemon: ControlClient, joined: Future[LocalNodeView]) -> Sight:
    """How far the node is, which has come to the end of it when it is ready, or was refused."""
    here = daemon.local_node()
    if joined.done() and joined.exception() is not None:
        return Sight({}, True)
    ready = joined.done() and here.state in (Role.WORKER, Role.MANAGER) and not here.message
    return Sight({"node": line} if (line := _progress(here, ready=ready)) else {}, ready)


def _progress(here: LocalNodeView, *, ready: bool) -> str:
    """One line; "" while there is nothing to tell. What a command is at says more than what the node waits for."""
    if ready:
        return f"{here.state}: ready"
    if here.state == _IDLE:
        return here.doing
    what = here.doing or here.message
    return f"{here.state}: {what}" if what else ""


@click.command(epilog=example("stackd cluster join-token worker", "stackd cluster join-token --rotate manager"))
@click.argument("role", type=click.Choice([one.value for one in Role]))
@click.option("--rotate", is_flag=True, help="Make a new one first; the one before lets nobody in any more.")
@click.option("-q", "--quiet", is_flag=True, help="Print the token alone.")
@output_option("table", "json")
@host_option
@pass_invocation
def join_token(invocation: Invocation, role: str, rotate: bool, quiet: bool) -> None:
    """Show with which command another node joins.

    A token is a secret: with a manager's one gets the keys of the cluster.
    """
    request = JoinTokenRequest(role=Role(role))
    with invocation.daemon() as daemon:
        answer: JoinTokenResponse = daemon.rotate_token(request) if rotate else daemon.join_token(request)
    if invocation.as_json:
        click.echo(document("JoinToken", {"role": role, "token": answer.token, "addresses": answer.addresses}))
    elif quiet:
        click.echo(answer.token)
    else:
        done = f"The join token of {role}s is a new one.\n\n" if rotate else ""
        click.echo(f"{done}{join_page(role, answer)}", nl=False)


@click.command(epilog=example("stackd cluster leave", "stackd cluster leave --force"))
@click.option(
    "--force",
    is_flag=True,
    help="Also if no manager answers, or if this is a manager that the others can't do without: its part of the state is lost.",
)
@own_host_option
@pass_invocation
def leave(invocation: Invocation, force: bool) -> None:
    """Take this node out of its cluster.

    Its tasks are stopped, and start elsewhere. A manager is let go only if the others can agree on something without it.
    """
    with invocation.own_daemon() as daemon:
        left = in_background(lambda: daemon.leave_cluster(LeaveClusterRequest(force=force)))
        settle(invocation, lambda: _leave_sight(daemon, left), Duration(0), _GOES_ON)
        left.result()
    click.echo("Node left the cluster.")


def _leave_sight(daemon: ControlClient, left: Future[LocalNodeView]) -> Sight:
    """A node that has left has nothing more to tell."""
    if left.done():
        return Sight({}, True)
    here = daemon.local_node()
    return Sight({"node": f"{here.state}: {here.doing}"} if here.doing else {}, False)
