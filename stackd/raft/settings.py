"""The settings of a member's consensus, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from stackd.raft.frame import FEATURE_LEVEL
from stackd.raft.wal import SEGMENT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are seconds of the node's clock."""

    heartbeat_seconds: float = 0.15
    """Heartbeats are nearly all that a cluster at rest has to do: each of them wakes every manager."""
    election_min_seconds: float = 0.5
    election_max_seconds: float = 1.0
    """A leader that is cut off is replaced after about one election timeout; one whose process has died, at once. The least is
    several slow syncs long, and more than three heartbeats, as the library wants it."""
    snapshot_entries: int = 10_000
    """Entries after which a snapshot is due: a restart replays at most about twice as many, well under a second."""
    snapshot_bytes: int = 16 * 1024 * 1024
    """The same in bytes of log, for large entries."""
    snapshot_retry_entries: int = 1_000
    """Entries to wait after a snapshot that failed, or a full disk would be asked again at every entry."""
    kept_entries: int = 5_000
    """Entries kept in memory below a snapshot, so that a member that was away for a moment needs no snapshot."""
    batch_bytes: int = 4 * 1024 * 1024
    """Proposals taken up, written and synced together: bounds how long the last of them waits behind the others."""
    waiting_proposals: int = 4_096
    """Proposals without an answer; more are refused, as the disk or the network can't keep up."""
    segment_bytes: int = SEGMENT_BYTES
    feature_level: int = FEATURE_LEVEL
    """What this member can read."""


DEFAULT_SETTINGS = Settings()
