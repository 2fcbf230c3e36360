"""Changes of one service: by hand, and as part of a deployment.

Every submission moves the service's version and keeps what was there before for a rollback, one level deep.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stackd.base.ids import SpecDigest
from stackd.engine.admit.ports import check_ports
from stackd.engine.admit.refusal import Refusal, check_not_owned, service_of
from stackd.engine.dirty import EVERYWHERE, Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import Applied, ForceUpdate, RemoveService, RollbackService, ScaleService, SetSpec
from stackd.engine.model import Service, SpecRow
from stackd.engine.parts import Principal
from stackd.engine.rollout import ACTIVE, next_iteration, present_as_previous, roll_back
from stackd.engine.status import Rollout
from stackd.engine.view import View
from stackd.spec.digest import spec_digest
from stackd.spec.stack import REPLICAS_MAX, ServiceSettings, TaskSpec


def existing_spec(view: View, digest: SpecDigest) -> TaskSpec:
    """The spec with this digest. Refuses if it was not staged."""
    row = view.specs.get(digest)
    if row is None:
        raise Refusal("deploy.content.missing", f"the spec {digest} was not staged", "stage it again")
    return row.spec


def change_service(
    draft: Draft,
    dirty: Dirty,
    service: Service,
    spec: SpecDigest,
    settings: ServiceSettings,
    *,
    principal: Principal,
    **fields: Any,
) -> Service:
    """Submit another spec or other settings for a service; a frozen one is tried again."""
    scaled_only = spec == service.spec and _unscaled(settings) == _unscaled(service.settings)
    rollout = draft.rollouts.get(service.id)
    rolling = rollout is not None and rollout.state in ACTIVE
    changed = msgspec.structs.replace(
        service,
        spec=spec,
        settings=settings,
        iteration=next_iteration(service, spec),
        previous=_rescaled_previous(service, settings) if scaled_only and rolling else present_as_previous(service),
        version=draft.next_version,
        spec_version=draft.next_version,
        updated_at=draft.now,
        frozen="",
        **fields,
    )
    draft.put(changed, "changed by a new submission")
    if scaled_only and rollout is not None:
        _carry_rollout(draft, service, changed, rollout)
    dirty.mark([service.id])
    draft.event("service.changed", service.name, _what_changed(service, changed), stack=service.stack, principal=principal)
    return changed


def _unscaled(settings: ServiceSettings) -> ServiceSettings:
    return msgspec.structs.replace(settings, replicas=0)


def _rescaled_previous(service: Service, settings: ServiceSettings) -> Any:
    """Scaling in the middle of an update must not make the spec that is being rolled out the one to go back to."""
    previous = service.previous
    if previous is None:
        return None
    return msgspec.structs.replace(previous, settings=msgspec.structs.replace(previous.settings, replicas=settings.replicas))


def _carry_rollout(draft: Draft, before: Service, after: Service, rollout: Rollout) -> None:
    """A scaled service goes on with the rollout it has: paused stays paused."""
    if rollout.spec_version == before.spec_version:
        draft.put(msgspec.structs.replace(rollout, spec_version=after.spec_version))


def _what_changed(before: Service, after: Service) -> str:
    if before.spec != after.spec:
        return f"spec {before.spec[:12]} -> {after.spec[:12]}"
    if before.settings.replicas != after.settings.replicas:
        return f"scaled from {before.settings.replicas} to {after.settings.replicas}"
    return "settings changed"


def drop_service(draft: Draft, dirty: Dirty, service: Service, why: str) -> None:
    """Begin to remove a service: it loses its name at once, its record goes with its last task."""
    draft.put(msgspec.structs.replace(service, removing=True, frozen="", version=draft.next_version, updated_at=draft.now), why)
    dirty.mark([service.id])


def scale_service(draft: Draft, dirty: Dirty, given: ScaleService) -> Applied:
    service = service_of(draft, given.name, given.version)
    check_not_owned(draft, service.stack, override=given.override)
    if service.settings.mode in EVERYWHERE:
        raise Refusal("service.scale.global", f"{service.name} is global: it runs once on every node")
    if not 0 <= given.replicas <= REPLICAS_MAX:
        raise Refusal("service.scale.range", f"replicas must be between 0 and {REPLICAS_MAX}, not {given.replicas}")
    if given.replicas == service.settings.replicas:
        return Applied(changed=False, version=service.version)
    settings = msgspec.structs.replace(service.settings, replicas=given.replicas)
    return _submit(draft, dirty, service, service.spec, settings, given.principal)


def force_update(draft: Draft, dirty: Dirty, given: ForceUpdate) -> Applied:
    """Replace all tasks: the spec's counter makes it another spec. What the source says stays true, so nobody is asked."""
    service = service_of(draft, given.name, given.version)
    present = existing_spec(draft, service.spec)
    spec = msgspec.structs.replace(present, force=present.force + 1)
    digest = spec_digest(spec)
    if digest not in draft.specs:
        draft.put(SpecRow(digest=digest, spec=spec, staged_at=draft.now))
    changed = change_service(draft, dirty, service, digest, service.settings, principal=given.principal)
    return Applied(changed=True, version=changed.version)


def set_spec(draft: Draft, dirty: Dirty, given: SetSpec) -> Applied:
    service = service_of(draft, given.name, given.version)
    check_not_owned(draft, service.stack, override=given.override)
    existing_spec(draft, given.spec)
    if given.settings.mode is not service.settings.mode:
        raise Refusal("service.mode", f"the mode of {service.name} can't be changed", "remove the service and deploy it again")
    if given.spec == service.spec and given.settings == service.settings:
        return Applied(changed=False, version=service.version)
    return _submit(draft, dirty, service, given.spec, given.settings, given.principal)


def _submit(
    draft: Draft, dirty: Dirty, service: Service, spec: SpecDigest, settings: ServiceSettings, principal: Principal
) -> Applied:
    """A change by hand: on a stack that a source owns it is an override until the next sync."""
    changed = change_service(
        draft, dirty, service, spec, settings, principal=principal, override=_is_owned(draft, service) or service.override
    )
    check_ports(draft, [changed])
    return Applied(changed=True, version=changed.version)


def _is_owned(view: View, service: Service) -> bool:
    stack = view.stacks.get(service.stack)
    return stack is not None and bool(stack.owner.source)


def rollback_service(draft: Draft, dirty: Dirty, given: RollbackService) -> Applied:
    service = service_of(draft, given.name, given.version)
    check_not_owned(draft, service.stack, override=given.override)
    if service.previous is None:
        raise Refusal("service.rollback.none", f"{service.name} has no previous spec to go back to")
    existing_spec(draft, service.previous.spec)
    if _is_owned(draft, service):
        service = msgspec.structs.replace(service, override=True)
    roll_back(draft, service, "manually requested rollback", keep_present=True)
    restored = service_of(draft, given.name)
    check_ports(draft, [restored])
    dirty.mark([service.id])
    draft.event("service.changed", service.name, "rolled back by hand", stack=service.stack, principal=given.principal)
    return Applied(changed=True, version=restored.version)


def remove_service(draft: Draft, dirty: Dirty, given: RemoveService) -> Applied:
    service = service_of(draft, given.name)
    check_not_owned(draft, service.stack, override=given.override)
    drop_service(draft, dirty, service, "removed by hand")
    draft.event("service.removing", service.name, "removed by hand", stack=service.stack, principal=given.principal)
    return Applied(changed=True, version=draft.next_version)
