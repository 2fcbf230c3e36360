"""One decision: what follows from the state, the inputs and the time.

The pipeline: admit the inputs; then for every service they touched: count failures of its update, evict, orchestrate,
restart, start what is due, update; then place what waits for a node; then reap and follow revisions. Every stage is
level-triggered and reads what those before it wrote, so a step right after its own decision decides nothing.

A stage that fails on one service freezes that service, with the reason, and nothing else: its writes are undone and the
others go on. A stage that fails as a whole is done without. Nothing that is stored or sent makes a step raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

import msgspec

from stackd.base.ids import Entropy, ServiceId
from stackd.base.time import Instant
from stackd.engine import evict, reap, restart, update
from stackd.engine.admit import admit
from stackd.engine.allocate.allocate import allocate, give_back
from stackd.engine.assign import assign
from stackd.engine.dirty import CONTENT, Dirty, Scope, key_of
from stackd.engine.draft import Draft
from stackd.engine.inputs import FullPass, Input, Reply, Wake
from stackd.engine.model import Service
from stackd.engine.objects import collect_objects
from stackd.engine.orchestrate import global_service, jobs, replicated
from stackd.engine.orchestrate.dependencies import has_begun, is_held_back
from stackd.engine.rebalance import rebalance
from stackd.engine.revisions import follow_revisions, trim_revisions
from stackd.engine.rollout import account_failures
from stackd.engine.store import Transaction
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode

_ERROR_LENGTH = 300
"""Characters of an error kept as the reason why a service is frozen."""

FAULT = "engine.fault"
"""The kind of the event that tells of a stage that failed on no service in particular."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`transaction` is None if nothing changes. One reply per input, in their order. `wakeups`: look at the service again
    then. `rest`: what the entry had no room for; hand it in next. `reasons` says why, by record key."""

    transaction: Transaction | None
    replies: tuple[Reply, ...]
    wakeups: tuple[tuple[Instant, ServiceId], ...] = ()
    rest: Wake | None = None
    reasons: dict[str, str] = field(default_factory=dict)


def step(view: View, inputs: Sequence[Input], now: Instant, entropy: Entropy) -> Decision:
    """Decide on `inputs`. Reads `view` only; `now` before the view's own time counts as that."""
    draft = Draft(view, max(view.now, now), entropy)
    dirty = Dirty()
    replies = tuple(admit(draft, dirty, one) for one in inputs)
    if dirty.room:
        dirty.mark_waiting(task.service_id for task in draft.waiting_tasks())
    if any(isinstance(one, FullPass) for one in inputs):
        _thaw(draft)
    guard = _Guard(view, draft)
    services = list(dirty.services)
    for service_id in services:  # grows: what depends on a service is looked at after it
        if draft.full:
            draft.more[service_id] = None
        else:
            guard(service_id, partial(_reconcile, draft, service_id, dirty.services[service_id]))
            services += dirty.mark_dependents(draft, service_id)
    contain = partial(_contain, view, draft)
    contain("rebalance", partial(rebalance, draft, dirty, guard))
    contain("allocate", partial(allocate, draft, dirty, guard))
    contain("assign", partial(assign, draft, dirty, guard))
    _mark_changed(draft, dirty)
    for service_id in services:
        guard(service_id, partial(_conclude, draft, dirty, service_id))
    contain("revisions", partial(follow_revisions, draft, dirty))
    if dirty.garbage or CONTENT in dirty.services:
        contain("objects", partial(collect_objects, draft))
        contain("content", partial(reap.collect_content, draft))
        contain("history", partial(trim_revisions, draft))
    contain("networks", partial(give_back, draft))
    return Decision(
        transaction=draft.transaction(),
        replies=replies,
        wakeups=tuple((at, service_id) for service_id, at in draft.wakeups.items()),
        rest=_rest_of(draft),
        reasons=draft.reasons,
    )


def _rest_of(draft: Draft) -> Wake | None:
    if not draft.more and not draft.unfilled:
        return None
    return Wake(services=tuple(draft.more), unfilled=tuple(draft.unfilled))


