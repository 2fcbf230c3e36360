"""The networks, configs and secrets of a stack, and what it needs to find in the cluster.

A stack owns the objects that its file describes; one that another stack or a person made is taken over only with --adopt.
What it no longer lists goes as soon as nothing uses it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stackd.engine.admit.objects import check_file, check_name, find, listed, put_file, put_network
from stackd.engine.admit.refusal import Refusal
from stackd.engine.allocate.networks import PREDEFINED
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import DeployRevision, FileManifest, StackManifest
from stackd.engine.model import Network, Secret
from stackd.engine.objects import NamedObject, delete_object, services_using, tasks_using
from stackd.engine.view import View
from stackd.spec.stack import ExternalKind, FileRef, NetworkSpec, TaskSpec


class StackObjects:
    """Brings the objects of one stack to what its manifest says."""

    def __init__(self, draft: Draft, dirty: Dirty, given: DeployRevision) -> None:
        self._draft = draft
        self._dirty = dirty
        self._given = given

    def put(self, stack: StackManifest) -> bool:
        """Make and change the objects that the manifest lists; whether anything was written."""
        wrote = False
        for spec in stack.networks:
            wrote = self._put_network(stack, spec) or wrote
        for kind, files in ((ExternalKind.CONFIG, stack.configs), (ExternalKind.SECRET, stack.secrets)):
            for file in files:
                wrote = self._put_file(stack, kind, file) or wrote
        return wrote

    def _put_network(self, stack: StackManifest, spec: NetworkSpec) -> bool:
        present = self._present(stack, ExternalKind.NETWORK, spec.name)
        assert present is None or isinstance(present, Network)
        if present is None:
            put_network(self._draft, self._dirty, spec, stack.name)
            return True
        if _unlabelled(present.spec) != _unlabelled(spec):
            self._replace_network(stack, present, spec)
            return True
        return self._update(present, stack, spec=spec)

    def _replace_network(self, stack: StackManifest, present: Network, spec: NetworkSpec) -> None:
        """Another network takes its name, unless something is attached to the present one."""
        users = services_using(self._draft, ExternalKind.NETWORK, spec.name)
        if users or tasks_using(self._draft, ExternalKind.NETWORK, spec.name):
            raise Refusal(
                "deploy.network.changed",
                f'network "{spec.name}" can\'t be changed while {listed(users) or "tasks"} use it',
                "give it another `name:`, and its services move over with their rolling update",
            )
        delete_object(self._draft, present)
        put_network(self._draft, self._dirty, spec, stack.name)

    def _put_file(self, stack: StackManifest, kind: ExternalKind, file: FileManifest) -> bool:
        check_file(self._draft, kind, file)
        present = self._present(stack, kind, file.name)
        if present is None:
            put_file(self._draft, kind, file, stack.name)
            return True
        fields = {name: getattr(file, name) for name in ("digest", "labels", "template")}
        if isinstance(present, Secret):
            fields |= {"driver": file.driver, "driver_options": file.driver_options}
        return self._update(present, stack, **fields)

    def _update(self, present: NamedObject, stack: StackManifest, **fields: object) -> bool:
        draft = self._draft
        wanted = msgspec.structs.replace(present, stack=stack.name, removing=False, **fields)
        if wanted == present:
            return False
        draft.put(msgspec.structs.replace(wanted, version=draft.next_version, updated_at=draft.now))
        return True

    def _present(self, stack: StackManifest, kind: ExternalKind, name: str) -> NamedObject | None:
        """The object of this name, if the stack may have it."""
        check_name(self._draft, kind, name)
        present = find(self._draft, kind, name)
        if present is None or present.stack == stack.name or present.removing or self._given.adopt:
            return present
        if present.stack and self._gives_up(present.stack, kind, name):
            return present
        owner = f'stack "{present.stack}"' if present.stack else "whoever made it by hand"
        raise Refusal(
            "deploy.object.owned",
            f'{kind} "{name}" belongs to {owner}',
            "give it another name, use it as `external: true`, or take it over with --adopt",
        )

    def _gives_up(self, owner: str, kind: ExternalKind, name: str) -> bool:
        """Whether this very revision takes the object from the stack that owns it."""
        if owner in self._given.prune:
            return True
        other = next((one for one in self._given.stacks if one.name == owner), None)
        return other is not None and name not in _listed_names(other, kind)

    def drop_unlisted(self, stack: StackManifest) -> bool:
        """Let go of the objects that the stack had and no longer lists; whether there are any."""
        gone = [
            row
            for kind in ExternalKind
            for row in objects_of(self._draft, kind, stack.name)
            if not row.removing and row.name not in _listed_names(stack, kind)
        ]
        drop_objects(self._draft, self._dirty, gone)
        return bool(gone)


def _unlabelled(spec: NetworkSpec) -> NetworkSpec:
    return msgspec.structs.replace(spec, labels=())


def objects_of(view: View, kind: ExternalKind, stack: str) -> list[NamedObject]:
    """The objects of this kind that the stack owns, also those that are to go."""
    match kind:
        case ExternalKind.NETWORK:
            return list(view.networks_of_stack(stack))
        case ExternalKind.CONFIG:
            return list(view.configs_of_stack(stack))
        case ExternalKind.SECRET:
            return list(view.secrets_of_stack(stack))


def _listed_names(stack: StackManifest, kind: ExternalKind) -> set[str]:
    match kind:
        case ExternalKind.NETWORK:
            return {spec.name for spec in stack.networks}
        case ExternalKind.CONFIG:
            return {file.name for file in stack.configs}
        case ExternalKind.SECRET:
            return {file.name for file in stack.secrets}


def drop_objects(draft: Draft, dirty: Dirty, rows: Iterable[NamedObject]) -> None:
    """Nobody asks for these any more: they go when nothing uses them."""
    for row in rows:
        draft.put(msgspec.structs.replace(row, removing=True))
        dirty.garbage = True


def drop_objects_of(draft: Draft, dirty: Dirty, stack: str) -> None:
    """Let go of everything that a removed stack owned."""
    drop_objects(draft, dirty, [row for kind in ExternalKind for row in objects_of(draft, kind, stack) if not row.removing])


def check_externals(view: View, stack: StackManifest) -> None:
    """Refuse a stack that needs something the cluster doesn't have."""
    for external in stack.externals:
        if external.kind is ExternalKind.NETWORK and external.name in PREDEFINED:
            continue
        present = find(view, external.kind, external.name)
        if present is None or present.removing:
            raise Refusal(
                "deploy.external.missing",
                f'stack "{stack.name}" needs the {external.kind} "{external.name}", which is not in the cluster',
                f"make it first: `stackd {external.kind} create {external.name}`, or deploy the stack that has it",
            )


