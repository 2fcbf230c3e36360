"""Sources and the results of looking at them."""

from __future__ import annotations

import msgspec

from stackd.engine.draft import Draft
from stackd.engine.inputs import Applied, PutSource, ReportSource
from stackd.engine.status import SourceStatus


def put_source(draft: Draft, given: PutSource) -> Applied:
    before = draft.sources.get(given.source.name)
    if before == given.source:
        return Applied(changed=False)
    draft.put(given.source)
    what = "changed" if before is not None else "added"
    draft.event(f"source.{what}", given.source.name, f"follows {given.source.location}", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def report_source(draft: Draft, given: ReportSource) -> Applied:
    """Record the result of looking at a source; the same result again writes nothing."""
    before = draft.source_statuses.get(given.name)
    status = SourceStatus(
        name=given.name,
        at=before.at if before is not None else draft.now,
        revision=given.revision or (before.revision if before is not None else given.revision),
        seen=given.seen or (before.seen if before is not None else ""),
        error=given.error,
        error_code=given.error_code,
        held_prune=given.held_prune,
    )
    if status == before:
        return Applied(changed=False)
    draft.put(msgspec.structs.replace(status, at=draft.now))
    _announce(draft, before, status)
    return Applied(changed=True)


def _announce(draft: Draft, before: SourceStatus | None, status: SourceStatus) -> None:
    had_error = before.error if before is not None else ""
    if status.error and status.error != had_error:
        draft.event("source.error", status.name, status.error)
    elif had_error and not status.error:
        draft.event("source.recovered", status.name, "can be read again")
    held = before.held_prune if before is not None else ()
    if status.held_prune and status.held_prune != held:
        draft.event("source.prune_held", status.name, f"not removed without approval: {', '.join(status.held_prune)}")
