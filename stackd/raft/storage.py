"""Opens a member's directory: log, snapshot, and what the two together amount to.

Everything is read and checked before anything is changed. What a crash interrupted is ended here.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stackd.base.errors import StackdError
from stackd.raft.consensus import Keyring, StorageFailed
from stackd.raft.disk import Disk, reason, remove_temporary
from stackd.raft.frame import FROM_BACKUP, Identity, Kind
from stackd.raft.journal import Journal
from stackd.raft.membership import Membership, check_level, decode_membership
from stackd.raft.message import LogEntry
from stackd.raft.recovery import Recovered, read_log
from stackd.raft.settings import DEFAULT_SETTINGS, Settings
from stackd.raft.snapshot import Snapshot, SnapshotReader, Snapshots
from stackd.raft.state import Position
from stackd.raft.wal import Log


@dataclass(frozen=True, slots=True)
class Storage:
    """What a member has on disk, opened."""

    journal: Journal
    snapshots: Snapshots
    content: bytes | None
    """Of the snapshot, if there is one."""


@dataclass(frozen=True, slots=True)
class History:
    """What a directory tells: a snapshot, who the members were at its place, and the entries that follow it."""

    snapshot: SnapshotReader | None
    membership: Membership
    entries: list[LogEntry]
    told: Membership
    """What this member was told when it joined, which holds until the log has come that far."""

    @property
    def position(self) -> Position:
        """Of the snapshot."""
        return self.snapshot.position if self.snapshot else Position()

    @property
    def last_membership(self) -> Membership:
        """Who the members are where the log ends."""
        bodies = [entry.data for entry in self.entries if entry.kind == Kind.MEMBERS]
        latest: Membership = decode_membership(bodies[-1]) if bodies else self.membership
        return latest if latest.is_newer_than(self.told) else self.told


def read_history(disk: Disk, keys: Keyring, identity: Identity, initial: Membership) -> History:
    """Read the directory of a member and change nothing in it. Raises as `open_storage` does."""
    try:
        recovered = read_log(disk, keys, identity)
        snapshot = Snapshots(disk, keys, identity).reader(recovered.state.snapshot.index)
        _check_together(disk.path_of(""), snapshot.position if snapshot else Position(), recovered)
        return History(snapshot, *_history(snapshot, recovered, initial), initial)
    except OSError as exc:
        raise StorageFailed(f"can't read {disk.path_of('')}: {reason(exc)}") from exc


def open_storage(
    disk: Disk, keys: Keyring, identity: Identity, initial: Membership, settings: Settings = DEFAULT_SETTINGS
) -> Storage:
    """Open the directory of a member. `initial` is the membership as long as neither log nor snapshot tells one.

    Raises StackdError with a code of recovery.py, snapshot.py or frame.py, raft.snapshot.missing, raft.log.behind_snapshot,
    raft.membership.damaged or raft.feature_level.newer, having changed nothing; StorageFailed if the directory can't be read
    or written."""
    snapshots = Snapshots(disk, keys, identity)
    try:
        recovered = read_log(disk, keys, identity)
        snapshots.adopt_installed(recovered.state.snapshot.index)
        snapshot = snapshots.latest()
        at = snapshot.position if snapshot else Position()
        _check_together(disk.path_of(""), at, recovered)
        membership, entries = _history(snapshot, recovered, initial)
        check_level(membership, settings.feature_level)
        for body in recovered.memberships.values():
            check_level(decode_membership(body), settings.feature_level)
        log = Log.resume(disk, keys, identity, recovered, segment_bytes=settings.segment_bytes)
        snapshots.remove_received()
        remove_temporary(disk)
    except OSError as exc:
        raise StorageFailed(f"can't read {disk.path_of('')}: {reason(exc)}") from exc
    return Storage(Journal(log, at, entries, membership, initial), snapshots, snapshot.content if snapshot else None)


def _check_together(where: str, at: Position, recovered: Recovered) -> None:
    """Log and snapshot must meet. The snapshot may be newer than the log knows: a crash came between the two."""
    if at.index < recovered.state.snapshot.index:
        why = f"the snapshot at entry {recovered.state.snapshot.index} is missing in {where}"
        raise StackdError("raft.snapshot.missing", why, hint=FROM_BACKUP)
    if at.index > recovered.state.last.index:
        why = f"the log in {where} ends at entry {recovered.state.last.index}, before the snapshot at {at.index}"
        raise StackdError("raft.log.behind_snapshot", why, hint=FROM_BACKUP)


def _history(
    snapshot: Snapshot | SnapshotReader | None, recovered: Recovered, initial: Membership
) -> tuple[Membership, list[LogEntry]]:
    """Who the members are at the snapshot, and the entries that follow it."""
    at = snapshot.position.index if snapshot else 0
    entries = []
    for entry in recovered.entries:
        body = recovered.memberships.get(entry.index)
        if body is None:
            entries.append(LogEntry(entry.data, entry.index, entry.term))
        else:
            entries.append(LogEntry(body, entry.index, entry.term, int(Kind.MEMBERS)))
    try:
        membership = decode_membership(snapshot.membership) if snapshot and snapshot.membership else initial
        for body in recovered.memberships.values():
            decode_membership(body)
    except msgspec.DecodeError as exc:
        why = f"what the directory says about the members can't be read: {exc}"
        raise StackdError("raft.membership.damaged", why, hint=FROM_BACKUP) from exc
    return membership, [entry for entry in entries if entry.index > at]
