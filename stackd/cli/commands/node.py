"""`stackd node`: the machines, and what they are for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import click
import msgspec

from stackd.api.cluster import RemoveNodeRequest, UpdateNodeRequest
from stackd.api.control import ListRequest
from stackd.api.views import NodeView
from stackd.base.errors import NotFound, Refused
from stackd.base.time import Duration
from stackd.cli.client import ControlClient
from stackd.cli.commands.objects import key_values
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.listing import print_tasks
from stackd.cli.nodepages import node_page, node_table
from stackd.cli.options import example, host_option, output_option, wait_options
from stackd.cli.output import document, list_document
from stackd.cli.settling import Sight, settle
from stackd.cli.wording import count
from stackd.engine.parts import Availability, Role
from stackd.engine.taskstate import TaskState, is_terminal

SELF = "self"
"""Stands for the node that answers, as in Docker."""

_NO_MANAGER = ("daemon.not_a_manager", "api.access.denied")
"""How a node refuses that was a manager until now: of its own accord, or because the leader doesn't hear it any more."""

_GOES_ON = "it goes on; `stackd node ls` shows it, and `stackd cluster info` there what a node waits for"

_OVER = frozenset(state.word for state in TaskState if is_terminal(state))


@click.group(epilog=example("stackd node ls", "stackd node update --availability drain east"))
def node() -> None:
    """Show and change the nodes of the cluster.

    A node is named by its hostname, its id or the beginning of it; `self` is the one that answers.
    """


@node.command(epilog=example("stackd node ls", "stackd node ls -o wide"))
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ls(invocation: Invocation) -> None:
    """List nodes; a star marks the one that answers."""
    with invocation.daemon() as daemon:
        nodes = _nodes(daemon)
    match invocation.output:
        case "json":
            click.echo(list_document("NodeList", nodes))
        case "name":
            for one in nodes:
                click.echo(one.hostname)
        case form:
            click.echo(node_table(nodes, wide=form == "wide"))


@node.command(epilog=example("stackd node inspect self", "stackd node inspect east -o json"))
@click.argument("name", default=SELF)
@output_option("table", "json")
@host_option
@pass_invocation
def inspect(invocation: Invocation, name: str) -> None:
    """Show one node in full."""
    with invocation.daemon() as daemon:
        one = _node(daemon, name)
    click.echo(document("Node", one) if invocation.as_json else node_page(one, invocation.now()))


@node.command(epilog=example("stackd node ps", "stackd node ps east --no-history"))
@click.argument("names", nargs=-1)
@click.option("--no-history", is_flag=True, help="Leave out tasks that are over.")
@click.option("--no-trunc", is_flag=True, help="Show whole ids and errors.")
@output_option("table", "wide", "json", "name")
@host_option
@pass_invocation
def ps(invocation: Invocation, names: tuple[str, ...], no_history: bool, no_trunc: bool) -> None:
    """List the tasks of nodes.

    Those of the node that answers if none is named.
    """
    with invocation.daemon() as daemon:
        ids = [_node(daemon, name).id for name in names or (SELF,)]
        tasks = [task for one in ids for task in daemon.tasks(ListRequest(node=one, history=not no_history)).items]
        services = daemon.services(ListRequest()).items
    print_tasks(invocation, tasks, services, whole=no_trunc)


@node.command(
    epilog=example(
        "stackd node update --availability drain east",
        "stackd node update --label-add disk=ssd --label-rm old east",
    )
)
@click.argument("name")
@click.option(
    "--availability",
    type=click.Choice([one.value for one in Availability]),
    help="active takes tasks, pause keeps those it has and takes no more, drain moves all of them away.",
)
@click.option("--role", type=click.Choice([one.value for one in Role]), help="What it shall be, as `promote` and `demote`.")
@click.option("--label-add", "labels", multiple=True, metavar="KEY[=VALUE]", help="Add or replace a label (repeatable).")
@click.option("--label-rm", "labels_removed", multiple=True, metavar="KEY", help="Remove a label (repeatable).")
@wait_options
@host_option
@pass_invocation
def update(
    invocation: Invocation,
    name: str,
    availability: str | None,
    role: str | None,
    labels: tuple[str, ...],
    labels_removed: tuple[str, ...],
    detach: bool,
    timeout: Duration,
) -> None:
    """Change a node, and wait until it is so.

    With `--availability drain` that is when nothing runs there any more.
    """
    if not (availability or role or labels or labels_removed):
        raise click.UsageError("say what to change: --availability, --role, --label-add or --label-rm")
    with invocation.daemon() as daemon:
        request = UpdateNodeRequest(
            name=_node(daemon, name).id,
            availability=Availability(availability) if availability else None,
            role=Role(role) if role else None,
            labels=key_values(labels),
            labels_removed=labels_removed,
        )
        waiting = _Waiting(invocation, daemon, timeout)
        changed = daemon.update_node(request)
        if not detach and availability == Availability.DRAIN:
            waiting.until(changed.id, partial(_drained, daemon))
        if not detach and role:
            waiting.until(changed.id, _has_role)
    click.echo(changed.hostname)


