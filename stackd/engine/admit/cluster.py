"""Changes of the cluster's own settings."""

from __future__ import annotations

import msgspec

from stackd.engine.admit.refusal import Refusal
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import Applied, UpdateCluster

HISTORY_MAX = 100
"""The most records per slot: what a person would look through, times a thousand services."""

REBALANCE_MAX = 1_000
"""The most tasks that are moved at once."""


def update_cluster(draft: Draft, dirty: Dirty, given: UpdateCluster) -> Applied:
    """Store the settings that are given; everything is looked at again under them."""
    present = draft.cluster
    if present is None:
        raise Refusal("cluster.unknown", "the cluster has no record yet", "try again in a moment")
    changed = present
    if given.history_limit is not None:
        _check("history", given.history_limit, 1, HISTORY_MAX)
        changed = msgspec.structs.replace(changed, history_limit=given.history_limit)
    if given.rebalance_tasks is not None:
        _check("rebalance", given.rebalance_tasks, 0, REBALANCE_MAX)
        changed = msgspec.structs.replace(changed, rebalance_tasks=given.rebalance_tasks)
    if changed == present:
        return Applied(changed=False)
    draft.put(changed)
    dirty.mark_all(draft)
    draft.event("cluster.changed", "cluster", "settings changed", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise Refusal("cluster.setting", f"{name} must be between {least} and {most}, not {value}")
