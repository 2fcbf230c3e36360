"""Deploying: content is staged, then one manifest flips a whole revision over all its stacks, or nothing.

Only what differs from the state is touched; a manifest that says what is already so writes nothing at all.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from stackd.base.ids import RevisionId, ServiceId, SpecDigest
from stackd.base.time import after
from stackd.engine.admit.order import check_order
from stackd.engine.admit.ports import check_ports
from stackd.engine.admit.refusal import Refusal, check_not_owned, stack_of
from stackd.engine.admit.services import change_service, drop_service, existing_spec
from stackd.engine.admit.stack_objects import (
    StackObjects,
    check_externals,
    check_networks,
    drop_objects_of,
    with_contents,
)
from stackd.engine.dirty import CONTENT, JOBS, Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import Applied, DeployRevision, RemoveStack, ServiceManifest, StackManifest, StageContent
from stackd.engine.model import Revision, Service, SpecRow, Stack
from stackd.engine.parts import Principal, PrincipalKind, RevisionState
from stackd.engine.reap import STAGED_FOR
from stackd.engine.revisions import latest_of, record_revision
from stackd.engine.view import View
from stackd.engine.written import base_version
from stackd.spec.digest import blob_digest, spec_digest


def stage_content(draft: Draft, given: StageContent) -> Applied:
    """Store specs and blobs that are not known yet. Refuses content that doesn't have the digest it is named by."""
    changed = False
    for row in given.specs:
        if spec_digest(row.spec) != row.digest:
            raise Refusal("deploy.content.digest", f"a spec does not have the digest {row.digest}")
        if row.digest not in draft.specs:
            draft.put(msgspec.structs.replace(row, staged_at=draft.now))
            changed = True
    for blob in given.blobs:
        if not blob.sealed and blob_digest(blob.data) != blob.digest:
            raise Refusal("deploy.content.digest", f"a config does not have the digest {blob.digest}")
        if blob.digest not in draft.blobs:
            draft.put(msgspec.structs.replace(blob, staged_at=draft.now))
            changed = True
    if changed:
        draft.wake(after(draft.now, STAGED_FOR), CONTENT)
    return Applied(changed=changed)


def deploy_revision(draft: Draft, dirty: Dirty, given: DeployRevision) -> Applied:
    """Make the stacks what the manifest says."""
    if given.base_version and given.base_version != base_version(draft):
        raise Refusal("plan.stale", "the cluster has changed since the plan was made", "run `stackd plan` again")
    if (held := _rolled_back_before(draft, given)) is not None:
        return Applied(changed=False, revision=held.id)
    _check_manifest(draft, given)
    deployment = _Deployment(draft, dirty, given)
    for stack in given.stacks:
        deployment.put_objects(stack)
    for stack in given.stacks:
        check_externals(draft, stack)
        deployment.put_stack(stack)
    for name in given.prune:
        deployment.prune_stack(name)
    if not deployment.touched and (present := _present_revision(draft, given)) is not None:
        return Applied(changed=False, revision=present)
    check_ports(draft, deployment.written)
    record_revision(draft, deployment.revision())
    dirty.mark(deployment.services)
    return Applied(changed=True, version=draft.next_version, revision=deployment.revision_id)


def _present_revision(view: View, given: DeployRevision) -> RevisionId | None:
    """The revision that a manifest which changes nothing is already true by. None for a source that has moved on: which of its
    revisions the cluster is at is worth a record, also if they mean the same."""
    if given.source:
        latest = latest_of(view, given.source)
        return latest.id if latest is not None and latest.label == given.label else None
    stacks = (view.stacks.get(stack.name) for stack in given.stacks)
    return next((stack.revision for stack in stacks if stack is not None and stack.revision), RevisionId(""))


def _rolled_back_before(view: View, given: DeployRevision) -> Revision | None:
    """The source's last revision, if it is this very one and was rolled back: only a person may try it again."""
    if given.principal.kind is not PrincipalKind.SOURCE:
        return None
    latest = latest_of(view, given.source)
    again = latest is not None and latest.label == given.label and latest.state is RevisionState.ROLLED_BACK
    return latest if again else None