@node.command(epilog=example("stackd node promote east west"))
@click.argument("names", nargs=-1, required=True)
@wait_options
@host_option
@pass_invocation
def promote(invocation: Invocation, names: tuple[str, ...], detach: bool, timeout: Duration) -> None:
    """Make workers managers, and wait until they are."""
    _change_role(invocation, names, Role.MANAGER, detach=detach, timeout=timeout)


@node.command(epilog=example("stackd node demote east"))
@click.argument("names", nargs=-1, required=True)
@wait_options
@host_option
@pass_invocation
def demote(invocation: Invocation, names: tuple[str, ...], detach: bool, timeout: Duration) -> None:
    """Make managers workers, and wait until they are.

    Refused if the managers that are left could not agree on anything.
    """
    _change_role(invocation, names, Role.WORKER, detach=detach, timeout=timeout)


@node.command(epilog=example("stackd node rm west", "stackd node rm --force west"))
@click.argument("names", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also if it isn't down; its tasks are started elsewhere at once.")
@host_option
@pass_invocation
def rm(invocation: Invocation, names: tuple[str, ...], force: bool) -> None:
    """Take nodes out of the cluster for good.

    A node that is up leaves by itself with `stackd cluster leave`; a manager is demoted first.
    """
    with invocation.daemon() as daemon:
        for name in names:
            one = _node(daemon, name)
            daemon.remove_node(RemoveNodeRequest(name=one.id, force=force))
            click.echo(one.hostname)


def _nodes(daemon: ControlClient) -> tuple[NodeView, ...]:
    """All nodes, the one that was asked marked."""
    asked, nodes = daemon.version().node_id, daemon.nodes().items
    return tuple(msgspec.structs.replace(one, self_=one.id == asked) for one in nodes) if asked else nodes


def _node(daemon: ControlClient, name: str) -> NodeView:
    """The node that people call `name`. Raises NotFound("node.unknown") or Refused("node.ambiguous")."""
    nodes = _nodes(daemon)
    exactly = [one for one in nodes if name in (one.id, one.hostname) or (name == SELF and one.self_)]
    found = exactly or [one for one in nodes if len(name) >= 4 and one.id.startswith(name)]
    if not found:
        raise NotFound("node.unknown", f'no node named "{name}"', hint="`stackd node ls` lists them")
    if len(found) > 1:
        raise Refused("node.ambiguous", f'{len(found)} nodes are called "{name}"', hint="name it by its id (`stackd node ls`)")
    return found[0]


def _change_role(invocation: Invocation, names: Sequence[str], role: Role, *, detach: bool, timeout: Duration) -> None:
    """One after the other: what the managers can do without depends on how many there are by then."""
    with invocation.daemon() as daemon:
        ids = [_node(daemon, name).id for name in names]
        waiting = _Waiting(invocation, daemon, timeout)
        for one in ids:
            changed = daemon.update_node(UpdateNodeRequest(name=one, role=role))
            if not detach:
                waiting.until(one, _has_role)
            click.echo(f"{changed.hostname} is {'to be ' if detach else ''}a {role}")


_Judge = Callable[[NodeView], tuple[str, bool]]
"""How far a node is, in words, and whether it is there."""


class _Waiting:
    """Waits for nodes. Made before anything is changed: the node that answers may be the one that can't be asked any more."""

    def __init__(self, invocation: Invocation, daemon: ControlClient, timeout: Duration) -> None:
        self._invocation = invocation
        self._daemon = daemon
        self._timeout = timeout
        self._asked = daemon.version().node_id

    def until(self, node_id: str, judge: _Judge) -> None:
        try:
            self._settle(lambda: self._sight(node_id, judge))
        except Refused as refusal:
            if refusal.code not in _NO_MANAGER or self._asked != node_id:
                raise
            # The node that answers was demoted: that it refuses is what was waited for.
            if self._invocation.is_local:
                self._settle(self._own_sight)

    def _settle(self, look: Callable[[], Sight]) -> None:
        settle(self._invocation, look, self._timeout, _GOES_ON)

    def _sight(self, node_id: str, judge: _Judge) -> Sight:
        for one in self._daemon.nodes().items:
            if one.id == node_id:
                words, done = judge(one)
                return Sight({node_id: f"{one.hostname}: {words}"}, done)
        return Sight({}, True)  # it has left meanwhile

    def _own_sight(self) -> Sight:
        here = self._daemon.local_node()
        return Sight({}, here.state == Role.WORKER and not here.message)


def _drained(daemon: ControlClient, one: NodeView) -> tuple[str, bool]:
    """Those count as well that were told to stop and haven't yet."""
    left = sum(task.state not in _OVER for task in daemon.tasks(ListRequest(node=one.id)).items)
    return (f"{count(left, 'task')} left", False) if left else ("drained", True)


def _has_role(one: NodeView) -> tuple[str, bool]:
    """Whether it takes part in consensus, or not any more, and its certificate says so too; one that is away can't have
    heard."""
    is_manager = one.manager_status in ("leader", "reachable")
    if one.role == Role.MANAGER:
        away = "" if one.state == "ready" else f": the node is {one.state}"
        return ("manager", True) if is_manager else (f"becoming a manager{away}", False)
    has_heard = one.certificate_role in ("", Role.WORKER) or one.state != "ready"
    is_worker = not one.manager_status and has_heard
    return ("worker", True) if is_worker else ("becoming a worker", False)
