"""The certificate authority, and who may use the cluster from afar: `stackd cluster ca`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from stackd.api.cluster import IssuedUser, IssueUserRequest, RotateRootRequest, UserRequest
from stackd.api.views import ClusterInfoView
from stackd.base.errors import StackdError
from stackd.base.time import SECOND, Duration, Instant
from stackd.cli.client import ControlClient
from stackd.cli.clusterpages import authority_lines
from stackd.cli.commands.objects import content_of
from stackd.cli.contexts import Context, encode_context, encode_token, lifetime, load_context, store_context
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import DURATION, example, host_option, output_option, wait_options
from stackd.cli.output import document, list_document, page, table
from stackd.cli.settling import Sight, settle
from stackd.cli.wording import ago, count
from stackd.engine.parts import UserRole
from stackd.security.identity import NodeKey

_ISSUE = "`stackd cluster ca user NAME --role ROLE`"


@click.group(
    epilog=example(
        "stackd cluster ca info", "stackd cluster ca rotate", "stackd cluster ca user ann --role viewer --out ann.json"
    )
)
def ca() -> None:
    """The certificates of nodes and people."""


@ca.command(epilog=example("stackd cluster ca info"))
@output_option("table", "json")
@host_option
@pass_invocation
def info(invocation: Invocation) -> None:
    """Show the root certificate's digest, and how far a rotation is."""
    with invocation.daemon() as daemon:
        found = daemon.cluster_info()
    if invocation.as_json:
        click.echo(document("Authority", _facts(found)))
    else:
        click.echo(page(authority_lines(found, invocation.now())) if found.root_digest else "The cluster has no certificates.")


@ca.command(
    epilog=example(
        "stackd cluster ca rotate",
        "stackd cluster ca rotate --ca-cert root.pem --ca-key root.key",
        "stackd cluster ca rotate > new-token    # with a user token in $STACKD_CONTEXT",
    )
)
@click.option("--ca-cert", metavar="FILE", help="Root certificate (PEM) to take instead of a new one.")
@click.option("--ca-key", metavar="FILE", help="Its key (PEM).")
@wait_options
@output_option("table", "json")
@host_option
@pass_invocation
def rotate(invocation: Invocation, ca_cert: str | None, ca_key: str | None, detach: bool, timeout: Duration) -> None:
    """Replace the root certificate.

    The command ends when every node uses the new one. Nodes that are down hold it up; remove those that don't come back. Join
    tokens are new afterwards. The contexts of people work until then, and have to be issued anew; one with which this is
    called is replaced where it lies, and in place of a user token another one is printed.
    """
    if bool(ca_cert) != bool(ca_key):
        raise click.UsageError("--ca-cert and --ca-key belong together")
    request = RotateRootRequest(root=content_of(ca_cert) if ca_cert else b"", key=content_of(ca_key) if ca_key else b"")
    with invocation.daemon() as daemon:
        found = daemon.rotate_root(request)
        own = _issue_own_anew(invocation, daemon)
        others = [f"{one.name} ({one.role})" for one in daemon.users().items if own is None or one.name != own.name]
    token = _put_in_place(invocation, own) if own is not None else ""
    if others:
        click.echo(f"contexts work until the rotation ends; issue them anew for {', '.join(others)}: {_ISSUE}", err=True)
    try:
        if not detach:
            with invocation.daemon() as daemon:  # with the new context: managers soon accept no other
                settle(invocation, lambda: _sight(daemon), timeout, "it goes on; `stackd cluster ca info` shows it")
                found = daemon.cluster_info()
    finally:
        if invocation.as_json:
            click.echo(document("Authority", _facts(found) | ({"token": token} if token else {})))
    if not invocation.as_json:
        how_far = "The root certificate is being replaced; `stackd cluster ca info` shows how far it is."
        done = f"Every node uses the new root certificate ({found.root_digest})."
        click.echo(how_far if detach else done, err=bool(token))


def _issue_own_anew(invocation: Invocation, daemon: ControlClient) -> Context | None:
    """The context with which this was called, with a certificate of the new root; None if there is none."""
    if not invocation.given_context:
        return None
    present, key = load_context(invocation.given_context, invocation.environment), NodeKey.create()
    life = lifetime(present.certificate.encode()) // SECOND
    request = IssueUserRequest(name=present.name, role=UserRole(present.role), request=key.request(), life_seconds=life)
    return _context(present.name, present.role, key, daemon.issue_user(request))