def _check_manifest(view: View, given: DeployRevision) -> None:
    """Refuse what can't be carried out as a whole: duplicate names, missing content, stacks of other owners."""
    names = Counter([*(stack.name for stack in given.stacks), *given.prune])
    for name, number in names.items():
        if number > 1:
            raise Refusal("deploy.stack.duplicate", f'stack "{name}" is in this revision more than once')
    for stack in given.stacks:
        _check_owner(view, given, stack)
        check_order(stack)
        for service in stack.services:
            if service.spec not in view.specs:
                raise Refusal(
                    "deploy.content.missing", f"the spec of {stack.name}_{service.name} was not staged", "stage it again"
                )
            _check_blobs(view, stack, service)


def _check_owner(view: View, given: DeployRevision, stack: StackManifest) -> None:
    present = view.stacks.get(stack.name)
    if present is None or present.owner.source == stack.owner.source or given.adopt:
        return
    owner = f'source "{present.owner.source}"' if present.owner.source else "whoever applied it by hand"
    raise Refusal(
        "deploy.owner",
        f'stack "{stack.name}" belongs to {owner} ({present.owner.file or "no file"})',
        "give the stack another name, or take it over with --adopt",
    )


def _check_blobs(view: View, stack: StackManifest, service: ServiceManifest) -> None:
    container = existing_spec(view, service.spec).container
    for ref in (*container.configs, *container.secrets):
        if ref.digest and ref.digest not in view.blobs:
            raise Refusal(
                "deploy.content.missing",
                f'the content of "{ref.source}" for {stack.name}_{service.name} was not staged',
                "stage it again",
            )


