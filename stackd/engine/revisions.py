"""Revisions: recorded by a deployment, and followed until all their services have converged, or one has failed.

The reported result is the truth: a revision has converged when its tasks run, not when it was accepted.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stackd.base.ids import ServiceId
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.explain import FAILED, service_health
from stackd.engine.model import Revision, Service
from stackd.engine.parts import RevisionState, RolloutState
from stackd.engine.tally import underway_of
from stackd.engine.view import View

REVISIONS_KEPT = 100
"""Revisions on record; the oldest finished ones go first."""


def latest_of(view: View, source: str) -> Revision | None:
    """The newest revision of a source."""
    return max(
        (revision for revision in view.revisions.values() if revision.source == source),
        key=lambda revision: (revision.created_at, revision.id),
        default=None,
    )


def record_revision(draft: Draft, revision: Revision) -> None:
    """Store a new revision. Those it overtakes end: all unfinished ones of the same source; of what is applied by hand
    those that share a stack with it."""
    for other in draft.revisions_in(RevisionState.ROLLING):
        overtakes = revision.source or set(other.stacks) & set(revision.stacks)
        if other.source == revision.source and overtakes:
            _finish(draft, other, RevisionState.SUPERSEDED, f"superseded by {revision.label}")
    draft.put(revision)


def trim_revisions(draft: Draft) -> None:
    """Delete the oldest revisions that are over, and that no stack names, beyond REVISIONS_KEPT."""
    surplus = len(draft.revisions) - REVISIONS_KEPT
    if surplus <= 0:
        return
    named = {stack.revision for stack in draft.stacks.values()}
    over = [row for row in draft.revisions.values() if row.finished_at and row.id not in named]
    over.sort(key=lambda row: (row.created_at, row.id))
    for row in over[:surplus]:
        draft.delete(Revision, row.id)


def follow_revisions(draft: Draft, dirty: Dirty) -> None:
    """Finish the rolling revisions whose outcome is known now. Only those with a dirty service can have moved."""
    for revision in sorted(draft.revisions_in(RevisionState.ROLLING), key=lambda row: row.created_at):
        touched = [service for service in revision.services if service in dirty.services]
        if not touched and revision.services:
            continue
        outcome = _outcome(draft, revision, touched, dirty)
        if outcome is not None and outcome[0] is RevisionState.CONVERGED:
            outcome = None if _is_underway(draft, revision) else _outcome(draft, revision, revision.services, Dirty())
        if outcome is not None:
            _finish(draft, revision, *outcome)
            dirty.garbage = dirty.garbage or not _is_all_new(draft, revision)


def _is_all_new(view: View, revision: Revision) -> bool:
    """Whether its stacks have come with it: then it has taken the place of nothing, and nothing is left over from before."""
    stacks = [view.stacks.get(name) for name in revision.stacks]
    return bool(stacks) and all(stack is not None and stack.created_at >= revision.created_at for stack in stacks)


def _is_underway(draft: Draft, revision: Revision) -> bool:
    """Whether any task of the revision's services is still to run, so that nobody has to look at all of them."""
    counts = draft.ledger.underway
    changes = counts.difference(
        (key, underway_of(draft.tasks.get(key), draft.statuses.get(key))) for key in draft.changed_tasks()
    )
    left = (service for key in revision.services if (service := draft.services.get(key)) is not None and not service.removing)
    return any(counts.count(service.id) + changes[service.id] > 0 for service in left)


def _outcome(view: View, revision: Revision, services: Iterable[ServiceId], dirty: Dirty) -> tuple[RevisionState, str] | None:
    """How the revision ended as far as these services go, and of dirty ones their dirty slots; None while one of them goes on.
    A failure of one is a failure of the whole."""
    converged = True
    for service_id in services:
        service = view.services.get(service_id)
        if service is None or service.removing:
            continue
        health = service_health(view, service, dirty.services.get(service_id))
        if _was_rolled_back(view, service, revision):
            return RevisionState.ROLLED_BACK, f"{service.name}: {_rollout_message(view, service)}"
        if health.health == FAILED and not _is_rolling_back(view, service):
            return RevisionState.FAILED, f"{service.name}: {health.message}"
        converged = converged and health.converged
    return (RevisionState.CONVERGED, "all services have converged") if converged else None


def _was_rolled_back(view: View, service: Service, revision: Revision) -> bool:
    rollout = view.rollouts.get(service.id)
    return (
        rollout is not None
        and rollout.state is RolloutState.ROLLBACK_COMPLETED
        and rollout.started_at >= revision.created_at
        and service.revision == revision.id
    )


def _is_rolling_back(view: View, service: Service) -> bool:
    rollout = view.rollouts.get(service.id)
    return rollout is not None and rollout.state is RolloutState.ROLLBACK_STARTED


def _rollout_message(view: View, service: Service) -> str:
    rollout = view.rollouts.get(service.id)
    return rollout.message if rollout is not None else ""


def _finish(draft: Draft, revision: Revision, state: RevisionState, message: str) -> None:
    draft.put(msgspec.structs.replace(revision, state=state, message=message, finished_at=draft.now))
    stack = revision.stacks[0] if len(revision.stacks) == 1 else ""
    draft.event(f"revision.{state}", revision.label, message, stack=stack, principal=revision.principal)
