"""One decision: what follows from the state, the inputs and the time.

The pipeline: admit the inputs; then for every service they touched: count failures of its update, evict, orchestrate,
restart, start what is due, update; then place what waits for a node; then reap and follow revisions. Every stage is
level-triggered and reads what those before it wrote, so a step right after its own decision decides nothing.

A stage that fails on one service freezes that service, with the reason, and nothing else: its writes are undone and the
others go on.
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
from stackd.engine.assign import assign
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import FullPass, Input, Reply
from stackd.engine.model import Service
from stackd.engine.orchestrate import global_service, replicated
from stackd.engine.revisions import follow_revisions
from stackd.engine.rollout import account_failures
from stackd.engine.store import Transaction
from stackd.engine.view import View
from stackd.spec.stack import ServiceMode

_ERROR_LENGTH = 300
"""Characters of an error kept as the reason why a service is frozen."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`transaction` is None if nothing changes. One reply per input, in their order. `wakeups`: look at the service again
    then. `more`: services the entry had no room for; hand them in again with a `Wake`. `reasons` says why, by record key."""

    transaction: Transaction | None
    replies: tuple[Reply, ...]
    wakeups: tuple[tuple[Instant, ServiceId], ...] = ()
    more: tuple[ServiceId, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)


def step(view: View, inputs: Sequence[Input], now: Instant, entropy: Entropy) -> Decision:
    """Decide on `inputs`. Reads `view` only; `now` before the view's own time counts as that."""
    draft = Draft(view, max(view.now, now), entropy)
    dirty = Dirty()
    replies = tuple(admit(draft, dirty, one) for one in inputs)
    if dirty.room:
        dirty.mark(task.service_id for task in draft.waiting_tasks())
    if any(isinstance(one, FullPass) for one in inputs):
        _thaw(draft)
    guard = _Guard(view, draft)
    services = list(dirty.services)
    for service_id in services:
        if draft.full:
            draft.more[service_id] = None
        else:
            guard(service_id, partial(_reconcile, draft, service_id))
    assign(draft, dirty, guard)
    for service_id in services:
        guard(service_id, partial(_conclude, draft, dirty, service_id))
    follow_revisions(draft, dirty)
    if dirty.garbage:
        reap.collect_content(draft)
    return Decision(
        transaction=draft.transaction(),
        replies=replies,
        wakeups=tuple((at, service_id) for service_id, at in draft.wakeups.items()),
        more=tuple(draft.more),
        reasons=draft.reasons,
    )


def _reconcile(draft: Draft, service_id: ServiceId) -> None:
    """Everything about one service but placement and cleaning up."""
    service = draft.services.get(service_id)
    if service is None:
        return
    if service.removing:
        reap.remove_all(draft, service)
        return
    account_failures(draft, service)
    service = draft.services.get(service_id) or service  # a failed update may have turned it back
    evict.evict(draft, service)
    _orchestrate(draft, service)
    restart.restart_ended(draft, service)
    restart.release_due(draft, service)
    update.advance(draft, service)


def _orchestrate(draft: Draft, service: Service) -> None:
    match service.settings.mode:
        case ServiceMode.REPLICATED:
            replicated.reconcile(draft, service)
        case ServiceMode.GLOBAL:
            global_service.reconcile(draft, service)
        case other:
            assert_never(other)


def _conclude(draft: Draft, dirty: Dirty, service_id: ServiceId) -> None:
    service = draft.services.get(service_id)
    if service is None:
        return
    update.describe(draft, service)
    reap.reap(draft, service)
    dirty.garbage = dirty.garbage or service_id not in draft.services


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