def _put_in_place(invocation: Invocation, context: Context) -> str:
    """Let this context take the place of the one with which this was called, and go on with it; the user token that it is, ""
    for a file. A token can't be replaced where it is, so it is shown at once: it counts whatever becomes of the waiting."""
    if (path := invocation.context_file()) is not None:
        store_context(path, context)
        click.echo(f"the context {path} is a new one", err=True)
        return ""
    token = encode_token(context)
    invocation.go_on_with(token)
    click.echo(f"the user token of {context.name} works until the rotation ends; this one takes its place", err=True)
    if not invocation.as_json:
        click.echo(token)
    return token


def _facts(found: ClusterInfoView) -> dict[str, object]:
    return {
        "root_digest": found.root_digest,
        "certificate_life_seconds": found.certificate_life_seconds,
        "rotation": found.rotation,
    }


def _sight(daemon: ControlClient) -> Sight:
    rotation = daemon.cluster_info().rotation
    if rotation is None:
        return Sight({"root": "every node has moved"}, True)
    names = {one.id: one.hostname for one in daemon.nodes().items}
    behind = ", ".join(names.get(one, one) for one in rotation.behind)
    return Sight({"root": f"{count(len(rotation.behind), 'node')} still to move: {behind}" if behind else "ending"}, False)


@ca.command(
    epilog=example(
        "stackd cluster ca user ann --role deployer --out ann.json",
        "stackd cluster ca user ann --role viewer --out ~/.config/stackd/contexts/shop.json",
        "stackd cluster ca user ci --role deployer --token --expiry 720h",
        "stackd cluster ca user ann --rm",
    )
)
@click.argument("name")
@click.option(
    "--role", type=click.Choice([one.value for one in UserRole]), help="What that one may do: look, deploy, or everything."
)
@click.option("--expiry", type=DURATION, help="How long the certificate lives (default: a year).")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the context there, for its owner alone.")
@click.option("--token", "as_token", is_flag=True, help="One line for $STACKD_CONTEXT instead, for a CI job's secrets.")
@click.option("--rm", "remove", is_flag=True, help="Let that one in no longer; what is open ends at once.")
@host_option
@pass_invocation
def user(
    invocation: Invocation,
    name: str,
    role: str | None,
    expiry: Duration | None,
    out: Path | None,
    as_token: bool,
    remove: bool,
) -> None:
    """Let a person use the cluster from afar.

    Prints the context for `--context`. The key in it is made here and is known to nobody else.
    """
    if remove is (role is not None):
        raise click.UsageError("give either --role or --rm")
    if remove and (as_token or out is not None or expiry):
        raise click.UsageError("--rm goes alone")
    if out is not None and out.exists():
        raise _not_written(out, "there is a file already")
    with invocation.daemon() as daemon:
        if role is None:
            daemon.remove_user(UserRequest(name=name))
            click.echo(name)
            return
        key = NodeKey.create()
        request = IssueUserRequest(
            name=name, role=UserRole(role), request=key.request(), life_seconds=expiry // SECOND if expiry else 0
        )
        issued = daemon.issue_user(request)
    context = _context(name, role, key, issued)
    _hand_over(f"{encode_token(context)}\n" if as_token else encode_context(context), out)


def _context(name: str, role: str, key: NodeKey, issued: IssuedUser) -> Context:
    return Context(
        name=name,
        role=role,
        managers=issued.managers,
        certificate=issued.certificate.decode(),
        key=key.pem().decode(),
        roots=issued.roots.decode(),
    )


def _hand_over(text: str, out: Path | None) -> None:
    """Print the context, or write it to a new file that only its owner can read."""
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise _not_written(out, error.strerror or str(error)) from error
    click.echo(out)


def _not_written(out: Path, why: str) -> StackdError:
    return StackdError("cli.context.not_written", f"can't write {out}: {why}", hint="choose another file with --out")


@ca.command(epilog=example("stackd cluster ca users"))
@output_option("table", "json", "name")
@host_option
@pass_invocation
def users(invocation: Invocation) -> None:
    """List the people who may use the cluster from afar."""
    with invocation.daemon() as daemon:
        found = daemon.users().items
    match invocation.output:
        case "json":
            click.echo(list_document("UserList", found))
        case "name":
            for one in found:
                click.echo(one.name)
        case _:
            now: Instant = invocation.now()
            click.echo(table(("NAME", "ROLE", "CREATED"), ((one.name, one.role, ago(one.created_at, now)) for one in found)))