def check_networks(view: View, service: str, spec: TaskSpec) -> None:
    """Refuse a service that joins a network nobody has made."""
    for one in spec.networks:
        if one.network not in view.networks and one.network not in PREDEFINED:
            raise Refusal(
                "deploy.network.unknown",
                f'{service} joins the network "{one.network}", which is neither in its stack nor in the cluster',
                f"make it first: `stackd network create {one.network}`",
            )


def with_contents(view: View, service: str, spec: TaskSpec) -> TaskSpec:
    """`spec` with the digests of external configs and secrets filled in, as they are in the cluster now."""
    container = spec.container
    if all(ref.digest for ref in (*container.configs, *container.secrets)):
        return spec
    configs = tuple(_resolved(view, ExternalKind.CONFIG, service, ref) for ref in container.configs)
    secrets = tuple(_resolved(view, ExternalKind.SECRET, service, ref) for ref in container.secrets)
    return msgspec.structs.replace(spec, container=msgspec.structs.replace(container, configs=configs, secrets=secrets))


def _resolved(view: View, kind: ExternalKind, service: str, ref: FileRef) -> FileRef:
    if ref.digest:
        return ref
    found = find(view, kind, ref.source)
    if found is None or isinstance(found, Network):
        raise Refusal(
            "deploy.external.missing",
            f'{service} needs the {kind} "{ref.source}", which is not in the cluster',
            f"make it first: `stackd {kind} create {ref.source}`",
        )
    return msgspec.structs.replace(ref, digest=found.digest, template=ref.template or found.template)