class _Deployment:
    """One deployment under way. `services` are all of the revision's, `written` those that were created or changed."""

    def __init__(self, draft: Draft, dirty: Dirty, given: DeployRevision) -> None:
        self._draft = draft
        self._dirty = dirty
        self._given = given
        self.revision_id = RevisionId(draft.new_id())
        self.services: list[ServiceId] = []
        self.written: list[Service] = []
        self.touched = False
        self._objects = StackObjects(draft, dirty, given)
        self._changed_objects: set[str] = set()

    def put_objects(self, manifest: StackManifest) -> None:
        """The stack's networks, configs and secrets, before any service: they may be another stack's externals."""
        if self._objects.put(manifest):
            self._changed_objects.add(manifest.name)

    def put_stack(self, manifest: StackManifest) -> None:
        draft = self._draft
        present = {row.name: row for row in draft.services_of_stack(manifest.name) if not row.removing}
        wrote = manifest.name in self._changed_objects
        for one in manifest.services:
            one = self._resolved(manifest, one)
            service = present.pop(f"{manifest.name}_{one.name}", None)
            if service is not None and service.settings.mode is not one.settings.mode:
                drop_service(draft, self._dirty, service, "its mode changes, which makes it another service")
                service = None
            wrote = self._put_service(manifest, one, service) or wrote
        for service in present.values():
            drop_service(draft, self._dirty, service, "no longer in the stack")
            wrote = True
        wrote = self._objects.drop_unlisted(manifest) or wrote
        self._put_stack_row(manifest, wrote)

    def _resolved(self, stack: StackManifest, one: ServiceManifest) -> ServiceManifest:
        """The service with the contents of its external configs and secrets as they are now. Refuses a network that nobody
        has made."""
        draft, name = self._draft, f"{stack.name}_{one.name}"
        spec = existing_spec(draft, one.spec)
        check_networks(draft, name, spec)
        resolved = with_contents(draft, name, spec)
        if resolved == spec:
            return one
        digest = spec_digest(resolved)
        if digest not in draft.specs:
            draft.put(SpecRow(digest=digest, spec=resolved, staged_at=draft.now))
        return msgspec.structs.replace(one, spec=digest)

    def _put_stack_row(self, manifest: StackManifest, wrote: bool) -> None:
        draft, present = self._draft, self._draft.stacks.get(manifest.name)
        if present is not None and present.owner == manifest.owner and not wrote:
            return
        self.touched = True
        draft.put(
            Stack(
                name=manifest.name,
                owner=manifest.owner,
                created_at=present.created_at if present else draft.now,
                updated_at=draft.now,
                version=draft.next_version,
                revision=self.revision_id,
            )
        )
        kind = "stack.changed" if present else "stack.created"
        message = f"{self._given.label}: {self._given.subject}" if self._given.subject else self._given.label
        draft.event(kind, manifest.name, message, stack=manifest.name, principal=self._given.principal)

    def _put_service(self, stack: StackManifest, one: ServiceManifest, service: Service | None) -> bool:
        """Create or change one service; returns whether anything was written."""
        if service is None:
            service = self._create(stack, one)
        else:
            spec = self._keep_force(service, one.spec)
            if spec == service.spec and one.settings == service.settings:
                self.services.append(service.id)
                if not service.override:
                    return False
                self._draft.put(msgspec.structs.replace(service, override=False))
                return True
            service = change_service(
                self._draft,
                self._dirty,
                service,
                spec,
                one.settings,
                principal=self._given.principal,
                revision=self.revision_id,
                override=False,
            )
        self.services.append(service.id)
        self.written.append(service)
        return True

    def _keep_force(self, service: Service, wanted: SpecDigest) -> SpecDigest:
        """The service's present spec, if it differs from the wanted one only by updates forced by hand."""
        if wanted == service.spec:
            return wanted
        present = existing_spec(self._draft, service.spec)
        forced = msgspec.structs.replace(existing_spec(self._draft, wanted), force=present.force)
        return service.spec if forced == present else wanted

    def _create(self, stack: StackManifest, one: ServiceManifest) -> Service:
        draft = self._draft
        service = Service(
            id=ServiceId(draft.new_id()),
            stack=stack.name,
            name=f"{stack.name}_{one.name}",
            spec=one.spec,
            settings=one.settings,
            created_at=draft.now,
            updated_at=draft.now,
            version=draft.next_version,
            spec_version=draft.next_version,
            revision=self.revision_id,
            iteration=int(one.settings.mode in JOBS),
        )
        draft.put(service, "new in the stack")
        draft.event("service.created", service.name, "created", stack=stack.name, principal=self._given.principal)
        return service

    def prune_stack(self, name: str) -> None:
        """Remove a stack that the source no longer has; one that it doesn't own is left alone."""
        stack = self._draft.stacks.get(name)
        if stack is not None and stack.owner.source == self._given.source:
            self.touched = True
            _drop_stack(self._draft, self._dirty, stack, "no longer in its source", self._given.principal)

    def revision(self) -> Revision:
        given = self._given
        return Revision(
            id=self.revision_id,
            source=given.source,
            label=given.label,
            state=RevisionState.ROLLING,
            created_at=self._draft.now,
            stacks=tuple(stack.name for stack in given.stacks),
            services=tuple(self.services),
            author=given.author,
            subject=given.subject,
            principal=given.principal,
        )


def remove_stack(draft: Draft, dirty: Dirty, given: RemoveStack) -> Applied:
    """Remove a stack with all its services."""
    stack = stack_of(draft, given.name)
    check_not_owned(draft, given.name, override=given.override)
    _drop_stack(draft, dirty, stack, "removed by hand", given.principal)
    return Applied(changed=True, version=draft.next_version)


def _drop_stack(draft: Draft, dirty: Dirty, stack: Stack, why: str, principal: Principal) -> None:
    for service in draft.services_of_stack(stack.name):
        drop_service(draft, dirty, service, why)
    drop_objects_of(draft, dirty, stack.name)
    draft.delete(Stack, stack.name)
    draft.event("stack.removed", stack.name, why, stack=stack.name, principal=principal)