def _reconcile(draft: Draft, service_id: ServiceId, scope: Scope) -> None:
    """Everything about one service but placement and cleaning up."""
    service = draft.services.get(service_id)
    if service is None:
        return
    if service.removing:
        reap.remove_all(draft, service, scope)
        return
    account_failures(draft, service, scope)
    present = draft.services.get(service_id) or service
    if present != service:
        service, scope = present, None  # a failed update has turned it back
    evict.evict(draft, service, scope)
    if service.settings.depends_on and not has_begun(draft, service):
        if is_held_back(draft, service):
            return
        scope = None  # this is its beginning
    _orchestrate(draft, service, scope)
    if left := restart.restart_ended(draft, service, scope):
        _orchestrate(draft, service, None if scope is None else scope | left)
    restart.release_due(draft, service, scope)
    update.advance(draft, service, scope)


def _orchestrate(draft: Draft, service: Service, scope: Scope) -> None:
    match service.settings.mode:
        case ServiceMode.REPLICATED:
            replicated.reconcile(draft, service, scope)
        case ServiceMode.GLOBAL:
            global_service.reconcile(draft, service, scope)
        case ServiceMode.REPLICATED_JOB:
            jobs.reconcile_replicated(draft, service, scope)
        case ServiceMode.GLOBAL_JOB:
            jobs.reconcile_global(draft, service, scope)
        case other:
            assert_never(other)


def _mark_changed(draft: Draft, dirty: Dirty) -> None:
    """What this decision has changed is concluded as well."""
    for key in draft.changed_tasks():
        if (task := draft.tasks.get(key)) is not None and task.service_id in dirty.services:
            dirty.mark_slot(task.service_id, key_of(task))
    dirty.mark(service for service in draft.turned_rollouts() if service in dirty.services)  # it excused what has failed


def _conclude(draft: Draft, dirty: Dirty, service_id: ServiceId) -> None:
    service = draft.services.get(service_id)
    if service is None:
        return
    update.describe(draft, service)
    reap.reap(draft, service, dirty.services[service_id])
    dirty.garbage = dirty.garbage or service_id not in draft.services


def _contain(view: View, draft: Draft, stage: str, work: Callable[[], None]) -> None:
    """Do without a stage that fails as a whole: what the others have decided stands, and people are told, once."""
    savepoint = draft.savepoint()
    try:
        work()
    except Exception as error:  # whatever it is, it must not stop the writer
        draft.rollback(savepoint)
        why = f"{type(error).__name__}: {error}"[:_ERROR_LENGTH]
        if not any((event.kind, event.subject, event.message) == (FAULT, stage, why) for event in view.events.values()):
            draft.event(FAULT, stage, why)


def _thaw(draft: Draft) -> None:
    """Try frozen services once more: a new leader may run another version."""
    for service in [row for row in draft.services.values() if row.frozen]:
        draft.put(msgspec.structs.replace(service, frozen=""))


class _Guard:
    """Contains the failure of one service. A frozen service is left alone until it is submitted anew or thawed."""

    def __init__(self, view: View, draft: Draft) -> None:
        self._view = view
        self._draft = draft

    def __call__(self, service_id: ServiceId, work: Callable[[], None]) -> None:
        service = self._draft.services.get(service_id)
        if service is not None and service.frozen:
            return
        savepoint = self._draft.savepoint()
        try:
            work()
        except Exception as error:  # whatever it is, it must not stop the other services
            self._draft.rollback(savepoint)
            self._freeze(service_id, f"{type(error).__name__}: {error}"[:_ERROR_LENGTH])

    def _freeze(self, service_id: ServiceId, why: str) -> None:
        service = self._draft.services.get(service_id)
        if service is None:
            return
        self._draft.put(msgspec.structs.replace(service, frozen=why))
        known = self._view.services.get(service_id)
        if known is None or known.frozen != why:
            self._draft.event("service.frozen", service.name, why, stack=service.stack)
