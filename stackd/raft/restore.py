"""Going on after a loss: a fresh directory from a backup, or a cluster of one from a directory whose quorum is lost.

Both end with a membership that has this member alone in it and a new epoch. Members of the old epoch may hold entries that
this history doesn't have, so they aren't heard any more; they join anew, emptied. Never do either while a majority of the
old members is still running: there would be two clusters.
"""

from __future__ import annotations

from pathlib import Path

from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.raft.backup import Backup, open_backup
from stackd.raft.consensus import Keyring, Sealer, StorageFailed
from stackd.raft.directory import create_directory, is_created, read_directory
from stackd.raft.disk import Disk, reason
from stackd.raft.frame import Identity, Kind, Record
from stackd.raft.membership import Membership, decode_membership
from stackd.raft.recovery import read_log
from stackd.raft.snapshot import Snapshots
from stackd.raft.storage import read_history
from stackd.raft.wal import Log


def restore(backup_path: Path, path: Path, keys: Keyring, sealer: Sealer, member: str, address: str = "") -> Identity:
    """Make the directory `path` of `member`, alone in the cluster that the backup at `backup_path` is of; `sealer` opens the
    backup. Returns whose directory it is.

    Raises StackdError("raft.restore.not_empty") if there is something at `path`, the errors of a backup that can't be read,
    or StorageFailed. Nothing is left at `path` then."""
    if is_created(path):
        why = f"{path} is not empty; nothing in it was changed"
        raise StackdError("raft.restore.not_empty", why, hint="restore into a new data directory, or move this one away first")
    with open_backup(backup_path, sealer) as backup:
        identity = Identity(backup.identity.cluster, member)
        create_directory(path, identity, lambda disk: _fill(disk, keys, identity, backup, address))
    return identity


def recover(path: Path, keys: Keyring, initial: Membership, address: str = "") -> Membership:
    """Make the member whose directory is `path` the only one of its cluster, with all that its log holds. Nobody else may use
    the directory meanwhile. `initial` is the membership if the directory tells none; without an `address` the member keeps
    the one it has. Returns the new membership.

    It is one write: after a crash the directory is as before, or recovered. Raises as opening the directory does."""
    directory = read_directory(path)
    return recover_disk(directory.disk, keys, directory.identity, initial, address)


def recover_disk(disk: Disk, keys: Keyring, identity: Identity, initial: Membership, address: str = "") -> Membership:
    """The same for a directory that was opened already."""
    history = read_history(disk, keys, identity, initial)
    try:
        recovered = read_log(disk, keys, identity)
        Snapshots(disk, keys, identity).adopt_installed(recovered.state.snapshot.index)
        log = Log.resume(disk, keys, identity, recovered)
        try:
            return _end_alone(log, identity.member, history.last_membership, address)
        finally:
            log.close()
    except OSError as exc:
        raise StorageFailed(f"can't recover {disk.path_of('')}: {reason(exc)}") from exc


def _fill(disk: Disk, keys: Keyring, identity: Identity, backup: Backup, address: str) -> None:
    """Log and snapshot as the backup has them, and an end of their own."""
    Log.create(disk, keys, identity)
    at, membership = backup.position, backup.membership
    chunks = backup.chunks()
    if at.index:
        Snapshots(disk, keys, identity).write(at, chunks, encode(membership))
    elif any(chunks):
        raise backup.damaged("it holds a state of nothing")
    log = Log.resume(disk, keys, identity, read_log(disk, keys, identity))
    try:
        if at.index:
            log.write([Record(Kind.SNAPSHOT, at.index, at.term)])
        for entry in backup.entries():
            log.write([entry])
            if entry.kind is Kind.MEMBERS:
                membership = decode_membership(entry.body)
        _end_alone(log, identity.member, membership, address)
    finally:
        log.close()


def _end_alone(log: Log, member: str, present: Membership, address: str) -> Membership:
    """The last entry says that this member is alone. It has a term that nobody was elected in: no entry of the old members
    can be taken for it."""
    index, term = log.state.last.index + 1, max(log.state.term, log.state.last.term) + 1
    own = address or present.addresses.get(member, "")
    alone = Membership.sole(member, own, epoch=present.epoch + 1, index=index).at_level(present.feature_level)
    vote = Record(Kind.VOTE, term=term, body=member.encode())
    log.append([vote, Record(Kind.MEMBERS, index, term, encode(alone))])
    return alone
