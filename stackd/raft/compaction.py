"""When a member takes a snapshot of its own, and what it drops then: the log below it, and the snapshot before.

The content is written elsewhere, in any thread (`SnapshotJob.write`), between `begin` and `finish`; everything here is for
the node's thread.
"""

from __future__ import annotations

from stackd.base.records import encode
from stackd.raft.backup import Content
from stackd.raft.consensus import SnapshotView
from stackd.raft.frame import Identity
from stackd.raft.journal import Journal
from stackd.raft.settings import Settings
from stackd.raft.snapshot import SnapshotJob, Snapshots
from stackd.raft.state import Position


class Compaction:
    """The snapshots that one node takes."""

    def __init__(self, journal: Journal, snapshots: Snapshots, settings: Settings) -> None:
        self._journal = journal
        self._snapshots = snapshots
        self._settings = settings
        self._retry_at = 0

    def is_due(self, published: int) -> bool:
        """Whether enough has gathered since the last one; `published` is the last entry that was."""
        if published < self._retry_at:
            return False
        entries = published - self._journal.snapshot.index
        return entries >= self._settings.snapshot_entries or self._journal.bytes_since_snapshot >= self._settings.snapshot_bytes

    def begin(self, index: int, published: int) -> SnapshotJob | None:
        """What is to be written for a snapshot at `index`; None if there is one as new."""
        term = self._journal.term_at(index)
        if term is None or not self._journal.snapshot.index < index <= published:
            return None
        return SnapshotJob(self._snapshots, Position(index, term), encode(self._journal.membership_at(index)))

    def content(self, identity: Identity, view: SnapshotView) -> Content | None:
        """What a backup of the state `view` holds; None if its entry isn't kept: another member's snapshot has come."""
        term = self._journal.term_at(view.index)
        if term is None:
            return None
        return Content(identity, Position(view.index, term), self._journal.membership_at(view.index), view.chunks())

    def finish(self, job: SnapshotJob) -> None:
        """The job's snapshot is on the medium: what it covers may go. Raises StorageFailed or LogUnusable."""
        if job.position.index > self._journal.snapshot.index:
            # The old snapshot first: on a full disk its room may be what the log's record needs.
            self._snapshots.remove_before(job.position.index)
            self._journal.compact(job.position, self._settings.kept_entries)
        else:  # the leader has sent a newer one meanwhile
            self._snapshots.remove_before(self._journal.snapshot.index)

    def failed(self, published: int) -> None:
        """Don't ask for another one at once."""
        self._retry_at = published + self._settings.snapshot_retry_entries
