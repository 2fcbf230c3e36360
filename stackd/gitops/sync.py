"""What a source's state asks for: which stacks to deploy, which to remove, which removals to hold back. Pure.

The safety rules of pruning (docs/sources.md): nothing is removed on account of a snapshot that isn't whole, nothing when
a source suddenly holds no stack at all, and not more than half of a source's stacks (and more than one) unless somebody
approves. Volumes are never removed. The newest snapshot wins: an unfinished rollout of an older one is no reason to wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stackd.gitops.snapshot import SourceSnapshot


@dataclass(frozen=True, slots=True)
class SyncDecision:
    """`deploy` is False where there is nothing to propose. `held` are the stacks whose removal waits for an approval;
    `reason` says why, in words for a person."""

    deploy: bool
    prune: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    reason: str = ""


def decide(owned: Iterable[str], snapshot: SourceSnapshot, *, approve_prune: bool = False) -> SyncDecision:
    """What to propose when the source owns the stacks `owned` in the cluster and looks like `snapshot`."""
    if snapshot.problems:
        return SyncDecision(deploy=False)
    before = frozenset(owned)
    now = snapshot.stack_names()
    gone = tuple(sorted(before - now))
    reason = "" if approve_prune else _reason_to_hold(len(gone), len(before), len(now))
    prune, held = ((), gone) if reason else (gone, ())
    return SyncDecision(deploy=bool(now or prune), prune=prune, held=held, reason=reason)


def _reason_to_hold(gone: int, before: int, now: int) -> str:
    if gone and not now:
        return "the source suddenly holds no stack at all"
    if gone > 1 and 2 * gone > before:
        return f"the source has lost {gone} of {before} stacks at once"
    return ""
