"""Networks, configs and secrets made and removed by hand, and what making them means, also for stacks.

What people write must make sense by itself here: whether there is a subnet for it is the allocator's question.
"""

from __future__ import annotations

import re

from stackd.base.ids import NetworkId
from stackd.engine.admit.refusal import Refusal, check_not_owned
from stackd.engine.allocate.ipmath import Range, space_of, subnet_range
from stackd.engine.allocate.networks import PREDEFINED, unallocated
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import Applied, CreateFile, CreateNetwork, FileManifest, RemoveObject
from stackd.engine.model import Config, Network, Secret
from stackd.engine.objects import NamedObject, delete_object, services_attached, services_using
from stackd.engine.parts import Principal
from stackd.engine.view import View
from stackd.spec.stack import ExternalKind, NetworkSpec

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_NAME_LENGTH = {ExternalKind.NETWORK: 63, ExternalKind.CONFIG: 64, ExternalKind.SECRET: 64}


def find(view: View, kind: ExternalKind, name: str) -> NamedObject | None:
    """The object of this kind and name."""
    match kind:
        case ExternalKind.NETWORK:
            return view.networks.get(name)
        case ExternalKind.CONFIG:
            return view.configs.get(name)
        case ExternalKind.SECRET:
            return view.secrets.get(name)


def check_name(view: View, kind: ExternalKind, name: str) -> None:
    """Refuse names that are not names, and a second spelling of one that exists (semantics 1.1)."""
    if not _NAME.fullmatch(name) or len(name) > _NAME_LENGTH[kind]:
        raise Refusal(
            "object.name",
            f'"{name}" can\'t be the name of a {kind}',
            "letters, digits and . _ - between, at most 63 characters",
        )
    if kind is ExternalKind.NETWORK and name.lower() in PREDEFINED:
        raise Refusal("object.name", f'every node has a network "{name}" of its own', "choose another name")
    other = next((one for one in view.spellings(kind, name) if one != name), None)
    if other is not None:
        raise Refusal("object.exists", f'there is a {kind} "{other}", which differs from "{name}" only in case')


def listed(names: list[str]) -> str:
    """Some names in a sentence."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_network(spec: NetworkSpec) -> None:
    """Refuse pools that make no sense in themselves (semantics 27)."""
    ranges: list[Range] = []
    for pool in spec.pools:
        if not pool.subnet:
            if pool.gateway or pool.ip_range:
                raise Refusal("network.pool", f'network "{spec.name}": a gateway or a range needs a subnet that it lies in')
            continue
        try:
            space_of(pool)
        except ValueError as error:
            raise Refusal("network.pool", f'network "{spec.name}": {error}') from error
        ranges.append(subnet_range(pool.subnet))
    if any(one.overlaps(other) for at, one in enumerate(ranges) for other in ranges[:at]):
        raise Refusal("network.pool", f'network "{spec.name}": its subnets overlap')


def put_network(draft: Draft, dirty: Dirty, spec: NetworkSpec, stack: str) -> None:
    """Make a network; it gets its subnets in the same decision, if there are any."""
    _check_network(spec)
    network = Network(
        name=spec.name,
        id=NetworkId(draft.new_id()),
        spec=spec,
        created_at=draft.now,
        updated_at=draft.now,
        stack=stack,
        version=draft.next_version,
    )
    draft.put(network)
    draft.put(unallocated(network))
    dirty.subnets = True


def check_file(view: View, kind: ExternalKind, file: FileManifest) -> None:
    """Refuse a config or secret whose content nobody has given."""
    if file.driver:
        raise Refusal(
            "deploy.secret.driver",
            f'{kind} "{file.name}" is to come from the driver "{file.driver}", and no node has such a driver',
            "give its content in a file",
        )
    if file.digest not in view.blobs:
        raise Refusal("deploy.content.missing", f'the content of {kind} "{file.name}" was not staged', "stage it again")


def put_file(draft: Draft, kind: ExternalKind, file: FileManifest, stack: str) -> None:
    """Make a config or secret."""
    if kind is ExternalKind.CONFIG:
        draft.put(
            Config(
                name=file.name,
                id=draft.new_id(),
                digest=file.digest,
                created_at=draft.now,
                updated_at=draft.now,
                stack=stack,
                labels=file.labels,
                template=file.template,
                version=draft.next_version,
            )
        )
        return
    draft.put(
        Secret(
            name=file.name,
            id=draft.new_id(),
            digest=file.digest,
            created_at=draft.now,
            updated_at=draft.now,
            stack=stack,
            labels=file.labels,
            template=file.template,
            driver=file.driver,
            driver_options=file.driver_options,
            version=draft.next_version,
        )
    )


def create_network(draft: Draft, dirty: Dirty, given: CreateNetwork) -> Applied:
    _check_new(draft, ExternalKind.NETWORK, given.spec.name)
    put_network(draft, dirty, given.spec, "")
    return _created(draft, ExternalKind.NETWORK, given.spec.name, given.principal)


def create_file(draft: Draft, given: CreateFile) -> Applied:
    _check_new(draft, given.kind, given.file.name)
    check_file(draft, given.kind, given.file)
    put_file(draft, given.kind, given.file, "")
    return _created(draft, given.kind, given.file.name, given.principal)


def _check_new(view: View, kind: ExternalKind, name: str) -> None:
    check_name(view, kind, name)
    if find(view, kind, name) is not None:
        raise Refusal("object.exists", f'there is a {kind} "{name}" already', f"`stackd {kind} ls` lists them")


def _created(draft: Draft, kind: ExternalKind, name: str, principal: Principal) -> Applied:
    draft.event(f"{kind}.created", name, "made by hand", principal=principal)
    return Applied(changed=True, version=draft.next_version)


def remove_object(draft: Draft, dirty: Dirty, given: RemoveObject) -> Applied:
    """Remove an object; refused, naming the users, while a service uses it (semantics 26, 27), or a task that is to run is in
    the network: the service may be in the middle of leaving it, and go back."""
    row = find(draft, given.kind, given.name)
    if row is None:
        raise Refusal("object.unknown", f'no {given.kind} named "{given.name}"', f"`stackd {given.kind} ls` lists them")
    if row.stack and not row.removing:
        check_not_owned(draft, row.stack, override=given.override)
    users = services_using(draft, given.kind, given.name)
    if given.kind is ExternalKind.NETWORK:
        users = sorted({*users, *services_attached(draft, given.name)})
    if users:
        verb = "is" if len(users) == 1 else "are"
        raise Refusal(
            "object.in_use",
            f'{given.kind} "{given.name}" can\'t be removed: {listed(users)} {verb} using it',
            "remove or change them first",
        )
    delete_object(draft, row)
    dirty.garbage = dirty.subnets = True
    return Applied(changed=True, version=draft.next_version)
