"""Networks, configs and secrets by name: who uses them, and letting go of those that nobody asks for any more.

An object that leaves its stack stays until no service needs it, not even to be rolled back, and no task that hasn't ended has
it in its spec. Contents are not the objects' business: a task's spec names them by digest, and they live as long as it does.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from stackd.engine.draft import Draft
from stackd.engine.model import Config, Network, Secret
from stackd.engine.orchestrate.slots import is_live
from stackd.engine.taskstate import is_terminal
from stackd.engine.view import View
from stackd.spec.stack import ExternalKind, TaskSpec

NamedObject = Network | Config | Secret


def names_in(spec: TaskSpec, kind: ExternalKind) -> set[str]:
    """The names of the objects of a kind that a spec uses."""
    match kind:
        case ExternalKind.NETWORK:
            return {one.network for one in spec.networks}
        case ExternalKind.CONFIG:
            credentials = spec.container.credentials
            account = {credentials.config} if credentials is not None and credentials.config else set()
            return {one.source for one in spec.container.configs} | account
        case ExternalKind.SECRET:
            return {one.source for one in spec.container.secrets}


def services_using(view: View, kind: ExternalKind, name: str) -> list[str]:
    """The names of the services whose present spec uses the object, in order."""
    return sorted(
        service.name
        for service in view.services.values()
        if not service.removing and (row := view.specs.get(service.spec)) is not None and name in names_in(row.spec, kind)
    )


def tasks_using(view: View, kind: ExternalKind, name: str) -> int:
    """How many tasks that haven't ended have the object in their spec."""
    specs = {row.digest for row in view.specs.values() if name in names_in(row.spec, kind)}
    return sum(task.spec in specs and not is_terminal(view.status_of(task.id).state) for task in view.tasks.values())


def services_attached(view: View, network: str) -> list[str]:
    """The names of the services of which a task that is to run is in the network, in order: during an update also by a spec
    of before."""
    specs = {row.digest for row in view.specs.values() if network in names_in(row.spec, ExternalKind.NETWORK)}
    present = [task for task in view.tasks.values() if is_live(task) and not is_terminal(view.status_of(task.id).state)]
    joined = {task.service_id for task in present if task.spec in specs}
    return sorted(service.name for service in map(view.services.get, joined) if service is not None)


def collect_objects(draft: Draft) -> None:
    """Delete the objects that are to go and that nothing needs any more."""
    leaving = list(_leaving(draft))
    if not leaving:
        return
    needed = _needed(draft)
    for kind, row in leaving:
        if row.name not in needed[kind]:
            delete_object(draft, row)


def _leaving(view: View) -> Iterator[tuple[ExternalKind, NamedObject]]:
    for network in view.networks.values():
        if network.removing:
            yield ExternalKind.NETWORK, network
    for config in view.configs.values():
        if config.removing:
            yield ExternalKind.CONFIG, config
    for secret in view.secrets.values():
        if secret.removing:
            yield ExternalKind.SECRET, secret


def _needed(view: View) -> dict[ExternalKind, set[str]]:
    """What services, present and previous, and tasks name."""
    digests = {task.spec for task in view.tasks.values() if not is_terminal(view.status_of(task.id).state)}
    for service in view.services.values():
        if not service.removing:
            digests.add(service.spec)
            if service.previous is not None:
                digests.add(service.previous.spec)
    specs = [row.spec for digest in digests if (row := view.specs.get(digest)) is not None]
    return {kind: set().union(*(names_in(spec, kind) for spec in specs)) for kind in ExternalKind}


def delete_object(draft: Draft, row: NamedObject) -> None:
    """Remove the object's record. A network's subnet is given back when the last address in it is free."""
    draft.delete(type(row), row.name)
    if isinstance(row, Network) and (status := draft.network_statuses.get(row.id)) is not None:
        draft.put(msgspec.structs.replace(status, removed=True))
    word = type(row).__name__.lower()
    draft.event(f"{word}.removed", row.name, "nothing uses it any more" if row.removing else "removed by hand", stack=row.stack)
