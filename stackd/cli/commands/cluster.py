"""`stackd cluster`: the cluster as a whole."""

from __future__ import annotations

import click

from stackd.api.cluster import AutolockRequest, ChangeCertificatesRequest
from stackd.api.control import ClusterRequest
from stackd.api.views import ClusterInfoView
from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.base.time import SECOND, Duration
from stackd.cli.client import ControlClient
from stackd.cli.clusterpages import info_page, settings_page, unlock_key_page
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.lazy import LazyGroup
from stackd.cli.options import DURATION, example, host_option, output_option
from stackd.cli.output import document

_PACKAGE = "stackd.cli.commands"
_NO_LEADER = "manager.no_leader"
_LOST_QUORUM = (
    "if it stays so, bring back the managers that this one doesn't reach; only if they are gone for good: `stackd cluster "
    "force-new --help`"
)
_NO_CLUSTER_HERE = ("daemon.no_cluster", "daemon.not_a_manager", "daemon.locked")


@click.group(
    cls=LazyGroup,
    commands_at={
        "init": f"{_PACKAGE}.joining:init",
        "join": f"{_PACKAGE}.joining:join",
        "join-token": f"{_PACKAGE}.joining:join_token",
        "leave": f"{_PACKAGE}.joining:leave",
        "info": f"{_PACKAGE}.cluster:info",
        "update": f"{_PACKAGE}.cluster:update",
        "ca": f"{_PACKAGE}.authority:ca",
        "unlock": f"{_PACKAGE}.unlocking:unlock",
        "unlock-key": f"{_PACKAGE}.unlocking:unlock_key",
        "backup": f"{_PACKAGE}.recovery:backup",
        "restore": f"{_PACKAGE}.recovery:restore",
        "force-new": f"{_PACKAGE}.recovery:force_new",
    },
    epilog=example("stackd cluster init --advertise-addr 10.0.0.1", "stackd cluster join --token STKN-1-... 10.0.0.1"),
)
def cluster() -> None:
    """Form a cluster, and show and change it as a whole."""


@click.command(epilog=example("stackd cluster info", "stackd cluster info -o json"))
@output_option("table", "json")
@host_option
@pass_invocation
def info(invocation: Invocation) -> None:
    """Show the cluster, and this node's place in it.

    On a worker, or on a node in no cluster, only the latter; and while nobody leads, followed by the error that says so.
    """
    with invocation.daemon() as daemon:
        here = daemon.local_node() if invocation.is_local else None
        found: ClusterInfoView | None = None
        trouble: StackdError | None = None
        try:
            found = daemon.cluster_info()
        except (Refused, Unavailable) as error:
            if here is None or error.code not in (*_NO_CLUSTER_HERE, _NO_LEADER):
                raise
            trouble = error
    if invocation.as_json:
        click.echo(document("ClusterInfo", {"node": here, "cluster": found}))
    else:
        click.echo(info_page(here, found, invocation.now()))
    if trouble is not None and trouble.code == _NO_LEADER:
        raise Unavailable(_NO_LEADER, trouble.message, hint=_LOST_QUORUM)


@click.command(
    epilog=example(
        "stackd cluster update --rebalance 2",
        "stackd cluster update --autolock",
        "stackd cluster update --default-addr-pool 10.64.0.0/12 --default-addr-pool-mask-length 22",
    )
)
@click.option("--rebalance", type=int, metavar="N", help="Move N tasks at a time to a node that joins or comes back; 0: none.")
@click.option("--history", type=int, metavar="N", help="Records of tasks that are kept per slot.")
@click.option(
    "--default-addr-pool",
    "pools",
    multiple=True,
    metavar="CIDR",
    help="Where the subnets of new networks are taken from (repeatable; takes the place of those before).",
)
@click.option("--default-addr-pool-mask-length", "mask_length", type=int, metavar="BITS", help="Size of those subnets.")
@click.option("--cert-expiry", type=DURATION, help="How long certificates of nodes live that are issued from now on.")
@click.option("--autolock/--no-autolock", default=None, help="Whether a manager needs the unlock key to start.")
@output_option("table", "json")
@host_option
@pass_invocation
def update(
    invocation: Invocation,
    rebalance: int | None,
    history: int | None,
    pools: tuple[str, ...],
    mask_length: int | None,
    cert_expiry: Duration | None,
    autolock: bool | None,
) -> None:
    """Change settings of the cluster, and show them."""
    request = ClusterRequest(history=history, rebalance=rebalance, address_pools=pools or None, subnet_bits=mask_length)
    with invocation.daemon() as daemon:
        settings = daemon.update_cluster(request)
        if cert_expiry is not None:
            daemon.change_certificates(ChangeCertificatesRequest(life_seconds=cert_expiry // SECOND))
        key = _set_autolock(daemon, autolock)
        click.echo(document("Cluster", settings) if invocation.as_json else settings_page(daemon.cluster_info()))
    if key:
        click.echo(unlock_key_page(key), err=True)


def _set_autolock(daemon: ControlClient, on: bool | None) -> str:
    """The unlock key if managers are locked from now on."""
    return daemon.set_autolock(AutolockRequest(on=on)).key if on is not None else ""
